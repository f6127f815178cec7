//! Nothing waits for ever: for a thread that is gone, for a handle that nobody has any more, for a time that does not come.

use std::future::{Future, poll_fn};
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use ecsdb::LockKind;
use ecsdb::prelude::*;
use ecsdb::{Around, Hooks};
use ecsdb::{ByteSize, Error, Event, Moment, PersistenceConfig, Task, Vfs};
use ecsdb_core::describe::{Describe, Shape, TooDeep, Types, Visitor};
use ecsdb_io::{FileOp, IoError, Priority};
use ecsdb_sim::{Failure, Fault, SimDisk};
use ecsdb_tests::reconfigure;

use crate::components::{Counter, Name};
use crate::held::hold;
use crate::lifecycle::{archiving, by_hand, large};
use ecsdb_tests::crashed::DIR;

const PATIENCE: Duration = Duration::from_secs(60);

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < PATIENCE, "{what} never happened");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Runs it on a thread of its own, which has to come to its end.
fn ends<T: Send + 'static>(what: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, done) = channel();
    std::thread::spawn(move || sender.send(work()));
    done.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("{what} waits for ever"))
}

fn disk() -> SimDisk {
    let disk = SimDisk::new(1);
    disk.put_dir("/data").unwrap();
    disk
}

fn on(disk: &SimDisk, change: impl FnOnce(&mut PersistenceConfig)) -> Result<Database, Error> {
    Database::builder(Path::new(DIR)).vfs(disk.vfs()).config(by_hand).config(change).open()
}

/// A value whose own code panics when it is written, while this is set.
static ARMED: AtomicBool = AtomicBool::new(false);

#[derive(Clone, rkyv::Archive, rkyv::Deserialize)]
struct Bomb(u8);

impl<S: rkyv::rancor::Fallible + ?Sized> rkyv::Serialize<S> for Bomb {
    fn serialize(&self, _: &mut S) -> Result<Self::Resolver, S::Error> {
        assert!(!ARMED.load(Ordering::SeqCst), "the value goes off");
        Ok(BombResolver(()))
    }
}

impl Describe for Bomb {
    fn shape(types: &mut Types) -> Shape {
        Shape::Struct(vec![types.opaque_field::<u8>("it", 0, ("it", 1), (1, 1))])
    }

    fn layout(_: ecsdb_core::__private::Stored) -> (usize, usize) {
        (1, 1)
    }

    fn visit(&self, _: &mut Visitor) -> Result<(), TooDeep> {
        Ok(())
    }
}

#[derive(Component, Clone, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
#[component(name = "test.carrier", archived)]
struct Carrier(Bomb);

/// CKP-7: the thread ended with the panic, and no snapshot was ever taken again.
#[test]
fn a_value_that_panics_in_a_snapshot_fails_it_and_is_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let db = Database::builder(dir.path()).config(by_hand).open().unwrap();
    db.pause_background();
    reconfigure(&db, |config| config.snapshot.after_transactions = 1).unwrap();
    db.write(|tx| Ok(tx.spawn(Carrier(Bomb(1))))).unwrap();
    ARMED.store(true, Ordering::SeqCst);
    let asked = db.snapshot().unwrap().wait().unwrap_err();
    assert_eq!(asked.kind(), ErrorKind::Bug);
    assert!(asked.to_string().contains("the value goes off"), "{asked}");
    db.resume_background();
    let store = || db.stats().unwrap().store.unwrap();
    until("a failure of the thread's own", || store().failures.iter().any(|failure| failure.times > 1));
    assert_eq!(store().failures[0].task, Task::Snapshot);
    assert!(store().failures[0].error.contains("the value goes off"));
    ARMED.store(false, Ordering::SeqCst);
    until("the snapshot", || store().snapshot_lsn == db.lsn());
    let left: Vec<String> = std::fs::read_dir(dir.path().join("snapshots"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains(".snap"))
        .collect();
    assert_eq!(left.len(), 1, "{left:?}");
    db.close().unwrap();
}

#[test]
fn a_paused_job_that_is_dropped_or_waited_for_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let db = Database::builder(dir.path()).config(by_hand).open().unwrap();
    for i in 0..10 {
        db.write(|tx| Ok(tx.spawn(Counter(i)))).unwrap();
        let job = db.snapshot().unwrap();
        job.pause();
        drop(job);
        let job = db.snapshot().unwrap();
        job.pause();
        let info = ends("the next job", move || job.wait().unwrap());
        assert_eq!(info.lsn, db.lsn());
        let job = db.snapshot().unwrap();
        job.pause();
        ends("the last job", move || pollster::block_on(job).unwrap());
    }
}

