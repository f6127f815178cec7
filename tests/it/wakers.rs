//! Wakers may do anything: those of who listens to events run on a thread that does nothing else, and nobody waits for what may be waiting for
//! him.

use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use ecsdb::prelude::*;
use ecsdb::{Around, Hooks};
use ecsdb::{Event, Events, FileOp, IoError, Job};
use pollster::block_on;

use crate::components::{Counter, Name};
use crate::lifecycle::by_hand;

const PATIENCE: Duration = Duration::from_secs(20);

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
                pin!(events.next()).poll(&mut Context::from_waker(&waker))
            };
            match next {
                Poll::Ready(Some(event)) => self.1(&event),
                _ => return,
            }
        }
    }
}

/// Does something where it is woken first.
struct Once<F>(Mutex<Option<F>>);

impl<F: FnOnce() + Send + 'static> Once<F> {
    fn waker(f: F) -> Waker {
        Arc::new(Once(Mutex::new(Some(f)))).into()
    }
}

impl<F: FnOnce() + Send + 'static> Wake for Once<F> {
    fn wake(self: Arc<Self>) {
        let f = self.0.lock().unwrap().take();
        if let Some(f) = f {
            f();
        }
    }
}

fn is_pending(future: impl Future, waker: &Waker) -> bool {
    pin!(future).poll(&mut Context::from_waker(waker)).is_pending()
}

fn ends<T: Send + 'static>(what: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, done) = channel();
    std::thread::spawn(move || sender.send(work()));
    match done.recv_timeout(PATIENCE) {
        Ok(done) => done,
        Err(RecvTimeoutError::Timeout) => panic!("{what} waits for ever"),
        Err(RecvTimeoutError::Disconnected) => panic!("{what} panicked"),
    }
}

fn builder(dir: &Path) -> ecsdb::Builder {
    Database::builder(dir).config(by_hand).config(|config| config.snapshot.chain_max = 1)
}

fn open(dir: &Path) -> Database {
    builder(dir).open().unwrap()
}

fn take_a_snapshot(db: &Database) {
    db.write(|tx| Ok(tx.spawn((Counter(1), Name("z".repeat(40_000)))))).unwrap();
    db.snapshot().unwrap().wait().unwrap();
}

/// It was told while the pins were locked, for which `stats`, `verify`, `view_at` and `restore` wait.
#[test]
fn who_is_told_that_files_are_removed_may_look_at_the_statistics() {
    for threads in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        ends("a snapshot, whose listener looks at the statistics,", move || {
            let db = if threads {
                open(dir.path())
            } else {
                builder(dir.path()).without_threads().open().unwrap()
            };
            let (of_waker, (sender, removed)) = (db.clone(), channel());
            Listener::listen(db.events(), move |event| {
                drop(of_waker.stats());
                if matches!(event, Event::Removed { .. }) {
                    let _ = sender.send(());
                }
            });
            (0..4).for_each(|_| take_a_snapshot(&db));
            removed.recv_timeout(PATIENCE).unwrap();
            db.close().unwrap();
        });
    }
}

/// The thread that told it had the turn.
#[test]
fn who_is_told_of_an_event_may_wait_for_jobs_and_close_the_database() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(dir.path());
    let (of_waker, (sender, done)) = (db.clone(), channel());
    Listener::listen(db.events(), move |event| {
        if matches!(event, Event::SnapshotTaken(_)) {
            let compacted = of_waker.compact().and_then(Job::wait).map(drop);
            let closed = of_waker.close();
            let _ = sender.send(compacted.and(closed));
        }
    });
    let work = db.clone();
    ends("a snapshot, whose listener waits for a compaction,", move || take_a_snapshot(&work));
    done.recv_timeout(PATIENCE).expect("the listener waits for itself").unwrap();
    assert_eq!(db.write(|_| Ok(())).unwrap_err().kind(), ErrorKind::Closed);
    drop(db);
    ends("opening again", move || open(dir.path()).close().unwrap());
}

/// Closing does not wait for a listener, which may be waiting for whoever closes.
#[test]
fn who_is_told_of_an_event_may_wait_for_who_closes() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(dir.path());
    let (sender, told) = channel();
    let (closed, until_closed) = channel();
    let (is_told, until_closed) = (Mutex::new(sender), Mutex::new(until_closed));
    Listener::listen(db.events(), move |event| {
        if matches!(event, Event::SnapshotTaken(_)) {
            let came = until_closed.lock().unwrap().recv_timeout(PATIENCE).is_ok();
            let _ = is_told.lock().unwrap().send(came);
        }
    });
    take_a_snapshot(&db);
    ends("closing", move || db.close().unwrap());
    closed.send(()).unwrap();
    assert!(told.recv_timeout(PATIENCE).unwrap());
}

/// Whoever closed was told that a thread of the database had panicked.
#[test]
fn a_listener_that_panics_harms_nobody() {
    for threads in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let db =
            if threads { open(dir.path()) } else { builder(dir.path()).without_threads().open().unwrap() };
        let (mut panics, mut other) = (db.events(), db.events());
        let (sender, woken) = channel();
        assert!(is_pending(panics.next(), &Once::waker(|| panic!("as meant"))));
        assert!(!threads || is_pending(other.next(), &Once::waker(move || sender.send(()).unwrap())));
        db.close().unwrap();
        assert!(!threads || woken.recv_timeout(PATIENCE).is_ok(), "another listener is not woken");
    }
}

/// Where a watch is dropped.
#[derive(Clone, Copy, PartialEq, Eq)]
enum On {
    Events,
    Job,
    Helper,
}

