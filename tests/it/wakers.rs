//! Wakers of those who listen to events: they run on the database's own threads, and may do anything there.

use std::future::Future;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use ecsdb::{Event, Events};
use ecsdb::prelude::*;

use crate::components::{Counter, Name};
use crate::lifecycle::by_hand;

/// Does something with each event, where it is woken.
struct Listener<F>(Mutex<Events>, F);

impl<F: Fn(&Event) + Send + Sync + 'static> Listener<F> {
    fn listen(events: Events, f: F) {
        Arc::new(Listener(Mutex::new(events), f)).wake();
    }
}



impl<F: Fn(&Event) + Send + Sync + 'static> Wake for Listener<F> {
    fn wake(self: Arc<Self>) {
        let waker = Waker::from(self.clone());
        loop {
            let next = {
                let mut events = self.0.lock().unwrap();
                let mut next = Box::pin(events.next());
                next.as_mut().poll(&mut Context::from_waker(&waker))
            };
            match next {
                Poll::Ready(Some(event)) => self.1(&event),
                _ => return,
            }
        }
    }
}

const PATIENCE: Duration = Duration::from_secs(20);

fn ends<T: Send + 'static>(what: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, done) = channel();
    std::thread::spawn(move || sender.send(work()));
    match done.recv_timeout(PATIENCE) {
        Ok(done) => done,
        Err(RecvTimeoutError::Timeout) => panic!("{what} waits for ever"),
        Err(RecvTimeoutError::Disconnected) => panic!("{what} panicked"),
    }
}

fn open(dir: &std::path::Path) -> Database {
    Database::builder(dir).config(by_hand).config(|config| config.snapshot.chain_max = 1).open().unwrap()
}

/// `remove_garbage` tells of what it removed while it holds the pins: `stats`, `verify`, `view_at` and `restore` wait for them on the same thread,
/// and closing for that.
#[test]
fn who_is_told_that_files_are_removed_may_look_at_the_statistics() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(dir.path());
    let of_waker = db.clone();
    Listener::listen(db.events(), move |_| drop(of_waker.stats()));
    let work = db.clone();
    ends("a snapshot, whose listener looks at the statistics,", move || {
        for i in 0..6 {
            work.write(|tx| Ok(tx.spawn((Counter(i), Name("z".repeat(40_000)))))).unwrap();
            work.snapshot().unwrap().wait().unwrap();
        }
    });
    ends("closing", move || db.close().unwrap());
}

/// `EventSender::close` drops the last sender outside of what catches panics.
#[test]
fn a_listener_that_panics_at_the_end_of_the_stream_does_not_make_closing_fail() {
    struct Panics;
    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("as meant");
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let db = open(dir.path());
    let mut events = db.events();
    let mut next = Box::pin(events.next());
    let waker = Waker::from(Arc::new(Panics));
    assert!(next.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    db.close().unwrap();
}

/// Closing on such a thread is `Nested`; waiting for a job there waits for itself, since the thread has the turn.
#[test]
fn who_is_told_of_an_event_and_waits_for_a_job_does_not_wait_for_itself() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(dir.path());
    let of_waker = db.clone();
    Listener::listen(db.events(), move |event| {
        if matches!(event, Event::SnapshotTaken(_)) {
            drop(of_waker.compact().map(ecsdb::Job::wait));
        }
    });
    let work = db.clone();
    let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        ends("a snapshot, whose listener waits for a compaction,", move || {
            work.write(|tx| Ok(tx.spawn(Counter(1)))).unwrap();
            work.snapshot().unwrap().wait().unwrap();
        });
    }));
    ends("closing", move || db.close().unwrap());
    done.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}