/// CKP-9: it waited for the end of the one before, which may be held for as long as anybody likes.
#[test]
fn a_job_that_is_cancelled_waits_for_no_turn() {
    let dir = tempfile::tempdir().unwrap();
    let db = Database::builder(dir.path()).config(by_hand).open().unwrap();
    db.write(|tx| Ok(tx.spawn(Counter(1)))).unwrap();
    let held = loop {
        let job = db.snapshot().unwrap();
        job.pause();
        std::thread::sleep(Duration::from_millis(50));
        if !job.is_finished() {
            break job;
        }
        // It was faster.
        db.write(|tx| Ok(tx.spawn(Counter(2)))).unwrap();
    };
    let mut rng = fastrand::Rng::with_seed(1);
    for _ in 0..20 {
        let job = db.compact().unwrap();
        std::thread::sleep(Duration::from_micros(rng.u64(0..2_000)));
        job.cancel();
        assert!(ends("a cancelled job", move || job.wait()).unwrap_err().is_cancelled());
    }
    assert!(!held.is_finished());
    held.wait().unwrap();
    db.compact().unwrap().wait().unwrap();
    db.close().unwrap();
}

/// A limit that was set while the database was closed held back what closing itself writes.
#[test]
fn closing_goes_by_no_limit_that_is_set_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..40 {
        let db = Database::builder(dir.path()).config(by_hand).open().unwrap();
        let limit = |db: Database| {
            std::thread::spawn(move || {
                for rate in [1, 0].into_iter().cycle() {
                    let limited =
                        reconfigure(&db, |config| config.snapshot.bytes_per_second_max = ByteSize(rate));
                    if let Err(e) = limited {
                        return assert!(matches!(e, Error::Closed), "{e}");
                    }
                }
            })
        };
        let limits = [limit(db.clone()), limit(db.clone())];
        db.write(|tx| Ok(tx.spawn(Counter(round)))).unwrap();
        ends("closing", move || db.close().unwrap());
        limits.into_iter().for_each(|limit| limit.join().unwrap());
    }
}

/// Each left the thread that prepares segments behind, and with it those of the scheduler.
#[test]
fn an_opening_that_fails_leaves_no_thread() {
    let disk = disk();
    let vfs: Arc<dyn Vfs> = disk.vfs();
    let open = || Database::builder(Path::new(DIR)).vfs(vfs.clone()).config(by_hand).open();
    open().unwrap().close().unwrap();
    for ending in [".seg", ".manifest"] {
        disk.inject(Fault::on(FileOp::Rename).of_names_ending(ending).failing(Failure::Io));
        disk.inject(Fault::on(FileOp::Rename).of_names_ending(&format!("{ending}.tmp")).failing(Failure::Io));
        assert!(open().is_err(), "{ending}");
        disk.clear_faults();
        until("the end of the threads", || Arc::strong_count(&vfs) == 1);
    }
    open().unwrap().close().unwrap();
}

/// Those that were woken and found the room taken again waited for the flush interval.
#[test]
fn writers_that_wait_for_room_in_the_queue_do_not_wait_for_the_flush_interval() {
    let dir = tempfile::tempdir().unwrap();
    let db = Database::builder(dir.path())
        .config(by_hand)
        .config(|config| {
            config.wal.flush_interval = Duration::from_secs(3600);
            config.wal.queue_bytes_max = ByteSize(64 << 10);
        })
        .open()
        .unwrap();
    let (sender, done) = channel();
    for _ in 0..6 {
        let (db, sender) = (db.clone(), sender.clone());
        std::thread::spawn(move || {
            for _ in 0..20 {
                let name = Name("x".repeat(40_000));
                db.write_with(Durability::Batched, move |tx| Ok(tx.spawn(name))).unwrap();
            }
            sender.send(()).unwrap();
        });
    }
    for _ in 0..6 {
        done.recv_timeout(PATIENCE).expect("a writer stands still");
    }
    db.close().unwrap();
}