fn put(file: &Path, chain_max: u32) {
    std::fs::write(file, format!("dir = \"world\"\n[snapshot]\nchain_max = {chain_max}\n")).unwrap();
}

/// Dropping the watch waits for the thread that follows the file, which may be closing the database (`over` does so here), and closing waits for
/// the thread of a job, and for what the thread of asynchronous calls does before.
#[test]
fn who_is_woken_and_drops_the_watch_does_not_wait_for_who_closes() {
    for on in [On::Events, On::Job, On::Helper] {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ecsdb.toml");
        put(&file, 2);
        let db = open(&dir.path().join("world"));
        let (closes, until_closing) = channel();
        let (of_over, is_first) = (db.clone(), AtomicBool::new(true));
        let over = move |_: &mut PersistenceConfig| {
            if !is_first.swap(false, Ordering::Relaxed) {
                let _ = closes.send(());
                let closed = if on == On::Helper { block_on(of_over.close_async()) } else { of_over.close() };
                closed.unwrap();
            }
        };
        let watch = db.watch_config(&file, over).unwrap();
        let (sender, dropped) = channel();
        let waker = Once::waker(move || {
            put(&file, 3);
            let closes = until_closing.recv_timeout(PATIENCE);
            std::thread::sleep(Duration::from_millis(50));
            drop(watch);
            let _ = sender.send(closes);
        });
        let (mut events, mut job) = (db.events(), None);
        let write = || db.write(|tx| Ok(tx.spawn(Counter(1)))).unwrap();
        write();
        let mut write_async = Box::pin(db.write_async(|tx| Ok(tx.spawn(Counter(2)))));
        match on {
            On::Events => {
                assert!(is_pending(events.next(), &waker));
                drop(db.snapshot().unwrap());
            }
            On::Job => {
                job = Some(db.snapshot().unwrap());
                while !is_pending(job.as_mut().unwrap(), &waker) {
                    write();
                    job = Some(db.snapshot().unwrap());
                }
            }
            On::Helper => assert!(is_pending(write_async.as_mut(), &waker)),
        }
        let closes = dropped.recv_timeout(PATIENCE).expect("dropping the watch waits for ever");
        closes.expect("the file is not followed");
        drop((job, write_async));
        ends("closing", move || db.close().unwrap());
    }
}

/// On the thread of the log (WAL-13).
#[test]
fn who_is_told_that_a_transaction_is_durable_may_wait_for_jobs_and_commits() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(dir.path());
    let (of_waker, (sender, done)) = (db.clone(), channel());
    let waker = Once::waker(move || {
        take_a_snapshot(&of_waker);
        of_waker.write_with(Durability::Batched, |tx| Ok(tx.spawn(Counter(3)))).unwrap();
        of_waker.sync().unwrap();
        of_waker.stats().unwrap();
        of_waker.view_at(Moment::Latest).unwrap().wait().unwrap();
        of_waker.rotate_log().unwrap();
        sender.send(()).unwrap();
    });
    let mut ticket = db.submit(|tx| Ok(tx.spawn(Counter(1)))).unwrap();
    assert!(is_pending(&mut ticket, &waker));
    done.recv_timeout(PATIENCE).expect("it waits for itself");
    ends("closing", move || db.close().unwrap());
}

/// Lets the next sync of the log wait for leave.
#[derive(Default)]
struct Holds(Mutex<Option<(Sender<()>, Receiver<()>)>>);

impl Hooks for Holds {
    fn before(&self, op: FileOp, path: &Path) -> Result<(), IoError> {
        if op == FileOp::Sync
            && path.to_string_lossy().contains("0000000000000001.seg")
            && let Some((began, leave)) = self.0.lock().unwrap().take()
        {
            began.send(()).unwrap();
            let _ = leave.recv_timeout(PATIENCE);
        }
        Ok(())
    }
}

/// A snapshot waited for the log when it had its turn already: of those who wait one syncs for all, and wakes them.
#[test]
fn who_is_woken_by_a_snapshot_that_waited_for_the_log_may_wait_for_the_next_one() {
    let dir = tempfile::tempdir().unwrap();
    let around = Arc::new(Around::new(Arc::new(ecsdb_io::Disk), Holds::default()));
    let db = builder(dir.path()).vfs(around.clone()).open().unwrap();
    let ((began, has_begun), (leave, left)) = (channel(), channel());
    *around.hooks.0.lock().unwrap() = Some((began, left));
    let mut first = db.submit(|tx| Ok(tx.spawn(Counter(1)))).unwrap();
    assert!(is_pending(&mut first, Waker::noop()));
    has_begun.recv_timeout(PATIENCE).unwrap();
    // From here on what is committed waits for the next sync.
    let (of_waker, (sender, done)) = (db.clone(), channel());
    let waker = Once::waker(move || {
        let name = std::thread::current().name().map(String::from);
        sender.send((of_waker.compact().and_then(Job::wait).is_ok(), name)).unwrap();
    });
    let mut second = db.submit(|tx| Ok(tx.spawn(Counter(2)))).unwrap();
    assert!(is_pending(&mut second, &waker));
    let job = db.snapshot().unwrap();
    std::thread::sleep(Duration::from_millis(100));
    leave.send(()).unwrap();
    let (is_compacted, on) = done.recv_timeout(PATIENCE).expect("it waits for itself");
    assert!(is_compacted);
    assert_eq!(on.as_deref(), Some("ecsdb-snapshot"), "it was somebody else who synced");
    ends("the snapshot", move || drop(job.wait()));
    db.close().unwrap();
}
