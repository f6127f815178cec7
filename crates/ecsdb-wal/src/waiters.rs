//! Who waits for what: blocked threads and futures, woken exactly when their LSN is durable.
//!
//! A thread that waits and finds nobody writing leads: it writes and syncs for all. When it is done it first makes
//! one of those that still wait the next leader, and only then wakes the satisfied ones, since each wake-up costs
//! microseconds during which the disk would be idle.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Waker;

use ecsdb_id::Lsn;
use ecsdb_io::sync::atomic::{AtomicU8, Ordering};
use ecsdb_io::sync::thread::{self, Thread};

const WAITING: u8 = 0;
const DONE: u8 = 1;
const LEAD: u8 = 2;

/// A parked thread.
#[derive(Debug)]
pub(crate) struct Parked {
    state: AtomicU8,
    thread: Thread,
}

/// Why a parked thread was woken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Woken {
    /// Its LSN is durable, or the log failed.
    Done,
    /// It is the leader now.
    Lead,
}

ecsdb_io::sync::thread_local! {
    static PARKED: RefCell<Option<Arc<Parked>>> = const { RefCell::new(None) };
}

impl Parked {
    /// This thread's own, reused from wait to wait.
    pub(crate) fn current() -> Arc<Parked> {
        let new = || Arc::new(Parked { state: AtomicU8::new(WAITING), thread: thread::current() });
        let own = PARKED.try_with(|parked| {
            let mut parked = parked.borrow_mut();
            let parked = parked.get_or_insert_with(new);
            parked.state.store(WAITING, Ordering::Relaxed);
            parked.clone()
        });
        // While the thread ends it may have none any more.
        own.unwrap_or_else(|_| new())
    }

    pub(crate) fn park(&self) -> Woken {
        loop {
            match self.state.load(Ordering::Acquire) {
                DONE => return Woken::Done,
                LEAD => return Woken::Lead,
                _ => thread::park(),
            }
        }
    }

    fn wake(&self, state: u8) {
        // The thread may be gone the moment it sees the state.
        let thread = self.thread.clone();
        self.state.store(state, Ordering::Release);
        thread.unpark();
    }
}

#[derive(Debug)]
enum Who {
    Thread(Arc<Parked>),
    Task { id: u64, waker: Waker },
}

/// The list, under the coordination lock.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    list: Vec<(Lsn, Who)>,
    next_id: u64,
}

/// Those to wake once the lock is released.
#[derive(Debug, Default)]
pub(crate) struct ToWake {
    leader: Option<Arc<Parked>>,
    done: Vec<Who>,
    /// Futures still wait, and no thread that could lead for them.
    pub(crate) tasks_remain: bool,
}

impl Waiters {
    pub(crate) fn add_thread(&mut self, lsn: Lsn, parked: Arc<Parked>) {
        self.list.push((lsn, Who::Thread(parked)));
    }

    /// Registers a future's waker, or replaces the one it had, which is given back.
    pub(crate) fn add_task(&mut self, lsn: Lsn, id: &mut Option<u64>, waker: Waker) -> Option<Waker> {
        if let Some(known) = *id {
            for (_, who) in &mut self.list {
                if let Who::Task { id, waker: old } = who
                    && *id == known
                {
                    return Some(std::mem::replace(old, waker));
                }
            }
        }
        let new = self.next_id;
        self.next_id += 1;
        *id = Some(new);
        self.list.push((lsn, Who::Task { id: new, waker }));
        None
    }

    /// Takes out those whose LSN is durable, and, if a thread still waits, one to lead.
    pub(crate) fn satisfied(&mut self, durable: Lsn) -> ToWake {
        let mut wake = ToWake::default();
        let mut i = 0;
        while i < self.list.len() {
            if self.list[i].0 <= durable {
                wake.done.push(self.list.swap_remove(i).1);
            } else {
                i += 1;
            }
        }
        match self.list.iter().position(|(_, who)| matches!(who, Who::Thread(_))) {
            Some(i) => {
                if let (_, Who::Thread(parked)) = self.list.swap_remove(i) {
                    wake.leader = Some(parked);
                }
            }
            None => wake.tasks_remain = !self.list.is_empty(),
        }
        wake
    }

    /// Takes out everybody: the log failed.
    pub(crate) fn all(&mut self) -> ToWake {
        ToWake { leader: None, done: self.list.drain(..).map(|(_, who)| who).collect(), tasks_remain: false }
    }
}

impl ToWake {
    /// True when a leader was named: it has the duty to write from here on.
    pub(crate) fn has_leader(&self) -> bool {
        self.leader.is_some()
    }

    pub(crate) fn wake(self) {
        if let Some(leader) = self.leader {
            leader.wake(LEAD);
        }
        for who in self.done {
            match who {
                Who::Thread(parked) => parked.wake(DONE),
                Who::Task { waker, .. } => {
                    // WAL-13: foreign code, whose panic is nobody else's.
                    if catch_unwind(AssertUnwindSafe(|| waker.wake())).is_err() {
                        tracing::error!("a waker panicked");
                    }
                }
            }
        }
    }
}