#[test]
fn closing_again_says_what_closing_said() {
    let disk = disk();
    let db = on(&disk, |config| config.wal.flush_interval = Duration::from_secs(3600)).unwrap();
    db.write_with(Durability::Batched, |tx| Ok(tx.spawn(Counter(1)))).unwrap();
    disk.inject(Fault::on(FileOp::Sync).times(1_000).failing(Failure::Io));
    let first = db.close().unwrap_err().to_string();
    assert!(first.contains("simulated"), "{first}");
    assert_eq!(db.close().unwrap_err().to_string(), first);
    assert_eq!(db.clone().close().unwrap_err().to_string(), first);
}

#[test]
fn whoever_closes_second_comes_back_when_it_is_closed() {
    let disk = disk();
    for i in 0..20 {
        let db = on(&disk, |_| {}).unwrap();
        db.write_with(Durability::Batched, |tx| Ok(tx.spawn(Counter(i)))).unwrap();
        let other = db.clone();
        let first = std::thread::spawn(move || other.close().unwrap());
        db.close().unwrap();
        // Nobody has the directory any more.
        drop(disk.vfs().try_lock(&Path::new(DIR).join("lock"), LockKind::Exclusive, "a test"));
        on(&disk, |_| {}).unwrap().close().unwrap();
        first.join().unwrap();
    }
}

#[test]
fn async_writers_need_no_runtime_with_and_without_contention() {
    let dir = tempfile::tempdir().unwrap();
    let db = Database::open(dir.path()).unwrap();
    pollster::block_on(db.write_async(|tx| Ok(tx.spawn(Counter(1))))).unwrap();
    std::thread::scope(|scope| {
        let release = hold(scope, &db);
        let mut waiting = Box::pin(db.write_async(|tx| Ok(tx.spawn(Counter(2)))));
        let polled = pollster::block_on(poll_fn(|context| Poll::Ready(waiting.as_mut().poll(context))));
        assert!(polled.is_pending());
        release.send(()).unwrap();
        pollster::block_on(waiting).unwrap();
    });
    assert_eq!(db.view().unwrap().len(), 2);
}

/// Does something with a database when it is woken, and no more has it then.
struct Wakes<F>(Mutex<Option<(Database, F)>>);

impl<F: FnOnce(Database) + Send + 'static> Wakes<F> {
    fn waker(db: Database, f: F) -> Waker {
        Arc::new(Wakes(Mutex::new(Some((db, f))))).into()
    }
}

impl<F: FnOnce(Database) + Send + 'static> Wake for Wakes<F> {
    fn wake(self: Arc<Self>) {
        let taken = self.0.lock().unwrap().take();
        if let Some((db, f)) = taken {
            f(db);
        }
    }
}

fn poll<T: Future + Unpin>(future: &mut T, waker: &Waker) -> Poll<T::Output> {
    Pin::new(future).poll(&mut Context::from_waker(waker))
}

/// It closed the log on the log's own thread, which waited for itself.
#[test]
fn a_waker_may_drop_the_last_handle_on_the_log_s_thread() {
    let disk = disk();
    let db = on(&disk, |config| config.wal.flush_interval = Duration::from_secs(3600)).unwrap();
    let mut ticket = db.submit(|tx| Ok(tx.spawn(Counter(1)))).unwrap();
    let (sender, woken) = channel();
    let waker = Wakes::waker(db, move |db| {
        drop(db);
        sender.send(()).unwrap();
    });
    assert!(poll(&mut ticket, &waker).is_pending());
    woken.recv_timeout(PATIENCE).expect("it waits for itself");
    let mut db = None;
    until("the end of the first", || {
        db = on(&disk, |_| {}).ok();
        db.is_some()
    });
    assert_eq!(db.unwrap().view().unwrap().len(), 1);
    assert!(poll(&mut ticket, Waker::noop()).is_ready());
}

#[test]
fn a_waker_may_drop_the_last_handle_on_the_thread_of_a_job() {
    let disk = disk();
    for i in 0..5 {
        let db = on(&disk, |_| {}).unwrap();
        db.write(|tx| Ok(tx.spawn(Counter(i)))).unwrap();
        let mut job = db.snapshot().unwrap();
        job.pause();
        let (sender, woken) = channel();
        let waker = Wakes::waker(db, move |db| {
            drop(db);
            sender.send(()).unwrap();
        });
        // It may be done already, and wakes nobody then.
        if poll(&mut job, &waker).is_ready() {
            waker.wake_by_ref();
        }
        job.resume();
        woken.recv_timeout(PATIENCE).expect("it waits for itself");
        until("the end of the job's database", || on(&disk, |_| {}).is_ok());
    }
}

