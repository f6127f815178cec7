//! A process that is forked while a database is open (REC-12). A target of its own, whose one thread forks: a harness runs tests on threads, of
//! which a fork has one.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "it looks at files behind the back of the engine, and fails by panicking"
)]

#[cfg(not(unix))]
fn main() {
    println!("SKIPPED: nothing forks here");
}

#[cfg(unix)]
fn main() {
    if std::env::var_os(unix::ALONE).is_some() {
        return unix::there_is_no_thread_to_be_had();
    }
    unix::where_there_is_no_thread_to_be_had_a_watch_says_so();
    unix::the_child_does_no_harm_whatever_it_does();
    unix::what_others_hold_at_a_fork_keeps_no_child_waiting();
    unix::a_ticket_that_was_polled_before_the_fork_is_answered();
    unix::a_child_that_lives_on_has_no_lock();
    unix::the_parts_by_themselves_do_none_either();
    println!("forked: ok");
}

#[cfg(unix)]
mod unix {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::path::Path;
    use std::pin::Pin;
    use std::sync::Arc;
    use std::sync::mpsc::channel;
    use std::task::{Context, Poll, Waker};
    use std::time::{Duration, Instant};

    use ecsdb::prelude::*;
    use ecsdb::{Error, LogError, PersistenceConfig};
    use ecsdb_io::{Disk, LockKind, Priority, Scheduler, SchedulerOptions, Vfs};
    use ecsdb_tests::components::Counter;
    use ecsdb_wal::{Log, LogOptions, LogStart, SegmentEnd};

    unsafe extern "C" {
        fn fork() -> i32;
        fn _exit(code: i32) -> !;
        fn waitpid(pid: i32, status: *mut i32, options: i32) -> i32;
        fn kill(pid: i32, signal: i32) -> i32;
    }
    const WNOHANG: i32 = 1;
    const SIGKILL: i32 = 9;

    /// Set for a process that gets no thread: of that much memory for its stack there is none.
    pub(crate) const ALONE: &str = "ECSDB_TEST_ALONE";

    /// It panicked, and once more when what had panicked was dropped: that was the end of the process.
    pub(crate) fn where_there_is_no_thread_to_be_had_a_watch_says_so() {
        let mut alone = std::process::Command::new(std::env::current_exe().unwrap());
        let ended = alone.env(ALONE, "1").env("RUST_MIN_STACK", (1_u64 << 46).to_string()).output().unwrap();
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    }

