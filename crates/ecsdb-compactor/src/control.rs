//! Pausing, cancelling and following work in the background.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use ecsdb_io::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use ecsdb_io::sync::{Condvar, Instant, Mutex};
use ecsdb_io::{GivenUp, Urgency, Waiting};
use ecsdb_snapshot::Stopped;

use crate::error::{Error, Result};
use crate::event::{Event, EventSender};
use crate::info::{Progress, Task};
use crate::turn::{Turn, Turns};

/// Time between two progress events.
const REPORT_EVERY: Duration = Duration::from_millis(500);

/// The control handle of one piece of work; clones are the same handle.
#[derive(Debug, Clone)]
pub struct Control(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    task: Task,
    events: EventSender,
    cancelled: AtomicBool,
    done: AtomicU64,
    total: AtomicU64,
    bytes: AtomicU64,
    urgency: Urgency,
    turns: Arc<Turns>,
    begun: AtomicBool,
    claims: Mutex<Claims>,
    clock: Mutex<Clock>,
    resumed: Condvar,
}

/// What this work says of the urgency of its database's work, until it ends.
#[derive(Debug)]
enum Claims {
    Open {
        /// Somebody waits for it.
        waiting: Option<Waiting>,
        /// It has its turn, and was cancelled.
        given_up: Option<GivenUp>,
    },
    Ended,
}

#[derive(Debug)]
struct Clock {
    started: Instant,
    /// When the last pause began, while it lasts.
    paused: Option<Instant>,
    /// Time spent paused before.
    rested: Duration,
    reported: Instant,
}

impl Control {
    /// A control handle for work that its caller waits for. For work in the background there is [`Store::control`](crate::Store::control).
    pub fn new(task: Task, events: EventSender) -> Self {
        Control::with(task, events, Urgency::of_caller(), Arc::default())
    }

    /// A control handle for new work, whose urgency is that of all work of the same database: what somebody waits for may itself wait for
    /// something that nobody asked for. So are its turns.
    pub(crate) fn with(task: Task, events: EventSender, urgency: Urgency, turns: Arc<Turns>) -> Self {
        let now = Instant::now();
        Control(Arc::new(Shared {
            task,
            events,
            cancelled: AtomicBool::new(false),
            done: AtomicU64::new(0),
            total: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            urgency,
            turns,
            begun: AtomicBool::new(false),
            claims: Mutex::new(Claims::Open { waiting: None, given_up: None }),
            clock: Mutex::new(Clock { started: now, paused: None, rested: Duration::ZERO, reported: now }),
            resumed: Condvar::new(),
        }))
    }

    /// Asks the work to stop at its next step, or where it waits for its turn; nothing of it remains then. Until it ends there is no limit on the
    /// rate of its database's work: what it has queued is worth nothing, and others wait for their turn.
    pub fn cancel(&self) {
        self.0.cancelled.store(true, Ordering::Release);
        self.hurry();
        self.resume();
        self.0.turns.look();
    }

    /// CKP-9: no rate limit keeps what is cancelled from its next step. Before its turn it may be another's work that is held back.
    fn hurry(&self) {
        if let Claims::Open { given_up, .. } = &mut *self.0.claims.lock()
            && self.0.begun.load(Ordering::Acquire)
            && self.0.cancelled.load(Ordering::Acquire)
        {
            given_up.get_or_insert_with(|| self.0.urgency.give_up());
        }
    }

    /// Holds the work at its next step, until [`Control::resume`] or [`Control::cancel`]. Memory that it holds (the old
    /// values of what was changed since a snapshot began, say) stays held.
    pub fn pause(&self) {
        if !self.0.cancelled.load(Ordering::Acquire) {
            self.0.clock.lock().paused.get_or_insert_with(Instant::now);
        }
    }

    /// Lets the work go on.
    pub fn resume(&self) {
        let mut clock = self.0.clock.lock();
        if let Some(paused) = clock.paused.take() {
            clock.rested += paused.elapsed();
        }
        drop(clock);
        self.0.resumed.notify_all();
    }

