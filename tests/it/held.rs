//! Who holds the world: code of components, of wakers and of threads that end meets the database in the middle of its own work; and a world that could
//! not be put back is shown to nobody, nor written anywhere (CKP-1).

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use ecsdb::prelude::*;
use ecsdb::{ByteSize, Lsn, Moment, PersistenceConfig};

use crate::components::{Counter, Name};
use crate::lifecycle::by_hand;

const PATIENCE: Duration = Duration::from_secs(60);

/// Does `work` on a thread of its own, which must come to an end.
fn ends<T: Send + 'static>(what: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, done) = channel();
    std::thread::spawn(move || sender.send(work()));
    done.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("{what} waits for ever"))
}

/// Another thread holds the world, in a transaction that ends once it is released.
pub(crate) fn hold<'scope>(scope: &'scope std::thread::Scope<'scope, '_>, db: &Database) -> Sender<()> {
    let (locked, is_locked) = channel();
    let (release, released) = channel();
    let holder = db.clone();
    scope.spawn(move || {
        let wait = |_: &mut Transaction<'_>| {
            locked.send(()).unwrap();
            Ok(released.recv()?)
        };
        holder.write(wait).unwrap();
    });
    is_locked.recv().unwrap();
    release
}

/// Its clone panics while somebody says so.
#[derive(Component, Debug, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
#[component(name = "held.touchy", archived)]
struct Touchy(String);

thread_local! {
    static PANICS: AtomicBool = const { AtomicBool::new(false) };
}

impl Clone for Touchy {
    fn clone(&self) -> Self {
        PANICS.with(|panics| assert!(!panics.load(Ordering::Relaxed), "as meant"));
        Touchy(self.0.clone())
    }
}

/// A database whose world has half of a transaction in it, since the clone that would have put the value back panicked.
fn poisoned(path: &std::path::Path, interval: Duration) -> (Database, Entity, Lsn) {
    let db = Database::builder(path)
        .config(by_hand)
        .config(|config| config.snapshot.interval = interval)
        .open()
        .unwrap();
    let id = db.write(|tx| Ok(tx.spawn(Touchy("first".into())))).unwrap();
    let first = db.lsn();
    db.write(|tx| Ok(tx.get_mut::<Touchy>(id)?.0 = "committed".into())).unwrap();
    let mut picture = None;
    let aborted = catch_unwind(AssertUnwindSafe(|| {
        db.write(|tx| -> Result<(), Abort> {
            tx.get_mut::<Touchy>(id)?.0 = "half".into();
            picture = Some(tx.view());
            tx.query::<&mut Touchy>().for_each(|touchy| touchy.0 = "first".into());
            PANICS.with(|panics| panics.store(true, Ordering::Relaxed));
            Err(std::io::Error::other("no").into())
        })
    }));
    PANICS.with(|panics| panics.store(false, Ordering::Relaxed));
    assert!(!matches!(aborted, Ok(Ok(()))));
    drop(picture);
    (db, id, first)
}

#[test]
fn a_world_that_could_not_be_put_back_is_written_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("world");
    let (db, id, first) = poisoned(&path, Duration::ZERO);
    let kinds = [
        db.view().map(drop),
        db.write(|tx| Ok(tx.spawn(Counter(1)))).map(drop),
        db.snapshot().and_then(ecsdb::Job::wait).map(drop),
        db.compact().and_then(ecsdb::Job::wait).map(drop),
        db.backup_to(dir.path().join("backup")).and_then(ecsdb::Job::wait).map(drop),
        db.restore(Moment::Lsn(first)).and_then(ecsdb::Job::wait).map(drop),
    ];
    for (i, result) in kinds.into_iter().enumerate() {
        assert_eq!(result.map_err(|e| e.kind()), Err(ErrorKind::Reopen), "{i}");
    }
    // What was committed is what an earlier moment is made of, and is not touched.
    let past = db.view_at(Moment::Lsn(first)).unwrap().wait().unwrap();
    assert_eq!(past.get::<Touchy>(id).unwrap().0, "first");
    db.close().unwrap();
    let db = Database::open(&path).unwrap();
    assert_eq!(db.view().unwrap().get::<Touchy>(id).unwrap().0, "committed");
}

#[test]
fn no_snapshot_is_taken_of_it_by_itself_either() {
    let dir = tempfile::tempdir().unwrap();
    let (db, id, _) = poisoned(dir.path(), Duration::from_millis(20));
    let mut events = db.events();
    while !matches!(events.blocking_next(), Some(ecsdb::Event::Failed { .. })) {}
    db.close().unwrap();
    let db = Database::open(dir.path()).unwrap();
    assert_eq!(db.view().unwrap().get::<Touchy>(id).unwrap().0, "committed");
}

static ASKED: AtomicU64 = AtomicU64::new(0);
static DATABASE: Mutex<Option<Database>> = Mutex::new(None);

