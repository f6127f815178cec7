//! Waiting for what is under way: tickets and jobs as futures, calls of async code that would wait for themselves, and what an error
//! says may be done.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use ecsdb::prelude::*;
use ecsdb::{Error, SnapshotInfo, Ticket};

use crate::components::Counter;
use crate::held::hold;

/// What a future gives the first time and the second time it is asked to its end.
fn twice<F: Future + Unpin>(mut future: F) -> (F::Output, F::Output) {
    let mut end = || pollster::block_on(poll_fn(|context| Pin::new(&mut future).poll(context)));
    (end(), end())
}

/// It stayed pending for ever, or panicked.
#[test]
fn a_future_that_is_polled_after_its_end_says_so() {
    let dir = tempfile::tempdir().unwrap();
    for db in [Database::in_memory(), Database::open(dir.path()).unwrap()] {
        let (first, again) = twice(db.submit(|_| Ok(7)).unwrap());
        assert_eq!(first.unwrap(), 7);
        assert!(
            matches!(&again, Err(e @ Error::Finished("ticket")) if e.kind() == ErrorKind::Call),
            "{again:?}"
        );
    }
    let db = Database::open_existing(dir.path()).unwrap();
    let (first, again) = twice(db.snapshot().unwrap());
    assert_eq!(first.unwrap().lsn, db.lsn());
    assert!(matches!(again, Err(Error::Finished("job"))), "{again:?}");
}

#[test]
fn a_ticket_that_was_awaited_by_reference_has_given_its_value() {
    let db = Database::in_memory();
    let mut ticket = db.submit(|_| Ok(String::from("x"))).unwrap();
    assert_eq!(ticket.value().unwrap(), "x");
    assert_eq!(pollster::block_on(&mut ticket).unwrap(), "x");
    assert!(ticket.value().is_none());
    assert!(matches!(ticket.wait(), Err(Error::Finished("ticket"))));
}

#[test]
fn tickets_and_jobs_are_selected_and_joined_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let db = Database::open(dir.path()).unwrap();
        let mut ticket: Ticket<Entity> = db.submit(|tx| Ok(tx.spawn(Counter(1)))).unwrap();
        let mut ticks = 0;
        let entity = loop {
            tokio::select! {
                entity = &mut ticket => break entity.unwrap(),
                () = tokio::time::sleep(Duration::from_millis(1)) => ticks += 1,
            }
            assert!(ticks < 60_000, "the ticket is never fulfilled");
        };
        let (a, b) = (db.submit(|tx| Ok(tx.spawn(Counter(2)))).unwrap(), db.snapshot().unwrap());
        let (other, snapshot): (_, Result<SnapshotInfo, Error>) = tokio::join!(a, b);
        assert_ne!(other.unwrap(), entity);
        assert_eq!(snapshot.unwrap().lsn, Lsn(2));
    });
}

/// The work goes to another thread, which waited for the transaction that waited for it.
#[test]
fn async_calls_within_a_transaction_are_refused_and_do_not_wait_for_themselves() {
    let dir = tempfile::tempdir().unwrap();
    for db in [Database::in_memory(), Database::open(dir.path()).unwrap()] {
        let (sender, done) = std::sync::mpsc::channel();
        let inner = db.clone();
        std::thread::spawn(move || {
            let refused = inner.write(|tx| {
                tx.spawn(Counter(1));
                let nested = [
                    pollster::block_on(inner.write_async(|_| Ok(()))).unwrap_err(),
                    pollster::block_on(inner.write_async_with(Durability::Buffered, |_| Ok(()))).unwrap_err(),
                    pollster::block_on(inner.submit_async(|_| Ok(()))).map(drop).unwrap_err(),
                    pollster::block_on(inner.close_async()).unwrap_err(),
                ];
                assert!(nested.iter().all(|e| matches!(e, Error::Nested)), "{nested:?}");
                Ok(pollster::block_on(inner.sync_async())?)
            });
            sender.send(refused.map_err(|e| e.to_string())).unwrap();
        });
        let synced = done.recv_timeout(Duration::from_secs(60)).expect("it waits for itself");
        assert_eq!(synced, Ok(Lsn(0)));
        assert_eq!(db.view().unwrap().len(), 1, "and the transaction goes on");
    }
}

/// The future was dropped while another writer had its turn: the transaction had begun to wait, and commits.
#[test]
fn a_future_that_is_dropped_while_it_waits_for_a_writer_commits_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let db = Database::open(dir.path()).unwrap();
    runtime.block_on(async {
        std::thread::scope(|scope| {
            let release = hold(scope, &db);
            let mut waiting = Box::pin(db.write_async(|tx| Ok(tx.spawn(Counter(1)))));
            let polled =
                pollster::block_on(poll_fn(|context| Poll::Ready(waiting.as_mut().poll(context).is_ready())));
            assert!(!polled);
            drop(waiting);
            release.send(()).unwrap();
        });
    });
    // Nor does the end of the runtime keep it from that.
    drop(runtime);
    let until = std::time::Instant::now() + Duration::from_secs(60);
    while db.view().unwrap().is_empty() {
        assert!(std::time::Instant::now() < until, "it never came");
        std::thread::yield_now();
    }
}

#[test]
fn an_error_of_background_work_says_what_may_be_done_about_its_cause() {
    let dir = tempfile::tempdir().unwrap();
    let db = Database::open(dir.path().join("world")).unwrap();
    db.write(|tx| Ok(tx.spawn(Counter(1)))).unwrap();
    std::fs::create_dir(dir.path().join("full")).unwrap();
    std::fs::write(dir.path().join("full/file"), "x").unwrap();
    let kind = |job: ecsdb::Result<ecsdb::Job<SnapshotInfo>>| job.unwrap().wait().unwrap_err().kind();
    assert_eq!(kind(db.backup_to(dir.path().join("full"))), ErrorKind::AlreadyExists);
    assert_eq!(kind(db.backup_to(dir.path().join("world/log/copy"))), ErrorKind::Call);
    assert_eq!(kind(db.restore_to(dir.path().join("new"), Moment::Lsn(Lsn(99)))), ErrorKind::NotFound);
    let other = Database::open(dir.path().join("other")).unwrap();
    let locked = db.restore_from(dir.path().join("other"), Moment::Latest).unwrap().wait().unwrap_err();
    assert_eq!(locked.kind(), ErrorKind::Locked);
    drop(other);
    let job = db.compact().unwrap();
    job.cancel();
    if let Err(e) = job.wait() {
        assert_eq!(e.kind(), ErrorKind::Cancelled, "{e}");
    }
    db.close().unwrap();
    assert_eq!(db.snapshot().unwrap_err().kind(), ErrorKind::Closed);
}

#[derive(Debug, PartialEq, thiserror::Error)]
#[error("{0} gold is not enough")]
struct TooPoor(u32);

#[test]
fn an_own_error_comes_back_by_value() {
    let db = Database::in_memory();
    let refused = db.write(|_| -> Result<(), Abort> { Err(TooPoor(3).into()) }).unwrap_err();
    let refused = refused.downcast::<std::fmt::Error>().unwrap_err();
    assert_eq!(refused.downcast::<TooPoor>().unwrap(), TooPoor(3));
}
