//! An archive that knows where it ends, and what of it was given up: what fell once (CKP-11, REC-14).

use std::path::{Path, PathBuf};

use ecsdb::prelude::*;
use ecsdb::{FileOp, PersistenceConfig};
use ecsdb_io::Layout;
use ecsdb_recovery::{archive_away, lock_closed, verify};
use ecsdb_sim::{CrashVariant, Fault, SimDisk};
use ecsdb_tests::crashed::{self, DIR, builder, files};

use crate::lifecycle::{State, large};
use crate::past::every_moment_is_there;
use crate::two_lives::{is_archived, small};

fn said(archive: Option<bool>, keep: usize) -> impl Fn(&mut PersistenceConfig) {
    move |config| {
        config.wal.segment_bytes_first = ecsdb::ByteSize(64 << 10);
        config.wal.segment_bytes_max = ecsdb::ByteSize(64 << 10);
        config.manual();
        config.archive.enabled = archive;
        if keep > 0 {
            config.retention.snapshots_max = keep;
        }
        config.snapshot.chain_max = 1;
    }
}

fn snap(db: &Database) {
    db.snapshot().unwrap().wait().unwrap();
}

/// So many large transactions, each with a snapshot behind it.
fn rounds(db: &Database, values: std::ops::Range<u64>) -> Vec<State> {
    let round = |value| {
        let state = large(db, value);
        snap(db);
        state
    };
    values.map(round).collect()
}

fn archived(disk: &SimDisk) -> Vec<PathBuf> {
    let all = disk.files().into_iter().map(|(path, _)| path);
    all.filter(|path| is_archived(path) && path.to_string_lossy().contains(".seg")).collect()
}

fn told(disk: &SimDisk) -> String {
    let (_lock, manifest) = lock_closed(&*disk.vfs(), &Layout::new(DIR)).unwrap();
    format!(
        "first {} archived {}..{} gone {:?} kept {:?}; {:?}",
        manifest.first_segment,
        manifest.first_archived,
        manifest.archive_end,
        manifest.archive_gone,
        manifest.kept,
        archived(disk)
    )
}

fn closed(db: Database) {
    db.close().unwrap();
}

/// The newest manifest, which says how far was archived, is damaged; the next trim has nothing to archive.
#[test]
fn what_a_damaged_manifest_said_to_be_archived_counts_after_a_trim_that_archives_nothing() {
    for n in 1..5 {
        let disk = crashed::disk(1);
        let db = builder(&disk, said(Some(true), 100)).open().unwrap();
        let mut states = Vec::new();
        for i in 0..5 {
            states.push(large(&db, 100 + i));
            states.extend(rounds(&db, i..i + 1));
        }
        disk.power_off();
        drop(db);
        let disk = disk.crash(CrashVariant::KEPT);
        let before = told(&disk);
        every_moment_is_there(&disk, &states, "before");
        let newest = files(&disk, ".manifest").pop().unwrap();
        disk.corrupt(newest, 20, &[7; 40]).unwrap();
        let damaged = told(&disk);
        every_moment_is_there(&disk, &states, "with the newest manifest damaged");
        let db = builder(&disk, said(Some(true), 100)).open().unwrap();
        (0..n).for_each(|_| snap(&db));
        closed(db);
        every_moment_is_there(&disk, &states, &format!("{n}: {before}\n{damaged}\n{}", told(&disk)));
        assert!(
            archive_away(
                &*disk.vfs(),
                &Layout::new(DIR),
                &lock_closed(&*disk.vfs(), &Layout::new(DIR)).unwrap().1
            )
            .unwrap()
            .is_empty()
        );
    }
}

