//! How much may be queued, and what becomes of those who wait.

use super::*;

fn bounded() -> (Scheduler, Fake) {
    start(SchedulerOptions { queue_bytes_max: 100, ..SchedulerOptions::default() })
}

#[test]
fn writers_wait_while_the_queue_is_full() {
    let (scheduler, disk) = bounded();
    let _gate = close_gate(&scheduler, &disk);
    let file = create(&scheduler, &disk, Priority::Snapshot, "f");
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for i in 0..50u8 {
                file.write_at(&[i; 30], u64::from(i) * 30).unwrap();
            }
        });
        // Full: a fourth one does not fit.
        while scheduler.stats()[Priority::Snapshot].queued_bytes < 90 {
            std::thread::yield_now();
        }
        for _ in 0..1_000 {
            assert_eq!(scheduler.stats()[Priority::Snapshot].queued_bytes, 90);
            assert!(!writer.is_finished());
            std::thread::yield_now();
        }
        // The other priorities have their own bounds.
        create(&scheduler, &disk, Priority::Log, "log").write_at(&[1; 90], 0).unwrap();
        disk.release("gate");
    });
    file.sync_data().unwrap();
    let expected: Vec<u8> = (0..50).flat_map(|i| [i; 30]).collect();
    assert_eq!(disk.content("f"), expected);
}

#[test]
fn a_write_larger_than_the_bound_passes_alone() {
    let (scheduler, disk) = bounded();
    let _gate = close_gate(&scheduler, &disk);
    let file = create(&scheduler, &disk, Priority::Snapshot, "f");
    file.write_at(&[1; 1_000], 0).unwrap();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| file.write_at(&[2; 1_000], 1_000).unwrap());
        for _ in 0..1_000 {
            assert!(!writer.is_finished());
            std::thread::yield_now();
        }
        disk.release("gate");
    });
    file.sync_data().unwrap();
    assert_eq!(disk.content("f"), [[1; 1_000], [2; 1_000]].concat());
}

#[test]
fn a_writer_that_waits_gets_an_error_when_the_scheduler_closes_and_nothing_accepted_is_lost() {
    let (scheduler, disk) = bounded();
    let _gate = close_gate(&scheduler, &disk);
    let file = create(&scheduler, &disk, Priority::Snapshot, "f");
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            (0..100u8).find_map(|i| file.write_at(&[i; 30], u64::from(i) * 30).err().map(|e| (i, e)))
        });
        while scheduler.stats()[Priority::Snapshot].queued_bytes < 90 {
            std::thread::yield_now();
        }
        let closer = scope.spawn(|| scheduler.close());
        // The gate is still closed.
        let (accepted, error) = writer.join().unwrap().unwrap();
        assert_eq!(accepted, 3);
        assert!(error.to_string().contains("stopped"), "{error}");
        disk.release("gate");
        closer.join().unwrap();
    });
    assert_eq!(disk.content("f"), (0..3).flat_map(|i| [i; 30]).collect::<Vec<u8>>());
}

#[test]
fn a_writer_that_waits_gets_the_failure_of_its_file() {
    let (scheduler, disk) = bounded();
    let file = create(&scheduler, &disk, Priority::Snapshot, "f");
    disk.hold("f");
    disk.fail("f", crate::FileOp::Write, 1);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| (0..100).find_map(|i| file.write_at(&[0; 30], i * 31).err()).unwrap());
        while scheduler.stats()[Priority::Snapshot].queued_bytes < 90 {
            std::thread::yield_now();
        }
        disk.release("f");
        assert!(writer.join().unwrap().is_full_disk());
    });
    assert_eq!(writes(&disk), ["f 0+30"]);
    let stats = scheduler.stats()[Priority::Snapshot];
    assert_eq!((stats.queued_requests, stats.queued_bytes, stats.bytes_written), (0, 0, 0));
}
