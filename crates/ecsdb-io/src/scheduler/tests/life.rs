//! Beginning and end.

use super::super::executor::execute;
use super::super::queues::Phase;
use super::*;
use crate::Urgency;
use tokio::runtime::Builder;

#[test]
fn dropping_everything_finishes_what_was_accepted() {
    let (scheduler, disk) = start(SchedulerOptions::default());
    let file = create(&scheduler, &disk, Priority::Archive, "f");
    for i in 0..1_000u64 {
        file.write_at(&i.to_le_bytes(), i * 9).unwrap();
    }
    drop(scheduler);
    drop(file);
    assert_eq!(writes(&disk).len(), 1_000);
    assert_eq!(disk.content("f").len(), 999 * 9 + 8);
}

#[test]
fn a_dropped_file_has_its_queued_writes_executed() {
    let (scheduler, disk) = start(SchedulerOptions::default());
    let _gate = close_gate(&scheduler, &disk);
    let file = create(&scheduler, &disk, Priority::Snapshot, "f");
    file.write_at(b"kept", 0).unwrap();
    // A failure that nobody is left to be told of does no harm to anybody.
    let failing = create(&scheduler, &disk, Priority::Snapshot, "failing");
    disk.fail("failing", crate::FileOp::Write, 1);
    failing.write_at(b"lost", 0).unwrap();
    drop((file, failing));
    disk.release("gate");
    scheduler.close();
    assert_eq!(disk.content("f"), b"kept");
    assert_eq!(writes(&disk).len(), 3);
}

#[test]
fn a_closed_scheduler_refuses_with_an_error_that_says_so() {
    let (scheduler, disk) = start(SchedulerOptions::default());
    let file = create(&scheduler, &disk, Priority::Snapshot, "f");
    file.write_at(b"x", 0).unwrap();
    scheduler.close();
    scheduler.close();
    assert_eq!(disk.content("f"), b"x");
    let results =
        [file.write_at(b"y", 0), file.sync_data(), file.set_len(0), file.read_exact_at(&mut [0], 0)];
    for result in results {
        let error = result.unwrap_err();
        assert!(error.to_string().contains("the I/O scheduler has stopped"), "{error}");
        for error in [error.duplicate(), error] {
            assert!(error.is_stopped() && !error.is_of_the_file(), "{error}: nothing was tried");
        }
    }
    assert_eq!(disk.content("f"), b"x");
}

#[test]
fn closing_does_not_wait_for_rate_limits() {
    let mut options = SchedulerOptions::default();
    options.rate_limits[Priority::Archive.index()] = Some(0);
    let (scheduler, disk) = start(options);
    let file = create(&scheduler, &disk, Priority::Archive, "f");
    file.write_at(b"held back", 0).unwrap();
    // The log goes on meanwhile.
    create(&scheduler, &disk, Priority::Log, "log").sync_data().unwrap();
    assert_eq!(disk.log(), ["sync log"]);
    scheduler.close();
    assert_eq!(disk.content("f"), b"held back");
}

#[test]
fn it_works_and_is_dropped_within_any_runtime() {
    for runtime in [Builder::new_current_thread().build(), Builder::new_multi_thread().build()] {
        runtime.unwrap().block_on(async {
            let (scheduler, disk) = start(SchedulerOptions::default());
            let file = create(&scheduler, &disk, Priority::Snapshot, "f");
            file.write_at(b"x", 0).unwrap();
            file.sync_data().unwrap();
            file.write_at(b"y", 1).unwrap();
            tokio::task::yield_now().await;
            drop(file);
            drop(scheduler);
            assert_eq!(disk.content("f"), b"xy");
        });
    }
}

#[test]
fn the_end_of_the_runtime_is_an_error_to_those_who_wait() {
    let scheduler = Scheduler::with(&SchedulerOptions::default());
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
    runtime.spawn(execute(scheduler.owner.shared.clone(), Urgency::of_caller(), on_tokio));
    let disk = Fake::default();
    let gate = close_gate(&scheduler, &disk);
    let file = create(&scheduler, &disk, Priority::Snapshot, "f");
    file.write_at(b"lost", 0).unwrap();
    std::thread::scope(|scope| {
        let waiting = [
            scope.spawn(|| file.sync_data()),
            scope.spawn(|| gate.sync_data()),
            scope.spawn(|| file.read_exact_at(&mut [0; 4], 0)),
        ];
        runtime.shutdown_background();
        // The gate's write is still under way, and names are not held up by it.
        while scheduler.owner.shared.queues.lock().phase != Phase::Stopped {
            std::thread::yield_now();
        }
        let vfs = scheduler.vfs(Arc::new(disk.clone()), Priority::Log);
        assert_eq!(vfs.file_len(Path::new("gate")).unwrap(), Some(0));
        vfs.rename(Path::new("gate"), Path::new("gate2")).unwrap();
        for waiting in waiting {
            let error = waiting.join().unwrap().unwrap_err();
            assert!(error.to_string().contains("stopped"), "{error}");
        }
        disk.release("gate");
    });
    assert!(file.write_at(b"x", 0).is_err());
    assert!(file.sync_data().is_err());
}