#[test]
fn a_waker_that_closes_is_told_that_it_would_wait_for_itself() {
    let disk = disk();
    let db = on(&disk, |config| config.wal.flush_interval = Duration::from_secs(3600)).unwrap();
    let mut ticket = db.submit(|tx| Ok(tx.spawn(Counter(1)))).unwrap();
    let (sender, woken) = channel();
    let waker = Wakes::waker(db.clone(), move |db| sender.send(db.close().map_err(|e| e.kind())).unwrap());
    assert!(poll(&mut ticket, &waker).is_pending());
    assert_eq!(woken.recv_timeout(PATIENCE).expect("it waits for itself"), Err(ErrorKind::Call));
    db.write(|tx| Ok(tx.spawn(Counter(2)))).unwrap();
    db.close().unwrap();
}

/// WAL-13: the panic ended the thread that syncs, or went on in another's commit, and those after it were never woken.
#[test]
fn a_waker_that_panics_harms_nobody_else() {
    let disk = disk();
    let db = on(&disk, |config| config.wal.flush_interval = Duration::from_secs(3600)).unwrap();
    let mut bad = db.submit(|tx| Ok(tx.spawn(Counter(1)))).unwrap();
    let good = db.submit(|tx| Ok(tx.spawn(Counter(2)))).unwrap();
    let panics = || Wakes::waker(db.clone(), |_| panic!("meant"));
    assert!(poll(&mut bad, &panics()).is_pending());
    ends("the other", move || pollster::block_on(good).unwrap());
    assert!(poll(&mut bad, Waker::noop()).is_ready());
    // Nor one that waits for work in the background, or listens to it.
    let mut events = db.events();
    let mut event = Box::pin(events.next());
    assert!(poll(&mut event, &panics()).is_pending());
    let mut job = db.snapshot().unwrap();
    job.pause();
    drop(poll(&mut job, &panics()));
    job.resume();
    until("the end of the job", || job.is_finished());
    assert_eq!(db.snapshot().unwrap().wait().unwrap().lsn, db.lsn());
    db.close().unwrap();
}

/// CKP-7: only the next snapshot tried again, and an idle database takes none.
#[test]
fn a_trim_that_failed_on_an_idle_database_is_tried_again() {
    let disk = disk();
    let db = on(&disk, |config| config.snapshot.chain_max = 1).unwrap();
    let round = || {
        for _ in 0..2 {
            db.write(|tx| Ok(tx.spawn(Name("z".repeat(40_000))))).unwrap();
        }
        db.snapshot().unwrap().wait().unwrap();
    };
    round();
    disk.inject(Fault::on(FileOp::Remove).of_names_ending(".seg").times(2).failing(Failure::Io));
    round();
    let store = || db.stats().unwrap().store.unwrap();
    assert_eq!(store().failures.len(), 1);
    assert_eq!(store().failures[0].task, Task::Retention);
    until("the trim", || disk.faults_fired() == 2 && store().garbage_bytes == 0);
    assert!(store().segments <= 4, "{}", store().segments);
}

/// The segment could not be archived, so that nothing ever was again, and nothing deleted.
#[test]
fn rot_in_the_header_of_a_sealed_segment_keeps_nobody_waiting() {
    let dir = tempfile::tempdir().unwrap();
    let db = Database::builder(dir.path()).config(archiving).open().unwrap();
    reconfigure(&db, |config| config.snapshot.chain_max = 1).unwrap();
    let mut events = db.events();
    let fill = || db.write(|tx| Ok(tx.spawn(Name("z".repeat(40_000))))).unwrap();
    for _ in 0..6 {
        fill();
    }
    let path = |number: u64| dir.path().join(format!("log/{number:016}.seg"));
    let mut bytes = std::fs::read(path(2)).unwrap();
    bytes[20] ^= 1;
    std::fs::write(path(2), bytes).unwrap();
    for _ in 0..3 {
        fill();
        db.snapshot().unwrap().wait().unwrap();
    }
    let failed = |event: &Event| matches!(event, Event::Failed { task: Task::Retention, .. });
    assert_eq!(std::iter::from_fn(|| events.try_next()).filter(failed).count(), 1);
    let archived = |number: u64| dir.path().join(format!("archive/{number:016}.seg.zst"));
    for number in 1..5 {
        assert!(archived(number).exists(), "{number}");
        // What does not say whose it is is left alone, too (CKP-10).
        assert_eq!(path(number).exists(), number == 2, "{number}");
    }
    // It is as it was, for whoever can make something of it.
    assert!(std::fs::metadata(archived(2)).unwrap().len() > 0);
    db.compact().unwrap().wait().unwrap();
    db.close().unwrap();
    let db = Database::builder(dir.path()).config(archiving).open().unwrap();
    assert_eq!(db.view().unwrap().len(), 9);
}