/// CKP-11: the newest manifest is damaged while a snapshot is away that the one before names: nobody takes it for given up, and what leads on from it stays.
#[test]
fn a_snapshot_that_is_away_while_the_newest_manifest_is_damaged_leads_on_once_it_is_back() {
    let disk = crashed::disk(1);
    let db = builder(&disk, said(Some(true), 4)).open().unwrap();
    let states = rounds(&db, 0..8);
    closed(db);
    let snapshots = files(&disk, ".snap");
    assert_eq!(snapshots.len(), 4, "{snapshots:?}");
    let (oldest, before) = (&snapshots[0], told(&disk));
    let bytes = disk.read(oldest).unwrap();
    disk.erase(oldest).unwrap();
    disk.corrupt(files(&disk, ".manifest").pop().unwrap(), 20, &[7; 40]).unwrap();
    let db = builder(&disk, said(Some(true), 5)).open().unwrap();
    snap(&db);
    closed(db);
    disk.put(oldest, &bytes).unwrap();
    every_moment_is_there(&disk, &states[4..], &format!("{before}\n{}", told(&disk)));
}

/// Old databases that never said anything of an archive get one.
#[test]
fn an_old_database_gets_an_archive() {
    for name in ["v2", "v3", "v4", "v5", "v6"] {
        for unsaid in 0..2 {
            let disk = crashed::disk(1);
            let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(name);
            let mut dirs = vec![golden.clone()];
            while let Some(dir) = dirs.pop() {
                for entry in std::fs::read_dir(dir).unwrap() {
                    let path = entry.unwrap().path();
                    if path.is_dir() {
                        dirs.push(path);
                    } else {
                        let to = Path::new(DIR).join(path.strip_prefix(&golden).unwrap());
                        disk.put(to, &std::fs::read(&path).unwrap()).unwrap();
                    }
                }
            }
            let first = told(&disk);
            if unsaid > 0 {
                let db = builder(&disk, said(None, 0)).open().unwrap();
                large(&db, 1);
                closed(db);
            }
            let db = builder(&disk, said(Some(true), 100)).open().unwrap();
            let states = rounds(&db, 0..6);
            closed(db);
            every_moment_is_there(&disk, &states, &format!("{name}: {first}\n{}", told(&disk)));
            assert!(!archived(&disk).is_empty(), "{name}: {first}\n{}", told(&disk));
            let verified = verify(&*disk.vfs(), &Layout::new(DIR), &mut |_| {}).unwrap();
            assert!(
                verified.faults.is_empty() && verified.away.is_empty(),
                "{name}: {:?} {:?}",
                verified.faults,
                verified.away
            );
        }
    }
}

/// CKP-11: an archived segment is damaged, and the header of the next one, too, so that nothing says where it ends. It was not given up by anybody.
#[test]
fn a_damaged_copy_that_nothing_says_the_end_of_is_not_deleted() {
    let disk = crashed::disk(1);
    let all = |config: &mut PersistenceConfig| {
        said(Some(true), 100)(config);
        config.archive.compression_level = 0;
    };
    let db = builder(&disk, all).open().unwrap();
    snap(&db);
    rounds(&db, 0..4);
    closed(db);
    let first = Path::new(DIR).join("archive/0000000000000001.seg");
    disk.corrupt(&first, 9_000, &[9; 64]).unwrap();
    disk.corrupt(Path::new(DIR).join("archive/0000000000000002.seg"), 0, &[7; 64]).unwrap();
    let bytes = disk.read(&first).unwrap();
    let before = told(&disk);
    let db = builder(&disk, all).open().unwrap();
    rounds(&db, 10..13);
    closed(db);
    let is_there = disk.files().iter().any(|(path, _)| disk.read(path).unwrap() == bytes);
    assert!(is_there, "{before}\n{}", told(&disk));
}

/// CKP-11: the newest manifest, which says how far was archived, is damaged, and what is in the archive is away at the next trim. It is back after that.
#[test]
fn what_is_away_while_the_manifest_that_knows_of_it_is_damaged_counts_once_it_is_back() {
    let disk = crashed::disk(1);
    let db = builder(&disk, said(Some(true), 100)).open().unwrap();
    let mut states = vec![small(&db, 1), large(&db, 2)];
    snap(&db);
    states.extend(rounds(&db, 3..4));
    closed(db);
    every_moment_is_there(&disk, &states, "before");
    disk.corrupt(files(&disk, ".manifest").pop().unwrap(), 60, &[0xaa; 4]).unwrap();
    every_moment_is_there(&disk, &states, "with the newest manifest damaged");
    let damaged = told(&disk);
    let away: Vec<_> =
        archived(&disk).into_iter().map(|path| (path.clone(), disk.read(&path).unwrap())).collect();
    away.iter().for_each(|(path, _)| disk.erase(path).unwrap());
    let db = builder(&disk, said(Some(true), 100)).open().unwrap();
    snap(&db);
    closed(db);
    away.iter().for_each(|(path, bytes)| disk.put(path, bytes).unwrap());
    every_moment_is_there(&disk, &states, &format!("{damaged}\n{}", told(&disk)));
}

