//! A call on a database that is closed meanwhile says that it is closed. What it finds wrong with the files then is no word about them.

use std::path::Path;
use std::sync::mpsc::channel;
use std::time::Duration;

use ecsdb::prelude::*;
use ecsdb::{Error, Moment, Policy};

use crate::components::Counter;
use crate::lifecycle::by_hand;

fn open(path: &Path) -> Database {
    Database::builder(path).config(by_hand).open().unwrap()
}

/// A database of several files of each kind.
fn made(path: &Path) -> Database {
    let db = open(path);
    for i in 0..6 {
        db.write(|tx| Ok(tx.spawn(Counter(i)))).unwrap();
        db.snapshot().unwrap().wait().unwrap();
        db.rotate_log().unwrap();
    }
    db
}

#[test]
fn verifying_finds_no_fault_whenever_the_database_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("world");
    made(&path).close().unwrap();
    for at in 0.. {
        let db = open(&path);
        let mut step = 0;
        let verified = db.verify(|_| {
            if step == at {
                db.close().unwrap();
            }
            step += 1;
        });
        if step <= at {
            assert!(verified.unwrap().faults.is_empty());
            assert!(at > 3, "{at} steps");
            break;
        }
        assert!(matches!(verified, Err(Error::Closed)), "step {at}: {verified:?}");
    }
}

/// What it has given out is kept from coming back, and what it commits is taken, however many close meanwhile.
#[test]
fn who_has_the_world_comes_to_its_end_before_the_log_does() {
    for commits in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let db = open(dir.path());
        let (entered, within) = channel();
        let (leave, may_leave) = channel::<()>();
        let given = std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let may_leave = may_leave;
                db.write(|tx| {
                    entered.send(tx.spawn(Counter(1)))?;
                    may_leave.recv()?;
                    if commits { Ok(()) } else { Err(std::io::Error::other("undone"))? }
                })
            });
            let given = within.recv().unwrap();
            let closers = [(); 2].map(|()| scope.spawn(|| db.close()));
            while db.rotate_log().is_ok() {
                std::thread::sleep(Duration::from_millis(1));
            }
            // The other one is there by now, too.
            std::thread::sleep(Duration::from_millis(50));
            leave.send(()).unwrap();
            let done = writer.join().unwrap();
            assert_eq!(done.is_ok(), commits, "{done:?}");
            closers.into_iter().for_each(|closer| closer.join().unwrap().unwrap());
            given
        });
        drop(db);
        let db = open(dir.path());
        assert_eq!(db.view().unwrap().len(), usize::from(commits));
        let next = db.write(|tx| Ok(tx.spawn(Counter(2)))).unwrap();
        assert_ne!(next, given, "commits: {commits}");
    }
}

/// One call of any kind; what it finds is whole.
fn call(db: &Database, rng: &mut fastrand::Rng, new: &Path) -> Result<(), Error> {
    match rng.u32(0..8) {
        0 | 1 => assert_eq!(db.verify(|_| {})?.faults, [""; 0]),
        2 => assert_eq!(db.stats()?.entities, 6),
        3 => assert!(!db.snapshots()?.is_empty()),
        4 => assert_eq!(db.view_at(Moment::Latest)?.wait()?.len(), 6),
        5 => drop(db.backup_to(new)?.wait()?),
        6 => drop(db.restore_to(new, Moment::Latest)?.wait()?),
        _ => drop(db.snapshot()?.wait()?),
    }
    Ok(())
}

#[test]
fn no_call_finds_a_fault_while_another_thread_closes_the_database() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("world");
    made(&path).close().unwrap();
    let mut rng = fastrand::Rng::with_seed(1);
    for life in 0..40 {
        let db = open(&path);
        std::thread::scope(|scope| {
            for caller in 0..2 {
                let (db, mut rng, dir) = (&db, rng.fork(), dir.path());
                scope.spawn(move || {
                    for n in 0.. {
                        match call(db, &mut rng, &dir.join(format!("{life}.{caller}.{n}"))) {
                            Ok(()) => {}
                            // A job that was under way is cancelled.
                            Err(e) if e.kind() == ErrorKind::Cancelled => {}
                            Err(Error::Closed) => return,
                            Err(e) => panic!("life {life}: {e}"),
                        }
                    }
                });
            }
            std::thread::sleep(Duration::from_micros(rng.u64(0..30_000)));
            db.close().unwrap();
        });
    }
    assert!(ecsdb::verify(&PersistenceConfig::new(&path), |_| {}).unwrap().faults.is_empty());
}

/// What was committed before is whole, and the log ends where it was closed: a segment that was begun behind that, without the lock, was another process's.
#[test]
fn no_segment_is_begun_while_another_thread_closes_the_database() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("world");
    let mut rng = fastrand::Rng::with_seed(1);
    for life in 0..40 {
        let db = open(&path);
        let before = db.view().unwrap().len();
        let mut committed = 0;
        std::thread::scope(|scope| {
            let (db, committed) = (&db, &mut committed);
            scope.spawn(move || {
                loop {
                    match db.write(|tx| Ok(tx.spawn(Counter(life)))) {
                        Ok(_) => *committed += 1,
                        Err(e) => return assert_eq!(e.kind(), ErrorKind::Closed, "life {life}: {e}"),
                    }
                    match db.rotate_log() {
                        Ok(()) => {}
                        Err(e) => return assert_eq!(e.kind(), ErrorKind::Closed, "life {life}: {e}"),
                    }
                }
            });
            std::thread::sleep(Duration::from_micros(rng.u64(0..10_000)));
            db.close().unwrap();
        });
        drop(db);
        let db = Database::builder(&path).config(by_hand).policy(Policy::Strict).open().unwrap();
        assert_eq!(db.view().unwrap().len(), before + committed, "life {life}");
        assert_eq!(db.recovery_report().unwrap().tail, None, "life {life}");
        db.close().unwrap();
    }
}