/// CKP-9: it waited for a limit on the rate of bytes that are worth nothing.
#[test]
fn a_job_that_is_cancelled_ends_whatever_the_limit_on_the_rate() {
    let dir = tempfile::tempdir().unwrap();
    let slow = |config: &mut PersistenceConfig| config.snapshot.bytes_per_second_max = ByteSize(1);
    let db = Database::builder(dir.path().join("world")).config(by_hand).config(slow).open().unwrap();
    db.write(|tx| {
        let random = |i: u64| Counter(i.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        tx.spawn_batch((0..200_000).map(random));
        Ok(())
    })
    .unwrap();
    let copy = dir.path().join("copy");
    let begin = |copied: bool| if copied { db.backup_to(&copy) } else { db.snapshot() };
    for copied in [false, true] {
        let job = begin(copied).unwrap();
        // What the rate allows at once is over by then.
        std::thread::sleep(Duration::from_millis(500));
        until("a request that waits for the limit", || {
            db.stats().unwrap().io.unwrap()[Priority::Snapshot].queued_requests > 0
        });
        job.cancel();
        let ended = ends("a cancelled job", move || job.wait());
        assert!(ended.unwrap_err().is_cancelled());
    }
    reconfigure(&db, |config| config.snapshot.bytes_per_second_max = ByteSize(0)).unwrap();
    for copied in [false, true] {
        begin(copied).unwrap().wait().unwrap();
    }
    db.close().unwrap();
}

/// Cancels what `begin` begins within the replay of the log, which tells how far it is.
fn is_cancelled_while_it_replays<T: std::fmt::Debug>(
    mut begin: impl FnMut() -> Result<ecsdb::Job<T>, Error>,
) {
    for _ in 0..200 {
        let job = begin().unwrap();
        while !job.is_finished() && job.progress().total == 0 {
            std::thread::yield_now();
        }
        job.cancel();
        match job.wait() {
            // It was faster.
            Ok(_) => {}
            Err(e) => return assert!(e.is_cancelled(), "{e}"),
        }
    }
    panic!("it ends before it looks whether it is cancelled");
}

#[test]
fn going_back_is_cancelled_and_says_how_far_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("world");
    let made = |path: &Path| {
        let db = Database::builder(path).config(by_hand).open().unwrap();
        for _ in 0..24 {
            let name = Name("x".repeat(1 << 20));
            db.write_with(Durability::Buffered, |tx| Ok(tx.spawn(name))).unwrap();
        }
        db.sync().unwrap();
        db
    };
    let other = dir.path().join("other");
    made(&other).close().unwrap();
    let db = made(&path);
    is_cancelled_while_it_replays(|| db.view_at(Moment::Latest));
    is_cancelled_while_it_replays(|| db.restore(Moment::Latest));
    is_cancelled_while_it_replays(|| db.restore_from(&other, Moment::Latest));
    let new = dir.path().join("new");
    is_cancelled_while_it_replays(|| db.restore_to(&new, Moment::Lsn(Lsn(23))));
    assert!(!new.exists(), "nothing of it is there");
    assert_eq!(db.view_at(Moment::Latest).unwrap().wait().unwrap().len(), 24);
}

/// What is read of the archive, and when somebody is told of it and waited for.
#[derive(Default)]
struct Told {
    reads: AtomicUsize,
    at: AtomicUsize,
    ends: Mutex<Option<(Sender<()>, Receiver<()>)>>,
}

impl Hooks for Told {
    fn reads(&self, path: &Path, _: u64, _: u64) -> Result<(), IoError> {
        if path.to_string_lossy().contains("archive")
            && self.reads.fetch_add(1, Ordering::Relaxed) + 1 == self.at.load(Ordering::Relaxed)
        {
            let (told, go_on) = self.ends.lock().unwrap().take().unwrap();
            told.send(()).unwrap();
            // It goes on once the sender is gone.
            go_on.recv().unwrap_err();
        }
        Ok(())
    }
}

