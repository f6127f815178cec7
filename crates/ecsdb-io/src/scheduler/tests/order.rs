//! Who is served first, and what is merged.

use super::*;

#[test]
fn the_log_goes_first_whatever_was_queued_before() {
    let (scheduler, disk) = start(SchedulerOptions::default());
    let gate = close_gate(&scheduler, &disk);
    let files: Vec<_> = [
        (Priority::Archive, "archive"),
        (Priority::Snapshot, "snapshot"),
        (Priority::Log, "log"),
        (Priority::Recovery, "recovery"),
    ]
    .map(|(priority, name)| {
        let file = create(&scheduler, &disk, priority, name);
        // With gaps: nothing to merge.
        file.write_at(b"12", 0).unwrap();
        file.write_at(b"45", 3).unwrap();
        file
    })
    .into();
    disk.release("gate");
    files.iter().for_each(|file| file.sync_data().unwrap());
    gate.sync_data().unwrap();
    assert_eq!(
        writes(&disk),
        [
            "gate 0+4",
            "log 0+2",
            "log 3+2",
            "recovery 0+2",
            "recovery 3+2",
            "snapshot 0+2",
            "snapshot 3+2",
            "archive 0+2",
            "archive 3+2"
        ]
    );
}

#[test]
fn a_slow_write_holds_up_none_of_a_higher_class() {
    let (scheduler, disk) = start(SchedulerOptions::default());
    let files: Vec<_> = Priority::ALL
        .into_iter()
        .rev()
        .map(|priority| {
            let name = ["log", "recovery", "snapshot", "archive"][priority.index()];
            let file = create(&scheduler, &disk, priority, name);
            disk.hold(name);
            file.write_at(b"1", 0).unwrap();
            // It is under way while those below are.
            disk.await_held(name, 1);
            file
        })
        .collect();
    // And holds up those below, once they are done.
    disk.release("snapshot");
    files[1].write_at(b"2", 5).unwrap();
    for name in ["log", "recovery", "archive"] {
        disk.release(name);
    }
    files.iter().for_each(|file| file.sync_data().unwrap());
    let writes = writes(&disk);
    let at = |line: &str| writes.iter().position(|it| it == line).unwrap();
    assert_eq!(writes.len(), 5);
    assert!(at("recovery 0+1") < at("snapshot 5+1"), "{writes:?}");
    assert!(at("log 0+1") < at("snapshot 5+1"), "{writes:?}");
}

#[test]
fn within_a_priority_the_first_come_is_the_first_served() {
    let (scheduler, disk) = start(SchedulerOptions::default());
    let _gate = close_gate(&scheduler, &disk);
    let a = create(&scheduler, &disk, Priority::Snapshot, "a");
    let b = create(&scheduler, &disk, Priority::Snapshot, "b");
    a.write_at(b"1", 0).unwrap();
    b.write_at(b"1", 0).unwrap();
    b.write_at(b"2", 5).unwrap();
    a.write_at(b"2", 5).unwrap();
    disk.release("gate");
    a.sync_data().unwrap();
    b.sync_data().unwrap();
    assert_eq!(writes(&disk)[1..], ["a 0+1", "b 0+1", "b 5+1", "a 5+1"]);
}

