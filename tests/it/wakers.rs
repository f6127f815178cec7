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

/// Dropping the watch waits for the thread that follows the file, also on a thread that closing waits for; and that thread may be closing (`over`, or
/// a listener that is told of changed settings).
#[test]
fn who_is_told_of_an_event_and_drops_the_watch_does_not_wait_for_who_closes() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ecsdb.toml");
    let put = |chain_max: u32| {
        let text = format!("dir = \"world\"\n[snapshot]\nchain_max = {chain_max}\n");
        std::fs::write(&file, text).unwrap();
    };
    put(1);
    let db = open(&dir.path().join("world"));
    let (of_over, calls) = (db.clone(), std::sync::atomic::AtomicU32::new(0));
    let watch = db
        .watch_config(&file, move |_| {
            if calls.fetch_add(1, std::sync::atomic::Ordering::SeqCst) > 0 {
                drop(of_over.close());
            }
        })
        .unwrap();
    let watch = Mutex::new(Some(watch));
    Listener::listen(db.events(), move |event| {
        if matches!(event, Event::SnapshotTaken(_)) {
            // Until the other thread closes.
            std::thread::sleep(Duration::from_secs(2));
            drop(watch.lock().unwrap().take());
        }
    });
    db.write(|tx| Ok(tx.spawn(Counter(1)))).unwrap();
    let job = db.snapshot().unwrap();
    std::thread::sleep(Duration::from_millis(200));
    put(2);
    std::thread::sleep(Duration::from_millis(800));
    ends("the job", move || drop(job.wait()));
    ends("closing", move || db.close().unwrap());
}

/// On the thread of the log (WAL-13).
#[test]
fn who_is_told_that_a_transaction_is_durable_may_wait_for_jobs_and_commits() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(dir.path());
    struct Once<F>(Mutex<Option<F>>);
    impl<F: FnOnce() + Send + 'static> Wake for Once<F> {
        fn wake(self: Arc<Self>) {
            let f = self.0.lock().unwrap().take();
            if let Some(f) = f {
                f();
            }
        }
    }
    let (sender, done) = channel();
    let of_waker = db.clone();
    let waker = Waker::from(Arc::new(Once(Mutex::new(Some(move || {
        of_waker.write(|tx| Ok(tx.spawn(Counter(2)))).unwrap();
        of_waker.snapshot().unwrap().wait().unwrap();
        of_waker.write_with(Durability::Batched, |tx| Ok(tx.spawn(Counter(3)))).unwrap();
        of_waker.sync().unwrap();
        of_waker.stats().unwrap();
        of_waker.view_at(Moment::Latest).unwrap().wait().unwrap();
        of_waker.rotate_log().unwrap();
        sender.send(()).unwrap();
    })))));
    let mut ticket = db.submit(|tx| Ok(tx.spawn(Counter(1)))).unwrap();
    assert!(std::pin::Pin::new(&mut ticket).poll(&mut Context::from_waker(&waker)).is_pending());
    done.recv_timeout(PATIENCE).expect("it waits for itself");
    ends("closing", move || db.close().unwrap());
}
