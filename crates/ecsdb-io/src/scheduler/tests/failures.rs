//! What a failure does to the file it happened to, and to no other.

use super::*;
use crate::error::FileOp;
use crate::publish::publish;
use crate::vfs::OpenMode;

#[test]
fn a_failed_write_fails_the_barrier_and_every_later_change_and_is_not_tried_again() {
    // WAL-5
    let (scheduler, disk) = start(SchedulerOptions::default());
    let file = create(&scheduler, &disk, Priority::Snapshot, "f");
    let other = create(&scheduler, &disk, Priority::Snapshot, "other");
    file.write_at(b"good", 0).unwrap();
    file.sync_data().unwrap();
    other.write_at(b"fine", 0).unwrap();
    disk.fail("f", FileOp::Write, 1);
    file.write_at(b"bad", 30).unwrap();
    let error = file.sync_data().unwrap_err();
    assert!(error.is_full_disk(), "{error}");
    assert_eq!((error.op, error.path.as_path()), (FileOp::Write, Path::new("f")));
    let before = disk.log();
    for result in [file.write_at(b"x", 0), file.sync_data(), file.set_len(0), file.sync_data()] {
        assert!(result.unwrap_err().is_full_disk());
    }
    assert_eq!(disk.log(), before);
    let mut bytes = [0; 4];
    file.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(&bytes, b"good");
    assert_eq!(file.len().unwrap(), 4);
    other.sync_data().unwrap();
    assert_eq!(disk.content("other"), b"fine");
}

#[test]
fn what_is_queued_behind_a_failed_write_is_given_up() {
    let (scheduler, disk) = start(SchedulerOptions::default());
    let _gate = close_gate(&scheduler, &disk);
    let file = create(&scheduler, &disk, Priority::Snapshot, "f");
    disk.fail("f", FileOp::Write, 1);
    for i in 0..5 {
        file.write_at(b"x", i * 10).unwrap();
    }
    std::thread::scope(|scope| {
        let waiting = [
            scope.spawn(|| file.sync_data()),
            scope.spawn(|| file.set_len(3)),
            scope.spawn(|| file.sync_data()),
        ];
        disk.release("gate");
        for waiting in waiting {
            assert!(waiting.join().unwrap().unwrap_err().is_full_disk());
        }
    });
    assert_eq!(disk.log(), ["write gate 0+4", "write f 0+1"]);
    assert_eq!(file.len().unwrap(), 0);
}

#[test]
fn a_failed_sync_is_never_tried_again() {
    // WAL-5
    let (scheduler, disk) = start(SchedulerOptions::default());
    let file = create(&scheduler, &disk, Priority::Log, "f");
    disk.fail("f", FileOp::Sync, 1);
    file.write_at(b"x", 0).unwrap();
    for _ in 0..3 {
        assert_eq!(file.sync_data().unwrap_err().op, FileOp::Sync);
    }
    assert_eq!(file.write_at(b"x", 0).unwrap_err().op, FileOp::Sync);
    assert_eq!(disk.log(), ["write f 0+1", "sync f"]);
    // Another handle is another matter.
    let again =
        scheduler.vfs(Arc::new(disk), Priority::Log).open(Path::new("f"), OpenMode::ReadWrite).unwrap();
    again.sync_data().unwrap();
}

#[test]
fn a_failed_change_of_length_is_told_and_forgotten() {
    let (scheduler, disk) = start(SchedulerOptions::default());
    let file = create(&scheduler, &disk, Priority::Log, "f");
    disk.fail("f", FileOp::SetLen, 1);
    assert!(file.set_len(10).unwrap_err().is_full_disk());
    file.write_at(b"x", 0).unwrap();
    file.set_len(5).unwrap();
    file.sync_data().unwrap();
    assert_eq!(disk.content("f"), b"x\0\0\0\0");
}

