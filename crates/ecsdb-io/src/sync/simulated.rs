//! The same names over `shuttle`, with a clock of their own.

use std::ops::{Add, Deref, DerefMut};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

pub use shuttle::future::block_on;
pub use shuttle::sync::{atomic, mpsc};
pub use shuttle::thread_local;

/// Mutual exclusion, with the interface of `parking_lot`.
#[derive(Debug, Default)]
pub struct Mutex<T: ?Sized>(shuttle::sync::Mutex<T>);

/// What [`Mutex::lock`] gives.
#[derive(Debug)]
pub struct MutexGuard<'a, T: ?Sized> {
    mutex: &'a Mutex<T>,
    /// `None` only while its owner waits in a [`Condvar`].
    held: Option<shuttle::sync::MutexGuard<'a, T>>,
}

impl<T> Mutex<T> {
    /// A mutex around `value`.
    pub const fn new(value: T) -> Self {
        Mutex(shuttle::sync::Mutex::new(value))
    }

    /// The value.
    pub fn into_inner(self) -> T {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Waits for the value.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        MutexGuard { mutex: self, held: Some(self.0.lock().unwrap_or_else(PoisonError::into_inner)) }
    }

    /// The value, unless somebody has it.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        use std::sync::TryLockError::{Poisoned, WouldBlock};
        let held = match self.0.try_lock() {
            Ok(held) => held,
            Err(Poisoned(held)) => held.into_inner(),
            Err(WouldBlock) => return None,
        };
        Some(MutexGuard { mutex: self, held: Some(held) })
    }
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.held.as_ref().expect("its owner does not wait")
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.held.as_mut().expect("its owner does not wait")
    }
}

/// Waiting for a change of what a [`Mutex`] guards.
#[derive(Debug, Default)]
pub struct Condvar(shuttle::sync::Condvar);

/// How a wait with a limit ended.
#[derive(Debug, Clone, Copy)]
pub struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    /// True when it was time that ended it.
    pub fn timed_out(self) -> bool {
        self.0
    }
}

impl Condvar {
    /// A condition.
    pub const fn new() -> Self {
        Condvar(shuttle::sync::Condvar::new())
    }

    /// Gives the value away until notified.
    pub fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        if let Some(held) = guard.held.take() {
            guard.held = Some(self.0.wait(held).unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// Gives the value away for a moment, which may be the one of `until`. Ends before that without a cause, as a condition may.
    pub fn wait_until<T>(&self, guard: &mut MutexGuard<'_, T>, until: Instant) -> WaitTimeoutResult {
        drop(guard.held.take());
        clock::pass(until);
        *guard = guard.mutex.lock();
        WaitTimeoutResult(until <= clock::now())
    }

    /// Wakes all that wait.
    pub fn notify_all(&self) {
        self.0.notify_all();
    }
}

/// A moment of the simulated monotonic clock: since an execution began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant(Duration);

impl Instant {
    /// A little after the last reading.
    pub fn now() -> Self {
        clock::advance(clock::TICK);
        clock::now()
    }

    /// Time since.
    pub fn elapsed(self) -> Duration {
        Instant::now().saturating_duration_since(self)
    }

    /// Time since `earlier`, none if that is later.
    pub fn saturating_duration_since(self, earlier: Instant) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// The moment `time` later, if there is one.
    pub fn checked_add(self, time: Duration) -> Option<Self> {
        self.0.checked_add(time).map(Instant)
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;

    fn add(self, time: Duration) -> Instant {
        Instant(self.0.saturating_add(time))
    }
}

/// The simulated clock of the execution that this operating system thread runs.
pub mod clock {
    use std::cell::Cell;
    use std::time::Duration;

    use shuttle::rand::RngCore;

    use super::Instant;

    /// How far each reading moves the clock.
    pub(super) const TICK: Duration = Duration::from_micros(1);
    /// Of so many looks at somebody who waits for a moment, one finds that it has come.
    const LOOKS: u64 = 16;

    // One for all of shuttle's threads, hence not shuttle's.
    std::thread_local!(static NOW: Cell<Duration> = const { Cell::new(Duration::ZERO) });

    /// For a new execution.
    pub fn reset() {
        NOW.set(Duration::ZERO);
    }

    /// What the clock shows.
    pub fn now() -> Instant {
        Instant(NOW.get())
    }

    /// Time since the execution began.
    pub fn since_start() -> Duration {
        NOW.get()
    }

    /// Lets time pass.
    pub fn advance(time: Duration) {
        NOW.set(NOW.get().saturating_add(time));
    }

    /// Lets others go on, and perhaps `until` come: whoever waits for a moment waits no longer than it takes to have this drawn.
    pub(super) fn pass(until: Instant) {
        shuttle::thread::yield_now();
        if shuttle::rand::thread_rng().next_u64().is_multiple_of(LOOKS) {
            NOW.set(NOW.get().max(until.0));
        }
    }
}

/// Threads, as `std::thread` has them.
pub mod thread {
    use super::atomic::{AtomicBool, Ordering};
    use super::{Arc, Duration, Instant, clock};

    pub use shuttle::thread::{Result, Scope, Thread, ThreadId, current, panicking, park, scope, yield_now};

    /// Parks for a moment, which may be as long as `time`.
    pub fn park_timeout(time: Duration) {
        clock::pass(Instant::now() + time);
    }

    /// One: how many there are must not differ from machine to machine.
    ///
    /// # Errors
    /// None.
    pub fn available_parallelism() -> std::io::Result<std::num::NonZero<usize>> {
        Ok(std::num::NonZero::<usize>::MIN)
    }

    /// How a thread is started.
    #[derive(Debug, Default)]
    pub struct Builder(shuttle::thread::Builder);

    impl Builder {
        /// A thread without a name.
        pub fn new() -> Self {
            Builder(shuttle::thread::Builder::new())
        }

        /// Names it.
        pub fn name(self, name: String) -> Self {
            Builder(self.0.name(name))
        }

        /// Starts it.
        ///
        /// # Errors
        /// None.
        pub fn spawn<T: Send + 'static>(
            self,
            f: impl FnOnce() -> T + Send + 'static,
        ) -> std::io::Result<JoinHandle<T>> {
            let finished = Arc::new(AtomicBool::new(false));
            let of_thread = finished.clone();
            let thread = self.0.spawn(move || {
                let result = f();
                of_thread.store(true, Ordering::Release);
                result
            })?;
            Ok(JoinHandle { thread, finished })
        }
    }

    /// Starts a thread.
    pub fn spawn<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        Builder::new().spawn(f).expect("shuttle starts any number of threads")
    }

    /// A thread that can be waited for.
    #[derive(Debug)]
    pub struct JoinHandle<T> {
        thread: shuttle::thread::JoinHandle<T>,
        finished: Arc<AtomicBool>,
    }

    impl<T> JoinHandle<T> {
        /// Waits for its end.
        ///
        /// # Errors
        /// What it panicked with.
        pub fn join(self) -> Result<T> {
            self.thread.join()
        }

        /// The thread.
        pub fn thread(&self) -> &Thread {
            self.thread.thread()
        }

        /// True at its end.
        pub fn is_finished(&self) -> bool {
            self.finished.load(Ordering::Acquire)
        }
    }
}