/// Looks at the database when it is cloned and when it is dropped.
#[derive(Component, Debug, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
#[component(name = "held.nosy", archived)]
struct Nosy(String);

fn ask() {
    let db = DATABASE.lock().unwrap().clone();
    if let Some(db) = db {
        ASKED.fetch_add(1, Ordering::SeqCst);
        drop(db.view());
    }
}

impl Clone for Nosy {
    fn clone(&self) -> Self {
        ask();
        Nosy(self.0.clone())
    }
}

impl Drop for Nosy {
    fn drop(&mut self) {
        ask();
    }
}

#[test]
fn a_component_that_looks_at_the_database_does_not_hold_up_work_in_the_background() {
    let dir = tempfile::tempdir().unwrap();
    let db = Database::builder(dir.path()).config(by_hand).open().unwrap();
    let ids =
        db.write(|tx| Ok((0..20_000).map(|i| tx.spawn(Nosy(i.to_string()))).collect::<Vec<_>>())).unwrap();
    let all = db.lsn();
    let thin_out = || {
        let most = |tx: &mut Transaction<'_>| {
            ids.iter().filter(|id| id.index() % 10 != 0).try_for_each(|&id| tx.despawn(id))
        };
        db.write(|tx| Ok(most(tx)?)).unwrap();
        db.view().unwrap()
    };
    let shared = thin_out();
    *DATABASE.lock().unwrap() = Some(db.clone());
    let restore = db.restore(Moment::Lsn(all)).unwrap();
    ends("a restore", move || restore.wait()).unwrap();
    assert_eq!((shared.len(), db.view().unwrap().len()), (2_000, 20_000));
    let shared = thin_out();
    let compaction = db.compact().unwrap();
    ends("a compaction", move || compaction.wait()).unwrap();
    *DATABASE.lock().unwrap() = None;
    assert!(ASKED.load(Ordering::SeqCst) > 0);
    assert_eq!((shared.len(), db.view().unwrap().len()), (2_000, 2_000));
}

#[test]
fn waiting_for_work_within_a_transaction_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let db = Database::builder(dir.path()).config(by_hand).open().unwrap();
    db.write(|tx| Ok(tx.spawn(Counter(1)))).unwrap();
    let refused = ends("a job", move || {
        let job = db.compact().unwrap();
        job.pause();
        db.write(move |_| Ok(job.wait()?))
    });
    let error = refused.unwrap_err();
    assert!(error.to_string().contains("within a transaction"), "{error}");
}

/// Two transactions, of which the first fills the queue.
struct Writes(Mutex<Option<(Database, Sender<()>)>>);

impl Wake for Writes {
    fn wake(self: Arc<Self>) {
        let Some((db, told)) = self.0.lock().unwrap().take() else { return };
        for bytes in [100_000, 10] {
            db.write_with(Durability::Batched, |tx| Ok(tx.spawn(Name("x".repeat(bytes))))).unwrap();
        }
        told.send(()).unwrap();
    }
}

#[test]
fn a_waker_may_write_more_than_the_queue_takes() {
    let dir = tempfile::tempdir().unwrap();
    let small = |config: &mut PersistenceConfig| config.wal.queue_bytes_max = ByteSize(64 << 10);
    let db = Database::builder(dir.path()).config(by_hand).config(small).open().unwrap();
    let (told, hears): (_, Receiver<()>) = channel();
    let waker = Waker::from(Arc::new(Writes(Mutex::new(Some((db.clone(), told))))));
    let mut ticket = Box::pin(db.submit(|tx| Ok(tx.spawn(Counter(1)))).unwrap());
    if ticket.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
        hears.recv_timeout(PATIENCE).unwrap();
    }
    let other = db.clone();
    ends("another writer", move || other.write(|tx| Ok(tx.spawn(Counter(1))))).unwrap();
    ends("closing", move || db.close()).unwrap();
}

/// Writes when its thread ends, as a buffer per thread does.
struct AtExit(Option<Database>);

impl Drop for AtExit {
    fn drop(&mut self) {
        if let Some(db) = self.0.take() {
            db.write(|tx| Ok(tx.spawn(Name("x".repeat(200_000))))).unwrap();
        }
    }
}

thread_local! {
    static AT_EXIT: std::cell::RefCell<AtExit> = const { std::cell::RefCell::new(AtExit(None)) };
}

#[test]
fn a_thread_may_write_while_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let db = Database::builder(dir.path()).config(by_hand).open().unwrap();
    for has_written_before in [true, false] {
        let of_thread = db.clone();
        let thread = std::thread::spawn(move || {
            if has_written_before {
                of_thread.write(|tx| Ok(tx.spawn(Counter(1)))).unwrap();
            }
            AT_EXIT.with_borrow_mut(|at_exit| at_exit.0 = Some(of_thread.clone()));
            of_thread.write(|tx| Ok(tx.spawn(Counter(1)))).unwrap();
        });
        thread.join().unwrap();
    }
    assert_eq!(db.view().unwrap().len(), 5);
}