/// CKP-4: it is killed while it archives; the next session compresses otherwise. What was begun stays under its temporary name.
#[test]
fn what_was_begun_in_the_archive_goes_when_the_level_changes() {
    let level = |level: i32| {
        move |config: &mut PersistenceConfig| {
            said(Some(true), 100)(config);
            config.archive.compression_level = level;
        }
    };
    let mut disk = crashed::disk(1);
    let db = builder(&disk, level(0)).open().unwrap();
    (0..3).for_each(|i| {
        large(&db, i);
    });
    snap(&db);
    large(&db, 3);
    disk.inject(
        Fault::on(FileOp::Rename).of_names_containing("archive").failing(ecsdb_sim::Failure::PowerOff),
    );
    drop(db.snapshot().and_then(|job| job.wait()));
    drop(db);
    disk = disk.crash(CrashVariant::KEPT);
    let left: Vec<PathBuf> = files(&disk, ".tmp");
    assert_eq!(left.len(), 1, "{left:?}");
    for i in 0..3 {
        let db = builder(&disk, level(3)).open().unwrap();
        rounds(&db, 10 * i..10 * i + 3);
        closed(db);
    }
    assert!(files(&disk, ".tmp").is_empty(), "{:?}", files(&disk, ".tmp"));
}

/// A manifest that has given up log is damaged: a segment of which the archive has the copy that counts is not missing.
#[test]
fn what_the_archive_has_is_not_missing_where_a_manifest_is_damaged() {
    let disk = crashed::disk(1);
    let db = builder(&disk, said(Some(true), 100)).open().unwrap();
    let mut states = vec![large(&db, 1)];
    for i in 0..3 {
        states.extend([large(&db, 10 + i), large(&db, 20 + i)]);
        snap(&db);
    }
    closed(db);
    disk.corrupt(files(&disk, ".manifest").pop().unwrap(), 60, &[0xaa; 4]).unwrap();
    closed(builder(&disk, said(Some(true), 100)).open().unwrap());
    every_moment_is_there(&disk, &states, "opened");
    let (vfs, layout) = (disk.vfs(), Layout::new(DIR));
    let (_lock, manifest) = lock_closed(&*vfs, &layout).unwrap();
    let missing = ecsdb_recovery::missing_files(&*vfs, &layout, &manifest).unwrap();
    drop(_lock);
    assert!(missing.is_empty(), "{missing:?} {}", told(&disk));
}

/// Log that was given up without an archive is not told to be lost where newest manifests are damaged, one each time, and an archive was begun since.
#[test]
fn what_was_given_up_without_an_archive_is_not_accused() {
    let disk = crashed::disk(1);
    let bad = || disk.corrupt(files(&disk, ".manifest").pop().unwrap(), 60, &[0xaa; 4]).unwrap();
    let db = builder(&disk, said(Some(false), 2)).open().unwrap();
    small(&db, 1);
    db.rotate_log().unwrap();
    snap(&db);
    rounds(&db, 2..3);
    closed(db);
    bad();
    let db = builder(&disk, said(Some(true), 100)).open().unwrap();
    rounds(&db, 3..4);
    closed(db);
    bad();
    closed(builder(&disk, said(None, 0)).open().unwrap());
    let verified = verify(&*disk.vfs(), &Layout::new(DIR), &mut |_| {}).unwrap();
    assert!(verified.faults.is_empty(), "{:?} {}", verified.faults, told(&disk));
}
