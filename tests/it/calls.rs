//! How the facade is called: from within transactions, from async code, with errors of all kinds.

use std::error::Error as StdError;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use ecsdb::prelude::*;
use ecsdb::{Error, RecoveryError};

use crate::components::Counter;

#[test]
fn calls_within_a_transaction_work_or_are_refused_and_never_wait_for_themselves() {
    let dir = tempfile::tempdir().unwrap();
    for db in [Database::in_memory(), Database::open(dir.path()).unwrap()] {
        let lsn = db.lsn();
        db.write(|tx| {
            tx.spawn(Counter(1));
            let nested = |e: Error| assert!(matches!(e, Error::Nested) && e.kind() == ErrorKind::Call, "{e}");
            nested(db.view().unwrap_err());
            nested(db.stats().unwrap_err());
            nested(db.write(|_| Ok(())).unwrap_err());
            nested(db.submit(|_| Ok(())).map(drop).unwrap_err());
            nested(db.close().unwrap_err());
            assert_eq!(db.lsn(), lsn);
            assert!(db.durable_lsn() <= lsn && db.sync()? == lsn);
            // Another database is another matter.
            let other = Database::in_memory();
            other.write(|_| Ok(drop(other.view().unwrap_err())))?;
            assert!(other.view()?.is_empty());
            Ok(())
        })
        .unwrap();
        assert_eq!(db.view().unwrap().len(), 1);
    }
}

/// The marker of the holder was shared by all threads once, and reset by one that was done while the next was at work.
#[test]
fn nesting_is_told_from_waiting_however_many_threads_are_at_it() {
    let db = Database::in_memory();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..5_000 {
                    let refused = db.write(|_| Ok(db.write(|_| Ok(()))?));
                    assert!(matches!(refused, Err(Error::Nested)));
                    db.write(|_| Ok(())).unwrap();
                }
            });
        }
    });
}

#[derive(Debug, thiserror::Error)]
#[error("the game is over")]
struct GameOver;

#[test]
fn a_closure_gives_up_with_any_error_and_its_caller_gets_it_back() {
    let db = Database::in_memory();
    let e = db.write(|_| -> Result<(), Abort> { Err(GameOver.into()) }).unwrap_err();
    assert!(e.downcast_ref::<GameOver>().is_some() && e.kind() == ErrorKind::Aborted);
    let e = db.write(|_| Ok("1x".parse::<u8>()?)).unwrap_err();
    assert!(e.downcast_ref::<std::num::ParseIntError>().is_some());
    let gone = db.write(|tx| Ok(tx.spawn(()))).unwrap();
    db.write(|tx| Ok(tx.despawn(gone)?)).unwrap();
    // What is the database's own comes back as that, through whatever depth of `?`.
    let through = |tx: &mut Transaction<'_>| -> ecsdb::Result<()> { Ok(tx.despawn(gone)?) };
    for e in [db.write(|tx| Ok(tx.despawn(gone)?)).unwrap_err(), db.write(|tx| Ok(through(tx)?)).unwrap_err()]
    {
        assert!(matches!(e, Error::World(ecsdb::WorldError::NoSuchEntity(id)) if id == gone), "{e}");
    }
}

#[test]
fn no_error_says_the_same_twice() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let held = Database::open(dir.path().join("held")).unwrap();
    let errors = [
        Database::open(file.join("below")).unwrap_err(),
        Database::open(dir.path().join("held")).unwrap_err(),
        Database::open_existing(dir.path().join("none")).unwrap_err(),
        Database::builder(dir.path().join("x")).config(|c| c.snapshot.chain_max = 0).open().unwrap_err(),
        held.restore(Moment::Lsn(Lsn(99))).unwrap().wait().unwrap_err(),
        held.write(|_| -> Result<(), Abort> { Err(std::io::Error::other(GameOver).into()) }).unwrap_err(),
        held.write(|tx| Ok(tx.resource::<Counter>().map(drop)?)).unwrap_err(),
        ecsdb::restore_copy(
            &PersistenceConfig::new(dir.path().join("none")),
            &dir.path().join("to"),
            Moment::Latest,
            |_| {},
        )
        .unwrap_err(),
    ];
    for error in &errors {
        let mut seen = vec![error.to_string()];
        let mut next = error.source();
        while let Some(cause) = next {
            let text = cause.to_string();
            assert!(seen.iter().all(|earlier| !earlier.contains(&text)), "{seen:?}, then {text:?}");
            seen.push(text);
            next = cause.source();
        }
    }
    assert_eq!(errors[1].kind(), ErrorKind::Locked);
    assert_eq!(errors[3].kind(), ErrorKind::Config);
    assert!(!dir.path().join("none").exists(), "looking makes nothing");
}