/// CKP-9: wherever in it it is cancelled, it reads nothing more, however much there is to be looked at.
#[test]
fn going_back_is_cancelled_within_any_part_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let files = Arc::new(Around::new(Arc::new(ecsdb::Disk), Told::default()));
    let builder = || {
        Database::builder(dir.path().join("world")).vfs(files.clone()).config(|config| {
            archiving(config);
            config.wal.segment_bytes_first = ByteSize(64 << 10);
            config.wal.segment_bytes_max = ByteSize(64 << 10);
        })
    };
    let db = builder().open().unwrap();
    for i in 0..12 {
        large(&db, i);
    }
    for i in 0..3 {
        db.snapshot().unwrap().wait().unwrap();
        large(&db, 20 + i);
    }
    // What else is to be read of it has been by then.
    db.compact().unwrap().wait().unwrap();
    db.close().unwrap();
    let db = builder().open().unwrap();
    let (told, back) = (&files.hooks, || db.view_at(Moment::Lsn(Lsn(11))).unwrap());
    told.reads.store(0, Ordering::Relaxed);
    back().wait().unwrap();
    let all = told.reads.load(Ordering::Relaxed);
    assert!(all > 20, "{all}");
    let mut cancelled = 0;
    for at in 1..=all {
        let ((tell, told_of), (go_on, goes_on)) = (channel(), channel());
        *told.ends.lock().unwrap() = Some((tell, goes_on));
        told.reads.store(0, Ordering::Relaxed);
        told.at.store(at, Ordering::Relaxed);
        let job = back();
        // Threads that read ahead do not always read as often.
        until("a read", || told_of.try_recv().is_ok() || job.is_finished());
        job.cancel();
        let before = told.reads.load(Ordering::Relaxed);
        drop(go_on);
        match job.wait() {
            // What is read ahead at the end is no more needed.
            Ok(_) => {}
            Err(e) => cancelled += usize::from(e.is_cancelled()),
        }
        // Other threads may have been about to read.
        let reads = told.reads.load(Ordering::Relaxed);
        assert!(reads <= before + 4, "{reads} after {before} of {all}");
    }
    assert!(cancelled > all * 3 / 4, "{cancelled} of {all}");
}

/// It said that the database was closed.
#[test]
fn async_writers_need_no_runtime_that_still_runs() {
    let db = Database::in_memory();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let handle = runtime.handle().clone();
    runtime.shutdown_background();
    let _entered = handle.enter();
    pollster::block_on(db.write_async(|tx| Ok(tx.spawn(Counter(1))))).unwrap();
    assert_eq!(pollster::block_on(db.sync_async()).unwrap(), db.lsn());
    pollster::block_on(db.close_async()).unwrap();
}

/// WAL-13: a waker may do anything, on the thread where async writers run, too.
#[test]
fn a_waker_of_an_async_writer_waits_for_another_one() {
    let db = Database::in_memory();
    let (woken, is_woken) = channel();
    let waker = Wakes::waker(db.clone(), move |db| {
        pollster::block_on(db.write_async(|tx| Ok(tx.spawn(Counter(2))))).unwrap();
        woken.send(()).unwrap();
    });
    let mut first = Box::pin(db.write_async(|tx| {
        std::thread::sleep(Duration::from_millis(50));
        Ok(tx.spawn(Counter(1)))
    }));
    assert!(first.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    is_woken.recv_timeout(PATIENCE).expect("it waits for itself");
    pollster::block_on(first).unwrap();
    assert_eq!(db.view().unwrap().len(), 2);
}

/// Each took a thread of its own while it waited. A panic is its caller's, and nobody else's.
#[test]
fn many_async_writers_that_wait_take_one_thread() {
    let threads = || {
        let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
        let names = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
        names.filter(|name| name.starts_with("ecsdb-blocking")).count()
    };
    let db = Database::in_memory();
    std::thread::scope(|scope| {
        let release = hold(scope, &db);
        let mut all: Vec<_> = (0..1000u64)
            .map(|i| {
                Box::pin(db.write_async(move |tx| {
                    assert_ne!(i % 100, 7, "as meant");
                    Ok(tx.spawn(Counter(i)))
                }))
            })
            .collect();
        for future in &mut all {
            assert!(future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        // Other tests have theirs.
        assert!(threads() < 100, "{} threads", threads());
        release.send(()).unwrap();
        for (i, future) in all.into_iter().enumerate() {
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| pollster::block_on(future)));
            assert_eq!(done.is_err(), i % 100 == 7, "{i}");
        }
    });
    assert_eq!(db.view().unwrap().len(), 990);
}