    /// Notes that somebody waits for the work, until it ends. Whoever begins to wait lets it go on after a pause.
    pub fn wait(&self) {
        let mut claims = self.0.claims.lock();
        let Claims::Open { waiting: waiting @ None, .. } = &mut *claims else { return };
        *waiting = Some(self.0.urgency.wait());
        drop(claims);
        self.resume();
    }

    /// The turn of this work among all of the same database. CKP-9: what is cancelled waits for it no longer, whatever holds back who has it.
    pub(crate) fn turn<'a>(&self, turns: &'a Turns) -> Result<Turn<'a>> {
        turns.take(|| !self.0.cancelled.load(Ordering::Acquire)).ok_or(Error::Cancelled)
    }

    /// Whether somebody waits.
    pub fn urgency(&self) -> &Urgency {
        &self.0.urgency
    }

    /// Does the work. A panic in it is a failure like any other (CKP-7).
    ///
    /// # Errors
    /// Those of the work, or [`Error::Panicked`].
    pub fn run<T, E: From<Error>>(&self, work: impl FnOnce(&Control) -> Result<T, E>) -> Result<T, E> {
        let done = catch_unwind(AssertUnwindSafe(|| work(self)));
        *self.0.claims.lock() = Claims::Ended;
        if self.0.begun.swap(false, Ordering::AcqRel) {
            self.0.events.send(Event::Ended(self.0.task));
        }
        done.unwrap_or_else(|panic| Err(Error::of_panic(&*panic).into()))
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        let (done, total) = (self.0.done.load(Ordering::Relaxed), self.0.total.load(Ordering::Relaxed));
        let clock = self.0.clock.lock();
        let resting = clock.paused.map_or(Duration::ZERO, |paused| paused.elapsed());
        let worked = clock.started.elapsed().saturating_sub(clock.rested + resting);
        let remaining =
            (done > 0 && total >= done).then(|| worked.mul_f64((total - done) as f64 / done as f64));
        Progress { done, total, bytes: self.0.bytes.load(Ordering::Relaxed), remaining }
    }

    /// Tells that the work has its turn; that it is over is told by [`Control::run`].
    pub fn begin(&self) {
        if !self.0.begun.swap(true, Ordering::AcqRel) {
            self.0.events.send(Event::Started(self.0.task));
            self.hurry();
        }
    }

    /// Whether it was cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.0.cancelled.load(Ordering::Acquire)
    }

    /// What kind of work it is.
    pub fn task(&self) -> Task {
        self.0.task
    }

    /// A step of the work: notes how far it is, waits while it is paused, and says whether to go on.
    pub fn step(&self, done: u64, total: u64, bytes: u64) -> ControlFlow<Stopped> {
        self.0.done.store(done, Ordering::Relaxed);
        self.0.total.store(total, Ordering::Relaxed);
        self.0.bytes.store(bytes, Ordering::Relaxed);
        let mut clock = self.0.clock.lock();
        while clock.paused.is_some() && !self.0.cancelled.load(Ordering::Acquire) {
            self.0.resumed.wait(&mut clock);
        }
        let report = clock.reported.elapsed() >= REPORT_EVERY;
        if report {
            clock.reported = Instant::now();
        }
        drop(clock);
        if report {
            self.0.events.send(Event::Progress(self.0.task, self.progress()));
        }
        if self.0.cancelled.load(Ordering::Acquire) {
            ControlFlow::Break(Stopped)
        } else {
            ControlFlow::Continue(())
        }
    }

    /// The steps of a snapshot file being written.
    pub(crate) fn follow(&self) -> impl FnMut(ecsdb_snapshot::Progress) -> ControlFlow<Stopped> + Send {
        |progress| self.step(progress.blocks_done, progress.blocks, progress.bytes_written)
    }

    /// As a step, between two parts of the work.
    ///
    /// # Errors
    /// [`Error::Cancelled`].
    pub fn check(&self) -> Result<()> {
        let Progress { done, total, bytes, .. } = self.progress();
        match self.step(done, total, bytes) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(Stopped) => Err(Error::Cancelled),
        }
    }
}
