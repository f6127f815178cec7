//! The priority of work in the background: low while nobody waits for it, the application's own as soon as somebody does.
//!
//! A thread can lower its priority, but not raise it again without a privilege. So the heavy part of such work is a loop of short steps, and these
//! are done by one of two threads: the one that was given the work, or while nobody waits a second one of low priority.

use std::ops::ControlFlow;
use std::sync::{Arc, OnceLock};

use crate::sync::atomic::{AtomicUsize, Ordering};

/// Whether somebody waits for some work in the background. Clones are the same.
#[derive(Clone)]
pub struct Urgency(Arc<Shared>);

struct Shared {
    waiting: AtomicUsize,
    /// Works that were given up and have not come to their end.
    given_up: AtomicUsize,
    /// Told when one is.
    hurry: OnceLock<Box<dyn Fn() + Send + Sync>>,
    /// What a thread that works for somebody does first.
    #[cfg_attr(ecsdb_simulated, expect(dead_code, reason = "no thread is started there"))]
    enter: Box<dyn Fn() + Send + Sync>,
}

/// Somebody waits, until it is dropped.
#[derive(Debug)]
pub struct Waiting(Urgency);

/// Some of the work is given up, until it is dropped.
#[derive(Debug)]
pub struct GivenUp(Urgency);

impl Urgency {
    /// Of work that nobody waits for yet. A thread that does some of it calls `enter` first.
    pub fn new(enter: impl Fn() + Send + Sync + 'static) -> Self {
        // Under a scheduler that decides which thread goes on there is no priority.
        let waiting = AtomicUsize::new(usize::from(crate::sync::IS_SIMULATED));
        Urgency::with(waiting, Box::new(enter))
    }

    /// Of work that is done while its caller waits.
    pub fn of_caller() -> Self {
        Urgency::with(AtomicUsize::new(1), Box::new(|| ()))
    }

    fn with(waiting: AtomicUsize, enter: Box<dyn Fn() + Send + Sync>) -> Self {
        Urgency(Arc::new(Shared { waiting, given_up: AtomicUsize::new(0), hurry: OnceLock::new(), enter }))
    }

    /// True while somebody waits.
    pub fn is_urgent(&self) -> bool {
        self.0.waiting.load(Ordering::Relaxed) > 0
    }

    /// Notes that somebody waits from here on.
    pub fn wait(&self) -> Waiting {
        self.0.waiting.fetch_add(1, Ordering::Relaxed);
        Waiting(self.clone())
    }

    /// True while some of the work is given up: whatever holds it back keeps it from its end, and others from their turn.
    pub fn is_given_up(&self) -> bool {
        self.0.given_up.load(Ordering::Acquire) > 0
    }

    /// Notes that some of the work is given up from here on.
    pub fn give_up(&self) -> GivenUp {
        self.0.given_up.fetch_add(1, Ordering::AcqRel);
        if let Some(hurry) = self.0.hurry.get() {
            hurry();
        }
        GivenUp(self.clone())
    }

    /// What is to be told when some of the work is given up. The first one that asks is.
    pub(crate) fn on_give_up(&self, hurry: impl Fn() + Send + Sync + 'static) {
        self.0.hurry.get_or_init(|| Box::new(hurry));
    }

    /// Does one step after the other until one gives a result, on this thread while somebody waits and on one of low priority otherwise. A panic of a
    /// step is this call's.
    pub fn run<T: Send>(&self, mut step: impl FnMut() -> ControlFlow<T> + Send) -> T {
        loop {
            if !self.is_urgent()
                && let Some(result) = self.run_low(&mut step)
            {
                return result;
            }
            if let ControlFlow::Break(result) = step() {
                return result;
            }
        }
    }

    /// Does the steps on a thread of low priority until one gives a result, or somebody waits. Where there is no thread to be had, nothing.
    #[cfg(not(ecsdb_simulated))]
    fn run_low<T: Send>(&self, step: &mut (impl FnMut() -> ControlFlow<T> + Send)) -> Option<T> {
        let low = || {
            crate::lower_thread_priority();
            (self.0.enter)();
            while !self.is_urgent() {
                if let ControlFlow::Break(result) = step() {
                    return Some(result);
                }
            }
            None
        };
        std::thread::scope(|scope| {
            let thread =
                std::thread::Builder::new().name("ecsdb-low".into()).spawn_scoped(scope, low).ok()?;
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    #[cfg(ecsdb_simulated)]
    fn run_low<T: Send>(&self, _step: &mut (impl FnMut() -> ControlFlow<T> + Send)) -> Option<T> {
        None
    }

    /// Does work that has no steps, at the priority that it has now.
    pub fn once<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let mut work = Some(work);
        self.run(|| match work.take() {
            Some(work) => ControlFlow::Break(work()),
            // The first step is the last.
            None => ControlFlow::Continue(()),
        })
    }

    /// As [`Urgency::once`], for long work that changes nothing. While it is told to, it asks now and then whether somebody waits, and gives `None` then: it
    /// is done anew for them, once, since others may come and go.
    pub fn anew<T: Send>(&self, mut work: impl FnMut(bool) -> Option<T> + Send) -> T {
        if !self.is_urgent()
            && let Some(Some(result)) = self.run_low(&mut || ControlFlow::Break(work(true)))
        {
            return result;
        }
        loop {
            if let Some(result) = work(false) {
                return result;
            }
        }
    }
}

impl std::fmt::Debug for Urgency {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Urgency({})", self.is_urgent())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for GivenUp {
    fn drop(&mut self) {
        self.0.0.given_up.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(all(test, target_os = "linux", not(ecsdb_simulated)))]
mod tests {
    use super::*;

    fn is_low() -> bool {
        crate::platform::is_low_priority()
    }

    #[test]
    fn the_steps_go_on_where_they_were_at_the_priority_of_whoever_waits() {
        let urgency = Urgency::new(|| ());
        let mut seen = Vec::new();
        let mut waiting = None;
        let result = urgency.run(|| {
            seen.push(is_low());
            match seen.len() {
                2 => waiting = Some(urgency.wait()),
                4 => waiting = None,
                6 => return ControlFlow::Break("done"),
                _ => {}
            }
            ControlFlow::Continue(())
        });
        assert_eq!((result, seen), ("done", vec![true, true, false, false, true, true]));
        assert!(urgency.once(is_low));
        let _waiting = urgency.wait();
        assert!(!urgency.once(is_low));
    }

    #[test]
    fn work_that_can_be_done_anew_gives_way_to_whoever_waits() {
        let urgency = Urgency::new(|| ());
        for stays in [true, false] {
            let (mut seen, mut waiting) = (Vec::new(), None);
            let result = urgency.anew(|asks| {
                let gives_way = || asks && urgency.is_urgent();
                seen.push((is_low(), gives_way()));
                if waiting.is_none() {
                    waiting = Some(Some(urgency.wait()));
                }
                let gives_way = gives_way();
                if !stays {
                    // Whoever waited has what they waited for.
                    waiting = Some(None);
                }
                (!gives_way).then_some("done")
            });
            assert_eq!((result, seen), ("done", vec![(true, false), (false, false)]));
        }
    }

    #[test]
    fn a_panic_of_a_step_is_the_callers() {
        let urgency = Urgency::new(|| ());
        for urgent in [false, true] {
            let _waiting = urgent.then(|| urgency.wait());
            let work = std::panic::AssertUnwindSafe(|| urgency.once(|| panic!("as meant")));
            let panicked = std::panic::catch_unwind(work);
            assert_eq!(panicked.unwrap_err().downcast_ref::<&str>(), Some(&"as meant"));
        }
    }
}