#[test]
fn a_rename_waits_for_the_queued_writes_and_returns_their_failure() {
    let (scheduler, disk) = start(SchedulerOptions::default());
    let vfs = scheduler.vfs(Arc::new(disk.clone()), Priority::Snapshot);
    let gate = close_gate(&scheduler, &disk);
    let file = vfs.create(Path::new("a")).unwrap();
    file.write_at(b"x", 0).unwrap();
    std::thread::scope(|scope| {
        let rename = scope.spawn(|| vfs.rename(Path::new("a"), Path::new("b")));
        disk.release("gate");
        rename.join().unwrap().unwrap();
    });
    assert_eq!(disk.log()[1..], ["write a 0+1", "rename a b"]);
    assert_eq!(disk.content("b"), b"x");

    // Under its new name; the fake file fails under its old one.
    disk.fail("a", FileOp::Write, 1);
    file.write_at(b"y", 5).unwrap();
    drop(file);
    assert_eq!(vfs.file_len(Path::new("b")).unwrap(), Some(1));

    let file = vfs.create(Path::new("c")).unwrap();
    disk.fail("c", FileOp::Write, 1);
    file.write_at(b"y", 0).unwrap();
    for _ in 0..2 {
        assert!(vfs.rename(Path::new("c"), Path::new("d")).unwrap_err().is_full_disk());
    }

    // And when the handle is gone already.
    disk.hold("e");
    let file = vfs.create(Path::new("e")).unwrap();
    disk.fail("e", FileOp::Write, 1);
    file.write_at(b"y", 0).unwrap();
    drop(file);
    std::thread::scope(|scope| {
        let rename = scope.spawn(|| vfs.rename(Path::new("e"), Path::new("f")));
        while scheduler.stats()[Priority::Snapshot].queued_requests < 2 {
            std::thread::yield_now();
        }
        disk.release("e");
        assert!(rename.join().unwrap().unwrap_err().is_full_disk());
    });
    gate.sync_data().unwrap();
}

#[test]
fn looking_at_a_file_by_name_sees_its_queued_writes() {
    let (scheduler, disk) = start(SchedulerOptions::default());
    let vfs = scheduler.vfs(Arc::new(disk.clone()), Priority::Snapshot);
    let file = vfs.create(Path::new("dir/f")).unwrap();
    for i in 1..200 {
        file.write_at(b"x", i * 2 - 1).unwrap();
        let len = match i % 3 {
            0 => vfs.file_len(Path::new("dir/f")).unwrap().unwrap(),
            1 => vfs.read_dir(Path::new("dir")).unwrap()[0].len,
            _ => vfs.open(Path::new("dir/f"), OpenMode::Read).unwrap().len().unwrap(),
        };
        assert_eq!(len, i * 2);
    }
}

#[test]
fn a_removed_file_still_takes_its_writes_and_a_new_one_of_its_name_is_another() {
    let (scheduler, disk) = start(SchedulerOptions::default());
    let vfs = scheduler.vfs(Arc::new(disk.clone()), Priority::Snapshot);
    let _gate = close_gate(&scheduler, &disk);
    let old = vfs.create(Path::new("f")).unwrap();
    old.write_at(b"old", 0).unwrap();
    vfs.remove(Path::new("f")).unwrap();
    let new = vfs.create(Path::new("f")).unwrap();
    new.write_at(b"new", 1).unwrap();
    disk.release("gate");
    old.sync_data().unwrap();
    new.sync_data().unwrap();
    assert_eq!(writes(&disk)[1..], ["f 0+3", "f 1+3"]);
    assert_eq!(disk.content("f"), b"\0new");
}

#[test]
fn a_publish_through_the_scheduler_syncs_before_it_renames() {
    // CKP-2
    let (scheduler, disk) = start(SchedulerOptions::default());
    let vfs = scheduler.vfs(Arc::new(disk.clone()), Priority::Snapshot);
    publish(&*vfs, Path::new("f"), |file| {
        file.write_at(b"12", 0)?;
        file.write_at(b"45", 3)
    })
    .unwrap();
    assert_eq!(
        disk.log(),
        ["write f.tmp 0+2", "write f.tmp 3+2", "sync f.tmp", "rename f.tmp f", "sync_dir"]
    );

    disk.fail("g.tmp", FileOp::Write, 1);
    let failed = publish(&*vfs, Path::new("g"), |file| file.write_at(b"lost", 0));
    assert!(failed.unwrap_err().is_full_disk());
    assert_eq!(vfs.file_len(Path::new("g")).unwrap(), None);
    assert_eq!(vfs.file_len(Path::new("g.tmp")).unwrap(), None);
}

#[test]
fn a_file_that_panics_fails_alone() {
    let (scheduler, disk) = start(SchedulerOptions::default());
    let file = create(&scheduler, &disk, Priority::Log, "f");
    let other = create(&scheduler, &disk, Priority::Log, "other");
    disk.panic();
    let error = file.sync_data().unwrap_err();
    assert!(error.to_string().contains("panicked"), "{error}");
    disk.panic();
    assert!(other.read_at(&mut [0], 0).is_err());
    other.write_at(b"x", 0).unwrap();
    other.sync_data().unwrap();
}