#[test]
fn opening_makes_a_database_only_where_it_may() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a").join("b");
    let e = Database::open_existing(&path).unwrap_err();
    assert!(matches!(e, Error::Recovery(RecoveryError::NoDatabase { .. })) && !dir.path().join("a").exists());
    Database::create_new(&path).unwrap().write(|tx| Ok(tx.spawn(Counter(1)))).unwrap();
    assert_eq!(Database::create_new(&path).unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(Database::open_existing(&path).unwrap().view().unwrap().len(), 1);
    // What is damaged is there all the same.
    for entry in std::fs::read_dir(&path)
        .unwrap()
        .chain(std::fs::read_dir(path.join("manifest")).into_iter().flatten())
    {
        let entry = entry.unwrap().path();
        if entry.extension().is_some_and(|extension| extension == "manifest") {
            std::fs::write(entry, "rot").unwrap();
        }
    }
    assert_eq!(Database::create_new(&path).unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(Database::open_existing(&path).unwrap_err().kind(), ErrorKind::Damaged);
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
}

#[test]
fn a_slow_closure_does_not_hold_up_the_runtime() {
    let db = Database::in_memory();
    runtime().block_on(async {
        let slow = db.write_async(|tx| {
            std::thread::sleep(Duration::from_millis(300));
            Ok(tx.spawn(Counter(1)))
        });
        let ticks = AtomicU32::new(0);
        let done = AtomicBool::new(false);
        let ticker = async {
            while !done.load(Ordering::Relaxed) {
                tokio::time::sleep(Duration::from_millis(1)).await;
                ticks.fetch_add(1, Ordering::Relaxed);
            }
        };
        let writer = async {
            slow.await.unwrap();
            done.store(true, Ordering::Relaxed);
        };
        tokio::join!(writer, ticker);
        assert!(ticks.into_inner() > 10);
    });
    assert_eq!(db.view().unwrap().len(), 1);
}

#[test]
fn async_calls_work_with_and_without_a_runtime_contended_or_not() {
    let dir = tempfile::tempdir().unwrap();
    let db = Database::open(dir.path()).unwrap();
    let all = async |db: &Database| {
        db.write_async(|tx| Ok(tx.spawn(Counter(1)))).await.unwrap();
        db.write_async_with(Durability::Batched, |tx| Ok(tx.spawn(Counter(2)))).await.unwrap();
        let ticket = db.submit_async(|tx| Ok(tx.spawn(Counter(3)))).await.unwrap();
        let (lsn, id) = (ticket.lsn(), *ticket.value().unwrap());
        assert_eq!(ticket.await.unwrap(), id);
        assert!(db.durable_lsn() >= lsn);
        assert!(db.sync_async().await.unwrap() >= lsn);
        let refused = db.write_async(|_| -> Result<(), Abort> { Err(GameOver.into()) }).await.unwrap_err();
        assert!(refused.downcast_ref::<GameOver>().is_some());
    };
    for contended in [false, true] {
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            if contended {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        db.write_with(Durability::Buffered, |_| {
                            Ok(std::thread::sleep(Duration::from_millis(1)))
                        })
                        .unwrap();
                    }
                });
            }
            pollster::block_on(all(&db));
            runtime().block_on(all(&db));
            stop.store(true, Ordering::Relaxed);
        });
    }
    assert_eq!(db.view().unwrap().len(), 12);
    pollster::block_on(db.close_async()).unwrap();
    assert_eq!(db.write(|_| Ok(())).unwrap_err().kind(), ErrorKind::Closed);
}

#[test]
fn a_future_that_is_dropped_has_done_nothing_before_it_was_polled_and_everything_after() {
    let db = Database::in_memory();
    drop(db.write_async(|tx| Ok(tx.spawn(Counter(1)))));
    assert!(db.view().unwrap().is_empty());
    {
        let mut started = pin!(db.write_async(|tx| Ok(tx.spawn(Counter(2)))));
        let _ = started.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    }
    let until = Instant::now() + Duration::from_secs(60);
    while db.view().unwrap().is_empty() {
        assert!(Instant::now() < until, "it never came");
        std::thread::yield_now();
    }
}

/// Ids that a rolled back transaction gave out, and the process was killed, or closed the database.
#[test]
fn ids_of_rolled_back_transactions_mean_no_other_entity_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut lost = std::collections::HashSet::new();
    for _ in 0..3 {
        let db = Database::open(dir.path()).unwrap();
        for n in [1, 3, 500] {
            let mut ids = Vec::new();
            let failed = db.write(|tx| -> Result<(), Abort> {
                ids.extend(tx.spawn_batch((0..n).map(Counter)));
                Err(GameOver.into())
            });
            assert!(failed.is_err());
            lost.extend(ids);
            let kept = db.write(|tx| Ok(tx.spawn(Counter(1)))).unwrap();
            assert!(!lost.contains(&kept), "{kept}");
        }
        let failed = db.write(|tx| -> Result<(), Abort> {
            lost.extend(tx.spawn_batch((0..2_000).map(Counter)));
            Err(GameOver.into())
        });
        assert!(failed.is_err());
        db.close().unwrap();
    }
    let db = Database::open(dir.path()).unwrap();
    let ids = db.write(|tx| Ok(tx.spawn_batch((0..5_000).map(Counter)))).unwrap();
    assert!(ids.iter().all(|id| !lost.contains(id)));
}

#[test]
fn many_refused_transactions_cost_the_next_commit_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let db = Database::builder(dir.path())
        .config(|config| config.wal.transaction_bytes_max = ecsdb::ByteSize(64 << 10))
        .open()
        .unwrap();
    let refused = db.write(|tx| Ok(tx.spawn_batch((0..30_000).map(Counter))));
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Call);
    let transactions = || db.stats().unwrap().log.unwrap().transactions;
    let before = transactions();
    for _ in 0..10_000 {
        let aborted = db.write(|tx| -> Result<(), Abort> {
            tx.spawn(Counter(1));
            Err(GameOver.into())
        });
        assert!(aborted.is_err());
    }
    db.write(|tx| Ok(tx.spawn(Counter(1)))).unwrap();
    assert!(transactions() - before < 200, "{}", transactions() - before);
}
