//! What rots on the disk while the database is open, or is read otherwise once.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ecsdb::prelude::*;
use ecsdb::{Around, Hooks};
use ecsdb::{PersistenceConfig, Policy};
use ecsdb_io::Layout;
use ecsdb_recovery::{Existence, Options, Step, recover};
use ecsdb_sim::{CrashVariant, SimDisk};
use ecsdb_tests::components::{Counter, Name};
use ecsdb_tests::crashed::{self, DIR, builder, files};

use crate::lifecycle::{State, archiving, by_hand, large, state};

fn full(config: &mut PersistenceConfig) {
    config.snapshot.chain_max = 1;
}

/// The database as it opens on what the disk of one that was killed has.
fn reopened(disk: &SimDisk) -> ecsdb::Result<State> {
    builder(&disk.crash(CrashVariant::KEPT), by_hand).open().map(|db| state(&db))
}

/// The blocks of the newest snapshot, a full one, are damaged, nothing was committed since, and it is compacted: what is whole stays until what takes
/// its place is.
#[test]
fn a_compaction_does_not_drop_what_is_whole_for_what_is_damaged() {
    let disk = crashed::disk(1);
    let db = builder(&disk, by_hand).config(full).open().unwrap();
    let mut last = (db.lsn(), db.view().unwrap().digest().unwrap());
    for i in 0..4 {
        last = large(&db, i);
        db.snapshot().unwrap().wait().unwrap();
    }
    let newest = files(&disk, ".snap").pop().unwrap();
    disk.corrupt(&newest, 20_000, &[7; 40]).unwrap();
    assert_eq!(reopened(&disk).unwrap(), last);
    db.compact().unwrap().wait().unwrap();
    assert_eq!(files(&disk, ".snap").len(), 1);
    assert_eq!(reopened(&disk).unwrap(), last);
}

/// A snapshot that is asked for is there: if the newest one, of the same state, is gone, it is written again.
#[test]
fn no_snapshot_is_told_that_is_not_there() {
    let disk = crashed::disk(1);
    let db = builder(&disk, by_hand).config(full).open().unwrap();
    for i in 0..3 {
        large(&db, i);
    }
    let first = db.snapshot().unwrap().wait().unwrap();
    let last = large(&db, 3);
    db.snapshot().unwrap().wait().unwrap();
    let newest = files(&disk, ".snap").pop().unwrap();
    disk.erase(&newest).unwrap();
    let again = db.snapshot().unwrap().wait().unwrap();
    assert!(again.sequence > first.sequence && disk.read(crashed::snapshot_file(again.sequence)).is_ok());
    assert_eq!(reopened(&disk).unwrap(), last);
}

/// Gives one bit of the n-th read of a file with such a name otherwise.
struct Otherwise {
    name: &'static str,
    read: u64,
    reads: AtomicU64,
    bit: u64,
}

impl Hooks for Otherwise {
    fn given(&self, path: &Path, bytes: &mut [u8]) {
        if path.to_string_lossy().ends_with(self.name)
            && self.reads.fetch_add(1, Ordering::Relaxed) == self.read
        {
            // Within what is not zero, from its end.
            let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at as u64 + 1);
            if let Some(byte) = bytes.get_mut(end.saturating_sub(1 + self.bit / 8) as usize) {
                *byte ^= 1 << (self.bit % 8);
            }
        }
    }
}

/// What an opening reads otherwise once is not made to last: afterwards all is there.
#[test]
fn a_bit_that_is_given_otherwise_once_loses_nothing() {
    let mut random = fastrand::Rng::with_seed(1);
    for closed in [false, true] {
        let disk = crashed::disk(1);
        let db = builder(&disk, archiving).config(full).open().unwrap();
        for i in 0..6 {
            large(&db, i);
            if i % 2 == 1 {
                db.snapshot().unwrap().wait().unwrap();
            }
        }
        for i in 0..4 {
            db.write(|tx| Ok(tx.spawn((Counter(i), Name("n".repeat(300)))))).map(drop).unwrap();
        }
        let last = state(&db).1;
        if closed {
            db.close().unwrap();
        }
        disk.power_off();
        drop(db);
        for name in [".seg", ".manifest", ".snap", ".zst"] {
            for read in (0..40).flat_map(|read| [read; 4]) {
                let disk = disk.crash(CrashVariant::KEPT);
                let bit = [random.u64(..8_000), random.u64(..800)][random.usize(..2)];
                for policy in [Policy::TruncateTail, Policy::Salvage] {
                    let media: Arc<dyn ecsdb::Vfs> = Arc::new(Around::new(
                        disk.vfs(),
                        Otherwise { name, read, reads: AtomicU64::new(0), bit },
                    ));
                    let what = format!("closed {closed}, {policy:?}, read {read} of {name}, bit {bit}");
                    let opened = Database::builder(DIR).vfs(media).without_threads().policy(policy);
                    let opened = opened.config(archiving).open();
                    if let Ok(db) = opened {
                        assert_eq!(state(&db).1, last, "{what}: {}", db.recovery_report().unwrap());
                    }
                    let after = builder(&disk.crash(CrashVariant::KEPT), archiving).open();
                    let after = after.unwrap_or_else(|e| panic!("{what}: {e}"));
                    assert_eq!(state(&after).1, last, "{what}: {}", after.recovery_report().unwrap());
                }
            }
        }
    }
}

/// A salvage ends although a stranger's segment lies in the archive, which nobody has claimed yet.
#[test]
fn a_strangers_file_in_the_archive_stops_no_salvage() {
    let (disk, other) = (crashed::disk(1), crashed::disk(2));
    let db = builder(&other, by_hand).open().unwrap();
    large(&db, 1);
    db.close().unwrap();
    let db = builder(&disk, archiving).open().unwrap();
    for i in 0..4 {
        large(&db, i);
    }
    db.close().unwrap();
    drop(db);
    let strange = other.read(files(&other, ".seg").remove(0)).unwrap();
    disk.put(Path::new(DIR).join("archive/0000000000000001.seg"), &strange).unwrap();
    disk.corrupt(Path::new(DIR).join("log/0000000000000003.seg"), 9_000, &[7; 40]).unwrap();
    let salvaged = builder(&disk, archiving).policy(Policy::Salvage).open().map(|db| state(&db)).unwrap();
    assert_eq!(builder(&disk, archiving).open().map(|db| state(&db)).unwrap(), salvaged);
}

/// Of a log that is compressed no more is replayed than there is.
#[test]
fn no_more_is_done_than_there_is() {
    let disk = crashed::disk(1);
    let db = builder(&disk, by_hand).config(|c| c.wal.compression_level = 3).open().unwrap();
    for i in 0..100 {
        large(&db, i);
    }
    db.close().unwrap();
    drop(db);
    let mut replays = 0;
    let options =
        Options { existence: Existence::Required, policy: Policy::TruncateTail, threads: 1, register: true };
    let recovered = recover(&disk.vfs(), &Layout::new(DIR), options, &mut |step| {
        if let Step::Replay { done, total } = step {
            replays += 1;
            assert!(done <= total, "{done} of {total}");
        }
    });
    drop(recovered.unwrap());
    assert!(replays > 1);
}