#[test]
fn adjacent_writes_of_a_file_become_one_and_others_do_not() {
    let options = SchedulerOptions { merge_bytes_max: 100, ..SchedulerOptions::default() };
    let (scheduler, disk) = start(options);
    let _gate = close_gate(&scheduler, &disk);
    let a = create(&scheduler, &disk, Priority::Snapshot, "a");
    let b = create(&scheduler, &disk, Priority::Snapshot, "b");
    for i in 0..12u8 {
        a.write_at(&[i; 10], u64::from(i) * 10).unwrap();
        // Between them, and no hindrance.
        b.write_at(&[i; 3], u64::from(i) * 4).unwrap();
    }
    // Behind the end, before it, and larger than what is merged.
    a.write_at(b"x", 200).unwrap();
    a.write_at(b"y", 5).unwrap();
    a.write_at(&[9; 100], 6).unwrap();
    disk.release("gate");
    a.sync_data().unwrap();
    b.sync_data().unwrap();
    let of_a: Vec<String> = writes(&disk).into_iter().filter(|line| line.starts_with('a')).collect();
    assert_eq!(of_a, ["a 0+100", "a 100+20", "a 200+1", "a 5+1", "a 6+100"]);

    let mut expected: Vec<u8> = (0..12).flat_map(|i| [i; 10]).collect();
    expected.resize(201, 0);
    expected[200] = b'x';
    expected[5] = b'y';
    expected[6..106].fill(9);
    assert_eq!(disk.content("a"), expected);
    let stats = scheduler.stats()[Priority::Snapshot];
    assert_eq!((stats.writes_requested, stats.writes_executed), (15 + 12, 5 + 12));
    assert_eq!(stats.bytes_written, 120 + 1 + 1 + 100 + 36);
    assert_eq!((stats.queued_requests, stats.queued_bytes), (0, 0));
}

#[test]
fn large_parts_are_merged_by_reference_and_small_ones_by_copy_to_the_same_bytes() {
    let (scheduler, disk) = start(SchedulerOptions::default());
    let _gate = close_gate(&scheduler, &disk);
    let file = create(&scheduler, &disk, Priority::Snapshot, "f");
    let mut expected = Vec::new();
    for (i, len) in [1, 5_000, 100, 4_095, 4_096, 70_000, 1, 2, 60_000, 4_000, 4_000].into_iter().enumerate()
    {
        let bytes = vec![i as u8; len];
        file.write_at(&bytes, expected.len() as u64).unwrap();
        expected.extend_from_slice(&bytes);
    }
    disk.release("gate");
    file.sync_data().unwrap();
    assert_eq!(writes(&disk)[1..], [format!("f 0+{}", expected.len())]);
    assert_eq!(disk.content("f"), expected);
}

#[test]
fn a_read_sees_the_queued_writes_of_its_file() {
    let (scheduler, disk) = start(SchedulerOptions::default());
    let _gate = close_gate(&scheduler, &disk);
    let file = create(&scheduler, &disk, Priority::Snapshot, "f");
    file.write_at(b"queued", 0).unwrap();
    std::thread::scope(|scope| {
        let read = scope.spawn(|| {
            let mut bytes = [0; 6];
            file.read_exact_at(&mut bytes, 0).unwrap();
            bytes
        });
        let len = scope.spawn(|| file.len().unwrap());
        disk.release("gate");
        assert_eq!(&read.join().unwrap(), b"queued");
        assert_eq!(len.join().unwrap(), 6);
    });
    assert_eq!(scheduler.stats()[Priority::Snapshot].bytes_read, 6);
}

#[test]
fn reads_go_on_beside_a_write_that_hangs() {
    let (scheduler, disk) = start(SchedulerOptions::default());
    let file = create(&scheduler, &disk, Priority::Snapshot, "f");
    file.write_at(b"content", 0).unwrap();
    file.sync_data().unwrap();
    let _gate = close_gate(&scheduler, &disk);
    let mut bytes = [0; 7];
    file.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(&bytes, b"content");
    disk.release("gate");
}

#[test]
fn reads_that_hang_leave_a_place_to_every_higher_priority() {
    let (scheduler, disk) = start(SchedulerOptions::default());
    std::thread::scope(|scope| {
        for (held, (priority, name)) in [
            (2, (Priority::Archive, "archive")),
            (1, (Priority::Snapshot, "snapshot")),
            (1, (Priority::Recovery, "recovery")),
        ] {
            let file = create(&scheduler, &disk, priority, name);
            disk.hold(name);
            for _ in 0..4 {
                let file = file.clone();
                scope.spawn(move || file.read_at(&mut [0], 0).unwrap());
            }
            disk.await_held(name, held);
        }
        let log = create(&scheduler, &disk, Priority::Log, "log");
        log.write_at(b"x", 0).unwrap();
        log.read_exact_at(&mut [0], 0).unwrap();
        ["archive", "snapshot", "recovery"].iter().for_each(|name| disk.release(name));
    });
}
