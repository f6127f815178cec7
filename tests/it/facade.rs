//! What the facade promises, on the real disk.

use std::sync::Arc;
use std::time::Duration;

use ecsdb::prelude::*;
use ecsdb::{Error, LogError, Lsn};

use crate::components::{Cache, Counter, Name, Position};

#[test]
fn everything_stored_is_there_after_reopening_and_transient_components_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let db = Database::open(dir.path()).unwrap();
    let (a, b) = db
        .write(|tx| {
            let a = tx.spawn((Position { x: 1.0, y: 2.0 }, Name("a".into()), Cache(vec![1])));
            let b = tx.spawn(Counter(7));
            tx.insert_resource(Name("world".into()));
            Ok((a, b))
        })
        .unwrap();
    let digest = db.view().unwrap().digest().unwrap();
    db.close().unwrap();
    assert!(matches!(db.write(|_| Ok(())), Err(Error::Closed)));

    for snapshot in [false, true, false] {
        let db = Database::open(dir.path()).unwrap();
        let view = db.view().unwrap();
        assert_eq!(view.digest().unwrap(), digest);
        assert_eq!(view.get::<Position>(a).unwrap().y, 2.0);
        assert_eq!(view.get::<Name>(a).unwrap().0, "a");
        assert!(view.get::<Cache>(a).is_err());
        assert_eq!(view.get::<Counter>(b).unwrap().0, 7);
        assert_eq!(view.resource::<Name>().unwrap().0, "world");
        if snapshot {
            assert_eq!(db.snapshot().unwrap().wait().unwrap().lsn, Lsn(1));
        }
    }
}

#[test]
fn a_second_opening_is_refused_and_names_the_holder() {
    let dir = tempfile::tempdir().unwrap();
    let db = Database::open(dir.path()).unwrap();
    let refused = Database::open(dir.path()).unwrap_err().to_string();
    assert!(refused.contains(&format!("process {}", std::process::id())), "{refused}");
    drop(db);
    Database::open(dir.path()).unwrap();
}

#[test]
fn errors_and_panics_roll_back_and_the_database_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let db = Database::open(dir.path()).unwrap();
    let entity = db.write(|tx| Ok(tx.spawn(Counter(1)))).unwrap();
    let failed: ecsdb::Result<()> = db.write(|tx| {
        tx.get_mut::<Counter>(entity)?.0 = 2;
        tx.despawn(entity)?;
        Err(Abort::new("no"))
    });
    assert!(matches!(failed, Err(Error::Aborted(_))));
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        db.write(|tx| -> Result<(), Abort> {
            tx.get_mut::<Counter>(entity)?.0 = 3;
            panic!("meant");
        })
    }));
    assert!(panicked.is_err());
    assert_eq!(db.view().unwrap().get::<Counter>(entity).unwrap().0, 1);
    db.write(|tx| Ok(tx.get_mut::<Counter>(entity)?.0 += 10)).unwrap();
    assert_eq!(db.view().unwrap().get::<Counter>(entity).unwrap().0, 11);
    assert!(matches!(db.write(|_| Ok(db.write(|_| Ok(()))?)), Err(Error::Nested)));
}

#[test]
fn views_keep_their_picture_while_writers_go_on() {
    let db = Database::in_memory();
    assert!(db.latest_view().is_none());
    let entity = db.write(|tx| Ok(tx.spawn(Counter(1)))).unwrap();
    let view = db.view().unwrap();
    db.write(|tx| Ok(tx.get_mut::<Counter>(entity)?.0 = 2)).unwrap();
    assert_eq!(view.get::<Counter>(entity).unwrap().0, 1);
    assert_eq!(db.latest_view().unwrap().get::<Counter>(entity).unwrap().0, 1);
    // Statistics take none that anybody keeps.
    assert_eq!(db.stats().unwrap().entities, 1);
    assert_eq!(db.latest_view().unwrap().get::<Counter>(entity).unwrap().0, 1);
    drop(view);
    assert!(db.latest_view().is_none());
    assert!(matches!(db.snapshot(), Err(Error::InMemory(_))));
}

#[test]
fn batched_and_buffered_commits_become_durable_by_themselves_and_by_closing() {
    let dir = tempfile::tempdir().unwrap();
    let db = Database::open(dir.path()).unwrap();
    db.write_with(Durability::Batched, |tx| Ok(tx.spawn(Counter(1)))).unwrap();
    let started = std::time::Instant::now();
    while db.durable_lsn() < Lsn(1) {
        assert!(started.elapsed() < Duration::from_secs(30), "a batched commit never became durable");
        std::thread::sleep(Duration::from_millis(1));
    }
    db.write_with(Durability::Buffered, |tx| Ok(tx.spawn(Counter(2)))).unwrap();
    assert_eq!(db.lsn(), Lsn(2));
    drop(db);
    let db = Database::open(dir.path()).unwrap();
    assert_eq!((db.view().unwrap().len(), db.lsn(), db.durable_lsn()), (2, Lsn(2), Lsn(2)));
}

#[test]
fn many_threads_commit_and_nothing_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let db = Database::open(dir.path()).unwrap();
    let shared = db.write(|tx| Ok(tx.spawn(Counter(0)))).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..50 {
                    db.write(|tx| Ok(tx.get_mut::<Counter>(shared)?.0 += 1)).unwrap();
                }
            });
        }
    });
    drop(db);
    let db = Database::open(dir.path()).unwrap();
    assert_eq!(db.view().unwrap().get::<Counter>(shared).unwrap().0, 400);
}

#[test]
fn tickets_are_awaited_inside_a_runtime_and_dropping_one_cancels_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        let db = Database::open(dir.path()).unwrap();
        let mut tasks = Vec::new();
        for i in 0..100u64 {
            let db = db.clone();
            tasks.push(tokio::spawn(async move { db.write_async(move |tx| Ok(tx.spawn(Counter(i)))).await }));
        }
        for task in tasks {
            task.await.unwrap().unwrap();
        }
        assert!(db.durable_lsn() >= Lsn(100));
        drop(db.submit(|tx| Ok(tx.spawn(Counter(100)))).unwrap());
        // Closing inside a runtime neither panics nor loses the dropped ticket's transaction.
        drop(db);
    });
    assert_eq!(Database::open(dir.path()).unwrap().view().unwrap().len(), 101);
}

#[test]
fn a_transaction_over_the_limit_is_refused_and_rolled_back() {
    let dir = tempfile::tempdir().unwrap();
    let db = Database::builder(dir.path())
        .config(|config| config.wal.transaction_bytes_max = bytesize(64 << 10))
        .open()
        .unwrap();
    let refused = db.write(|tx| Ok(tx.spawn(Name("x".repeat(70_000)))));
    assert!(matches!(refused, Err(Error::Log(LogError::TransactionTooLarge { .. }))), "{refused:?}");
    assert!(db.view().unwrap().is_empty());
    db.write(|tx| Ok(tx.spawn(Name("x".repeat(60_000))))).unwrap();
}

fn bytesize(bytes: u64) -> ecsdb::ByteSize {
    ecsdb::ByteSize(bytes)
}

#[test]
fn a_handle_is_send_and_sync() {
    fn assert<T: Send + Sync + Clone>(_: &T) {}
    let db = Database::in_memory();
    assert(&db);
    assert(&Arc::new(db.view().unwrap()));
}