    pub(crate) fn there_is_no_thread_to_be_had() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("world");
        assert!(matches!(Database::open(&path), Err(Error::Thread(_) | Error::Log(LogError::Thread(_)))));
        let db = Database::builder(&path).without_threads().open().unwrap();
        let file = dir.path().join("settings.toml");
        std::fs::write(&file, "").unwrap();
        assert_eq!(db.watch_config(&file, |_| {}).unwrap_err().kind(), ErrorKind::Retry);
        write(&db, 1);
        db.close().unwrap();
    }

    struct Child(i32);

    impl Child {
        fn running(work: impl FnOnce()) -> Child {
            // SAFETY: the child runs `work` and ends; what it finds locked by threads that it has not is what is tested.
            let pid = unsafe { fork() };
            assert!(pid >= 0, "no process to be had");
            if pid == 0 {
                let done = catch_unwind(AssertUnwindSafe(work));
                // SAFETY: it ends the child, and runs nothing of what the parent has registered for its own end.
                unsafe { _exit(i32::from(done.is_err())) };
            }
            Child(pid)
        }

        /// It does its work, and in finite time.
        fn ends_well(self, what: &str) {
            let began = Instant::now();
            let mut status = 0;
            // SAFETY: a child of this process, and a place for its status.
            while unsafe { waitpid(self.0, &mut status, WNOHANG) } == 0 {
                if began.elapsed() > Duration::from_secs(20) {
                    self.end();
                    panic!("{what}: the child waits for ever");
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            assert_eq!(status, 0, "{what}: the child failed");
        }

        fn end(self) {
            // SAFETY: a child of this process.
            unsafe {
                kill(self.0, SIGKILL);
                waitpid(self.0, &mut 0, 0);
            }
        }
    }

    fn open(path: &Path) -> Database {
        Database::builder(path).config(PersistenceConfig::manual).open().unwrap()
    }

    fn write(db: &Database, n: u64) {
        for i in 0..n {
            db.write(|tx| Ok(tx.spawn(Counter(i)))).unwrap();
        }
    }

    fn len(db: &Database) -> u64 {
        db.view().unwrap().len() as u64
    }

    #[track_caller]
    fn is_forked<T>(done: ecsdb::Result<T>) {
        match done.err().unwrap() {
            e @ Error::Log(LogError::Forked(forked)) => {
                assert_eq!(forked.this, std::process::id());
                assert_eq!(e.kind(), ErrorKind::Call);
                assert!(e.to_string().contains(&format!("opened by process {}", forked.opener)), "{e}");
            }
            e => panic!("{e}"),
        }
    }

    /// Names and bytes of all files.
    fn files(dir: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
        let mut all = Vec::new();
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => all.extend(files(&path)),
                false => all.push((path.clone(), std::fs::read(path).unwrap())),
            }
        }
        all.sort();
        all
    }

    /// A child used to give the parent's lock back, to close its log, and to write where the parent had written since.
    pub(crate) fn the_child_does_no_harm_whatever_it_does() {
        type Work = fn(Database);
        let works: [(&str, Work); 9] = [
            ("drop", drop),
            ("close", |db| {
                is_forked(db.close());
                is_forked(db.close());
            }),
            ("write", |db| is_forked(db.write(|tx| Ok(tx.spawn(Counter(77)))))),
            ("batched", |db| {
                let tick = |_| db.write_with(Durability::Batched, |tx| Ok(tx.spawn(Counter(77)))).err();
                let told = (0..1000).find_map(tick).unwrap();
                is_forked(Err::<(), _>(told));
                is_forked(db.sync());
            }),
            ("ticket", |db| {
                is_forked(db.submit(|tx| Ok(tx.spawn(Counter(77)))).unwrap().wait());
                is_forked(pollster::block_on(db.submit(|tx| Ok(tx.spawn(Counter(77)))).unwrap()));
            }),
            ("async", |db| {
                let spawn = |tx: &mut Transaction<'_>| Ok(tx.spawn(Counter(77)));
                is_forked(pollster::block_on(db.write_async(spawn)));
                is_forked(pollster::block_on(db.submit_async(spawn)).map(drop));
                is_forked(pollster::block_on(db.close_async()));
            }),
            ("jobs", |db| {
                is_forked(db.snapshot().map(drop));
                is_forked(db.compact().map(drop));
                is_forked(db.rotate_log());
                is_forked(db.stats());
            }),
            ("look", |db| {
                let view = db.view().unwrap();
                assert_eq!(view.len() as u64, 10);
            }),
            ("open", |db| {
                let path = format!("{db:?}");
                let path = path.strip_prefix("Database(").unwrap().strip_suffix(')').unwrap();
                let refused = Database::open(path).unwrap_err();
                assert_eq!(refused.kind(), ErrorKind::Locked);
                assert!(!refused.to_string().contains("this process itself"), "{refused}");
            }),
        ];
        for (what, work) in works {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("world");
            let mut slot = Some(open(&path));
            let watched = dir.path().join("ecsdb.toml");
            std::fs::write(&watched, "dir = \"world\"\n").unwrap();
            let mut watch = slot.as_ref().map(|db| db.watch_config(&watched, |_| {}).unwrap());
            write(slot.as_ref().unwrap(), 10);
            // The thread for what is asynchronous stays for a second.
            pollster::block_on(slot.as_ref().unwrap().write_async(|_| Ok(()))).unwrap();
            // The next segment is prepared, and nobody changes a file any more.
            std::thread::sleep(Duration::from_millis(200));
            let before = files(&path);
            Child::running(|| {
                drop(watch.take());
                work(slot.take().unwrap());
            })
            .ends_well(what);
            assert!(files(&path) == before, "{what}: the child has changed files");
            assert_eq!(Database::open(&path).unwrap_err().kind(), ErrorKind::Locked, "{what}");
            // One that comes to it after the parent has gone on.
            let (go, gone) = std::io::pipe().unwrap();
            let late = Child::running(|| {
                std::io::Read::read(&mut &go, &mut [0]).unwrap();
                let db = slot.take().unwrap();
                if what == "look" { drop(db) } else { work(db) }
            });
            write(slot.as_ref().unwrap(), 20);
            std::io::Write::write_all(&mut &gone, &[1]).unwrap();
            late.ends_well(what);
            // As a kill would leave it, and as closing does.
            let copy = dir.path().join("copy");
            for (file, bytes) in files(&path).into_iter().filter(|(file, _)| !file.ends_with("OWNER")) {
                let to = copy.join(file.strip_prefix(&path).unwrap());
                std::fs::create_dir_all(to.parent().unwrap()).unwrap();
                std::fs::write(to, bytes).unwrap();
            }
            assert_eq!(len(&open(&copy)), 30, "{what}: lost in silence");
            drop(watch);
            let db = slot.unwrap();
            db.close().unwrap();
            assert_eq!(len(&open(&path)), 30, "{what}: lost in silence");
        }
    }

    /// One thread has the world, and another one, which works at a job, waits for it: neither is in the child.
    pub(crate) fn what_others_hold_at_a_fork_keeps_no_child_waiting() {
        let dir = tempfile::tempdir().unwrap();
        let db = open(dir.path());
        write(&db, 10);
        let done = db.snapshot().unwrap();
        while !done.is_finished() {
            std::thread::sleep(Duration::from_millis(1));
        }
        let (entered, within) = channel();
        let (leave, may_leave) = channel();
        let of_thread = db.clone();
        let writer = std::thread::spawn(move || {
            of_thread.write(|tx| {
                entered.send(())?;
                may_leave.recv()?;
                Ok(tx.spawn(Counter(11)))
            })
        });
        within.recv().unwrap();
        let under_way = db.compact().unwrap();
        let mut slot = Some((db, done, under_way));
        Child::running(|| {
            let (db, done, under_way) = slot.take().unwrap();
            done.wait().unwrap();
            is_forked(under_way.wait());
            is_forked(db.view().map(drop));
            is_forked(db.write(|tx| Ok(tx.spawn(Counter(77)))));
            is_forked(db.close());
            drop(db);
        })
        .ends_well("a writer");
        leave.send(()).unwrap();
        writer.join().unwrap().unwrap();
        let (db, done, under_way) = slot.unwrap();
        done.wait().unwrap();
        under_way.wait().unwrap();
        write(&db, 1);
        db.close().unwrap();
        drop(db);
        assert_eq!(len(&open(dir.path())), 12);
    }

    /// Whoever was to wake it is in the parent.
    pub(crate) fn a_ticket_that_was_polled_before_the_fork_is_answered() {
        let dir = tempfile::tempdir().unwrap();
        let db = open(dir.path());
        for i in 0..20 {
            let mut ticket = db.submit(|tx| Ok(tx.spawn(Counter(i)))).unwrap();
            let mut poll = || Pin::new(&mut ticket).poll(&mut Context::from_waker(Waker::noop()));
            let pending = poll().is_pending();
            Child::running(|| match poll() {
                Poll::Ready(Err(Error::Log(LogError::Forked(_)))) => {}
                // It was durable by then.
                Poll::Ready(Ok(_)) => {}
                other => panic!("{other:?}"),
            })
            .ends_well(if pending { "a ticket that waits" } else { "a ticket that is done" });
        }
    }

    /// It has the lock file open for as long as it lives.
    pub(crate) fn a_child_that_lives_on_has_no_lock() {
        let dir = tempfile::tempdir().unwrap();
        let db = open(dir.path());
        write(&db, 10);
        let child = Child::running(|| std::thread::sleep(Duration::from_secs(600)));
        db.close().unwrap();
        assert_eq!(len(&open(dir.path())), 10);
        child.end();
    }

    /// A lock, a log and a scheduler that a program uses without the rest.
    pub(crate) fn the_parts_by_themselves_do_none_either() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("LOCK");
        let lock = || Disk.try_lock(&path, LockKind::Exclusive, "process 1");
        let mut slot = Some(lock().unwrap());
        Child::running(|| drop(slot.take())).ends_well("a lock");
        assert!(lock().unwrap_err().to_string().contains("this process itself"));
        drop(slot);
        drop(lock().unwrap());

        let vfs: Arc<dyn Vfs> = Arc::new(Disk);
        let start = LogStart {
            database: 1,
            incarnation: 1,
            segment: 1,
            lsn: Lsn(1),
            previous: SegmentEnd::default(),
            last_unix_ns: 0,
            lock: None,
        };
        let log = Log::start(vfs.clone(), vfs.clone(), dir.path(), LogOptions::default(), start).unwrap();
        let append =
            |log: &Log| log.append(b"x"[..].into(), Durability::Immediate).and_then(|lsn| log.wait(lsn));
        append(&log).unwrap();
        std::thread::sleep(Duration::from_millis(200));
        let before = files(dir.path());
        let mut slot = Some(log);
        Child::running(|| {
            let log = slot.take().unwrap();
            for done in [append(&log), log.rotate(), log.close()] {
                assert!(matches!(done, Err(LogError::Forked(_))), "{done:?}");
            }
        })
        .ends_well("a log");
        assert!(files(dir.path()) == before, "the child has changed files");
        append(slot.as_ref().unwrap()).unwrap();

        let mut slot = Some(Scheduler::start(SchedulerOptions::default()).unwrap());
        Child::running(|| drop(slot.take())).ends_well("a scheduler");
        let scheduled = slot.as_ref().unwrap().vfs(vfs, Priority::Archive);
        scheduled.create(&dir.path().join("f")).unwrap().sync_data().unwrap();
    }
}
