//! A disk that is really full: a small file system of its own, ext4 in a file or else memory. Needs the right to mount; the
//! simulated disk covers the same ground without (`crash_lifecycle`).

use std::io::Write;
use std::path::Path;
use std::process::Command;

use ecsdb::prelude::*;
use ecsdb::{ByteSize, Error, Event, LogError, Moment, PersistenceConfig};
use ecsdb_tests::reconfigure;

use crate::components::{Counter, Name};

/// A mounted file system; unmounted when dropped.
struct Mounted(tempfile::TempDir);

impl Mounted {
    fn small() -> Option<(Mounted, &'static str)> {
        let dir = tempfile::tempdir().unwrap();
        let (image, target) = (dir.path().join("image"), dir.path().join("disk"));
        std::fs::create_dir(&target).unwrap();
        let run = |program: &str, arguments: &[&str]| {
            let ran = Command::new(program).args(arguments).arg(&target).output();
            ran.is_ok_and(|output| output.status.success())
        };
        let file = std::fs::File::create(&image).unwrap();
        file.set_len(24 << 20).unwrap();
        let image = image.to_str().unwrap();
        let made = Command::new("mkfs.ext4").args(["-q", "-O", "^has_journal", image]).output();
        if made.is_ok_and(|output| output.status.success()) && run("mount", &["-o", "loop", image]) {
            return Some((Mounted(dir), "ext4"));
        }
        let memory = run("mount", &["-t", "tmpfs", "-o", "size=24m", "tmpfs"]);
        memory.then_some((Mounted(dir), "tmpfs"))
    }

    fn path(&self) -> std::path::PathBuf {
        self.0.path().join("disk")
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(self.path()).status();
        assert!(unmounted.is_ok_and(|status| status.success()), "{} stays mounted", self.path().display());
    }
}

fn open(dir: &Path) -> Database {
    Database::builder(dir)
        .config(|config| {
            config.wal.segment_bytes_first = ByteSize(256 << 10);
            config.wal.segment_bytes_max = ByteSize(1 << 20);
            config.manual();
        })
        .open()
        .unwrap()
}

#[test]
fn commits_fail_reads_go_on_nothing_acknowledged_is_lost_and_after_freeing_space_it_goes_on() {
    let Some((disk, kind)) = Mounted::small() else {
        println!("SKIPPED: no right to mount a small file system here");
        return;
    };
    println!("on {kind}");
    let (ballast, world) = (disk.path().join("ballast"), disk.path().join("world"));
    std::fs::write(&ballast, vec![1; 8 << 20]).unwrap();
    let db = open(&world);
    let mut acknowledged = 0u64;
    let error = loop {
        let written = db.write(|tx| Ok(tx.spawn((Counter(acknowledged), Name("x".repeat(20_000))))));
        match written {
            Ok(_) => acknowledged += 1,
            Err(e) => break e,
        }
        assert!(acknowledged < 10_000, "the disk never gets full");
    };
    assert!(matches!(error, Error::Log(LogError::DiskFull { .. })) && error.is_full_disk(), "{error}");
    assert!(error.to_string().contains("Free space"), "{error}");
    assert!(acknowledged > 100, "{acknowledged}");
    assert!(db.view().unwrap().len() as u64 >= acknowledged, "reads go on");
    assert!(db.write(|tx| Ok(tx.spawn(Counter(0)))).unwrap_err().is_full_disk());
    assert!(db.close().unwrap_err().is_full_disk());
    drop(db);

    std::fs::remove_file(&ballast).unwrap();
    let db = open(&world);
    let view = db.view().unwrap();
    let there: std::collections::BTreeSet<u64> = view.query::<&Counter>().unwrap().map(|c| c.0).collect();
    assert!(
        (0..acknowledged).all(|i| there.contains(&i)),
        "acknowledged {acknowledged}, there {}",
        there.len()
    );
    db.write(|tx| Ok(tx.spawn(Counter(u64::MAX)))).unwrap();

    // A snapshot that finds no room is tried again by itself, and commits do not care.
    let mut filling = std::fs::File::create(&ballast).unwrap();
    while filling.write_all(&[1; 4096]).and_then(|()| filling.sync_all()).is_ok() {}
    let mut events = db.events();
    reconfigure(&db, |config| {
        config.snapshot.after_transactions = 1;
    })
    .unwrap();
    db.write_with(Durability::Batched, |tx| Ok(tx.spawn(Counter(1)))).unwrap();
    let mut failed = false;
    loop {
        match events.blocking_next().unwrap() {
            Event::Failed { error, retry_in, .. } => {
                assert!(retry_in.is_some(), "{error}");
                failed = true;
                // Room again: the next try succeeds without anybody reopening anything.
                filling.set_len(0).unwrap();
            }
            Event::SnapshotTaken(_) => break,
            _ => {}
        }
    }
    assert!(failed, "there was room after all");
    db.close().unwrap();
    assert_eq!(open(&world).view().unwrap().len(), there.len() + 2);
}

/// REC-15: nothing is written where nothing can be, and nothing has to be.
#[test]
fn a_read_only_file_system_can_be_looked_at_verified_and_restored_from() {
    let Some((disk, kind)) = Mounted::small() else {
        println!("SKIPPED: no right to mount a small file system here");
        return;
    };
    println!("on {kind}");
    let (world, copies) = (disk.path().join("world"), tempfile::tempdir().unwrap());
    let db = open(&world);
    db.write(|tx| Ok(tx.spawn_batch((0..100).map(Counter)))).unwrap();
    let digest = db.view().unwrap().digest().unwrap();
    db.close().unwrap();
    // An open handle for writing would be in the way.
    drop(db);
    // With and without a lock file that could be locked for reading.
    for locked in [true, false] {
        if !locked {
            std::fs::remove_file(world.join("LOCK")).unwrap();
        }
        let remount = |how: &str| {
            let run = Command::new("mount").args(["-o", &format!("remount,{how}")]).arg(disk.path()).status();
            assert!(run.unwrap().success(), "remounting");
        };
        remount("ro");
        let looked = Database::open_read_only(&world).unwrap();
        assert_eq!(looked.view().unwrap().digest().unwrap(), digest);
        let config = PersistenceConfig::new(&world);
        let verified = ecsdb::verify(&config, |_| {}).unwrap();
        assert!(verified.faults.is_empty() && verified.locked == locked, "{verified:?}");
        let copy = copies.path().join(locked.to_string());
        ecsdb::restore_copy(&config, &copy, Moment::Latest, |_| {}).unwrap();
        assert_eq!(Database::open(&copy).unwrap().view().unwrap().digest().unwrap(), digest);
        assert!(Database::open(&world).is_err());
        remount("rw");
    }
    assert_eq!(open(&world).view().unwrap().digest().unwrap(), digest);
}
