//! Rules of durability that no other test would miss, each by its code in `docs/durability.md`.

use std::path::Path;

use ecsdb::prelude::*;
use ecsdb::{ByteSize, Error, Lsn, Moment, PersistenceConfig, Policy, RecoveryError, Step};
use ecsdb_io::{FileOp, frame};
use ecsdb_sim::{CrashPattern, CrashVariant, Failure, Fault, NameOrder, SimDisk};

use crate::components::{Counter, Name};
use crate::lifecycle::{archiving, by_hand};

const POLICIES: [Policy; 3] = [Policy::Strict, Policy::TruncateTail, Policy::Salvage];

fn builder(disk: &SimDisk) -> ecsdb::Builder {
    Database::builder("/db").vfs(disk.vfs()).without_threads().config(by_hand)
}

fn fill(db: &Database, n: u64) {
    for i in 0..n {
        db.write(|tx| Ok(tx.spawn((Counter(i), Name("x".repeat(20_000)))))).unwrap();
    }
}

fn segments(disk: &SimDisk, dir: &str) -> Vec<std::path::PathBuf> {
    let mut paths: Vec<_> = disk.files().into_iter().map(|(path, _)| path).collect();
    paths.retain(|path| path.parent() == Some(Path::new(dir)) && path.to_string_lossy().contains(".seg"));
    paths.sort();
    paths
}

/// WAL-2: wherever a transaction of several parts is cut, it never happened.
#[test]
fn a_transaction_of_many_parts_is_there_whole_or_not_at_all() {
    let disk = SimDisk::new(1);
    let db = builder(&disk).open().unwrap();
    db.write(|tx| Ok(tx.spawn(Counter(1)))).unwrap();
    let expected = db.view().unwrap().digest().unwrap();
    let before = segments(&disk, "/db/log");
    let sync = disk.operations();
    disk.inject(Fault::on(FileOp::Sync).of_names_containing(".seg").times(u64::MAX));
    let large = |tx: &mut Transaction<'_>| Ok(tx.spawn_batch((0..300).map(|i| Name("y".repeat(10_000 + i)))));
    db.write(|tx| large(tx).map(drop)).unwrap_err();
    drop(db);
    assert!(disk.operations() > sync);
    let after = segments(&disk, "/db/log");
    assert!(after.len() >= before.len());
    // Of the writes that no sync followed, any prefix and any single one.
    let mut with = 0;
    for i in 0..200 {
        for pattern in [CrashPattern::Prefix(i), CrashPattern::Only(i), CrashPattern::Random(i as u64)] {
            let crashed = disk.crash(CrashVariant { pattern, names: NameOrder::Any });
            let db = builder(&crashed).policy(Policy::Strict).open().unwrap();
            let view = db.view().unwrap();
            match view.len() {
                1 => assert_eq!(view.digest().unwrap(), expected),
                301 => with += 1,
                n => panic!("{n} entities under {pattern:?}"),
            }
        }
    }
    println!("{with} times it was there");
}

/// WAL-5: after a sync that failed nothing is acknowledged, although the next one would succeed.
#[test]
fn after_a_failed_sync_of_the_log_nothing_more_is_acknowledged() {
    let disk = SimDisk::new(1);
    let db = builder(&disk).open().unwrap();
    db.write(|tx| Ok(tx.spawn(Counter(1)))).unwrap();
    disk.inject(Fault::on(FileOp::Sync).of_names_containing(".seg").failing(Failure::Io));
    assert_eq!(db.write(|tx| Ok(tx.spawn(Counter(2)))).unwrap_err().kind(), ErrorKind::Reopen);
    for _ in 0..3 {
        assert_eq!(db.write(|tx| Ok(tx.spawn(Counter(3)))).unwrap_err().kind(), ErrorKind::Reopen);
        assert_eq!(db.sync().unwrap_err().kind(), ErrorKind::Reopen);
    }
    assert_eq!(db.durable_lsn(), Lsn(1));
    db.close().unwrap_err();
    drop(db);
    let crashed = disk.crash(CrashVariant { pattern: CrashPattern::Lost, names: NameOrder::Any });
    assert_eq!(builder(&crashed).policy(Policy::Strict).open().unwrap().view().unwrap().len(), 1);
}

/// WAL-9, WAL-10: a segment is as long as it will be before its first record is written, all zeros, and none goes beyond.
#[test]
fn segments_are_made_in_their_whole_length_before_they_are_used() {
    let disk = SimDisk::new(1);
    let db = builder(&disk).open().unwrap();
    let mut seen = std::collections::BTreeMap::new();
    for i in 0..40u64 {
        db.write(|tx| Ok(tx.spawn((Counter(i), Name("x".repeat(7_000)))))).unwrap();
        for path in segments(&disk, "/db/log") {
            let len = disk.read(&path).unwrap().len();
            let first = *seen.entry(path.clone()).or_insert(len);
            assert!(len <= first && len >= 4096, "{} grew from {first} to {len}", path.display());
            assert_eq!(first, 64 << 10, "{}", path.display());
        }
    }
    assert!(seen.len() > 4);
}

/// WAL-10: the next segment has its zeros before anybody needs it.
#[test]
fn the_next_segment_is_filled_before_it_is_used() {
    let dir = tempfile::tempdir().unwrap();
    let db = Database::open(dir.path()).unwrap();
    db.write(|tx| Ok(tx.spawn(Counter(1)))).unwrap();
    let (first, next) =
        (dir.path().join("log/0000000000000001.seg"), dir.path().join("log/0000000000000002.seg"));
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !next.exists() {
        assert!(std::time::Instant::now() < deadline, "it is not made");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let bytes = std::fs::read(next).unwrap();
    assert!(bytes.len() as u64 >= std::fs::metadata(first).unwrap().len() && bytes.iter().all(|b| *b == 0));
}

/// REC-3: what is cut is kept.
#[test]
fn a_torn_tail_is_set_aside_before_it_is_cut() {
    let disk = SimDisk::new(1);
    let db = builder(&disk).open().unwrap();
    db.write(|tx| Ok(tx.spawn(Counter(1)))).unwrap();
    disk.inject(Fault::on(FileOp::Sync).of_names_containing(".seg"));
    db.write(|tx| Ok(tx.spawn(Name("torn".repeat(3_000))))).unwrap_err();
    let crashes = disk.crash_variants(40, 3, NameOrder::Any);
    drop(db);
    let mut torn = 0;
    for variant in crashes {
        let disk = disk.crash(variant);
        let before = disk.read("/db/log/0000000000000001.seg").unwrap();
        let db = builder(&disk).open().unwrap();
        let report = db.recovery_report().unwrap();
        if report.tail.is_some() && report.cut_bytes > 0 {
            let aside = disk.read(report.set_aside.first().unwrap()).unwrap();
            let (kept, zeros) = before[before.len() - report.cut_bytes as usize..].split_at(aside.len());
            assert!(kept == aside && zeros.iter().all(|byte| *byte == 0), "{variant:?}");
            torn += 1;
        }
    }
    assert!(torn > 3, "{torn}");
}

/// REC-4: what a killed process left with the operating system is synced before anything rests on it.
#[test]
fn what_a_killed_process_left_unsynced_survives_a_power_cut_after_the_next_opening() {
    let disk = SimDisk::new(1);
    let db = builder(&disk).open().unwrap();
    db.write(|tx| Ok(tx.spawn(Counter(1)))).unwrap();
    disk.inject(Fault::on(FileOp::Sync).of_names_containing(".seg").failing(Failure::Io));
    // Written, and then the sync fails: the bytes are with the operating system.
    db.write(|tx| Ok(tx.spawn(Counter(2)))).unwrap_err();
    drop(db);
    disk.clear_faults();
    // Not a power cut: everything that was written is there to be read, and is not durable.
    let killed = disk.crash(CrashVariant { pattern: CrashPattern::Kept, names: NameOrder::Any });
    let db = builder(&killed).open().unwrap();
    let (len, lsn) = (db.view().unwrap().len(), db.lsn());
    let trace = killed.trace();
    let synced = trace.iter().position(|line| line.contains("sync") && line.contains("0000000000000001.seg"));
    let written = trace.iter().position(|line| line.contains("write") && line.contains("manifest"));
    assert!(synced.is_some() && synced < written, "{trace:#?}");
    std::mem::forget(db);
    let cut = killed.crash(CrashVariant { pattern: CrashPattern::Lost, names: NameOrder::Any });
    let db = builder(&cut).policy(Policy::Strict).open().unwrap();
    assert_eq!(db.view().unwrap().len(), len);
    assert!(db.lsn() >= lsn);
}

/// WAL-5, REC-4: after a sync that failed the pages count as clean. An opening of what is in them, without a reboot, writes them once more.
#[test]
fn what_a_failed_sync_left_is_durable_once_a_later_opening_builds_on_it() {
    let disk = SimDisk::new(1);
    let db = builder(&disk).open().unwrap();
    for i in 0..20 {
        db.write(|tx| Ok(tx.spawn((Counter(i), Name("d".repeat(900)))))).unwrap();
    }
    disk.inject(Fault::on(FileOp::Sync).of_names_containing(".seg"));
    db.write(|tx| Ok(tx.spawn((Counter(20), Name("s".repeat(5_000)))))).unwrap_err();
    drop(db);
    // In the same life of the machine: what was written is there to be read.
    let db = builder(&disk).open().unwrap();
    let len = db.view().unwrap().len();
    assert_eq!(len, 21);
    db.write(|tx| Ok(tx.spawn(Counter(21)))).unwrap();
    let digest = db.view().unwrap().digest().unwrap();
    let cut = disk.crash(CrashVariant { pattern: CrashPattern::Lost, names: NameOrder::Any });
    std::mem::forget(db);
    let db = builder(&cut).policy(Policy::Strict).open().unwrap();
    assert_eq!(db.view().unwrap().digest().unwrap(), digest);
}

/// REC-9: files of a database without a manifest are not an empty world.
#[test]
fn a_database_without_its_manifests_is_refused_but_by_a_salvage() {
    let disk = SimDisk::new(1);
    let db = builder(&disk).open().unwrap();
    fill(&db, 3);
    db.close().unwrap();
    for (path, _) in disk.files() {
        if path.extension().is_some_and(|ending| ending == "manifest") {
            disk.erase(&path).unwrap();
        }
    }
    for policy in &POLICIES[..2] {
        let refused = builder(&disk).policy(*policy).open().unwrap_err();
        assert!(matches!(refused, Error::Recovery(RecoveryError::NoManifest { .. })), "{refused}");
    }
    assert_eq!(builder(&disk).policy(Policy::Salvage).open().unwrap().view().unwrap().len(), 3);
}

/// REC-10: a format of a later release is refused under every policy, and nothing is touched.
#[test]
fn a_newer_format_is_refused_with_a_clear_word() {
    let dir = tempfile::tempdir().unwrap();
    let db = Database::open(dir.path()).unwrap();
    db.write(|tx| Ok(tx.spawn(Counter(1)))).unwrap();
    db.close().unwrap();
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "manifest") {
            // Written as a later version would: the same frame, with the checksum of its own header in it.
            let bytes = std::fs::read(&path).unwrap();
            let salt = u32::from_le_bytes(bytes[12..16].try_into().unwrap());
            let (mut header, payload) = frame::read_frame(&bytes[16..], salt).unwrap();
            let mut newer = bytes[..16].to_vec();
            newer[8..12].copy_from_slice(&77u32.to_le_bytes());
            header.link = ecsdb_io::checksum(0, &newer);
            frame::write_frame(&mut newer, header, payload, salt);
            std::fs::write(&path, newer).unwrap();
        }
    }
    let log = std::fs::read(dir.path().join("log/0000000000000001.seg")).unwrap();
    for policy in POLICIES {
        let refused = Database::builder(dir.path()).policy(policy).open().unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Version, "{refused}");
        assert!(refused.to_string().contains("77"), "{refused}");
    }
    assert!(std::fs::read(dir.path().join("log/0000000000000001.seg")).unwrap() == log);
}

/// REC-11: opening says how far it is, and does not read the log that the snapshot covers.
#[test]
fn opening_tells_how_far_it_is_and_reads_no_covered_segment() {
    let disk = SimDisk::new(1);
    let db = builder(&disk).open().unwrap();
    fill(&db, 6);
    db.snapshot().unwrap().wait().unwrap();
    fill(&db, 6);
    db.close().unwrap();
    let log = segments(&disk, "/db/log");
    // The first is certainly covered; its header alone is looked at.
    disk.corrupt(&log[0], 30_000, b"damage").unwrap();
    let steps = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
    let heard = steps.clone();
    let db =
        builder(&disk).policy(Policy::Strict).progress(move |step| heard.borrow_mut().push(step.clone()));
    let db = db.open().unwrap();
    assert_eq!(db.view().unwrap().len(), 12);
    let report = db.recovery_report().unwrap();
    assert!(report.transactions == 6 && report.segments < log.len(), "{report:?}");
    let steps = steps.borrow();
    let place = |is: fn(&Step) -> bool| steps.iter().position(is).unwrap_or_else(|| panic!("{steps:?}"));
    let order = [
        place(|step| matches!(step, Step::Manifest)),
        place(|step| matches!(step, Step::Snapshot { .. })),
        place(|step| matches!(step, Step::Verify)),
        place(|step| matches!(step, Step::Replay { done: 0, .. })),
        place(|step| matches!(step, Step::Repair)),
        place(|step| matches!(step, Step::Done)),
    ];
    assert!(order.is_sorted(), "{steps:?}");
}

/// CKP-12: what the manifest has given up is read by nobody, though a deletion that was not synced brings it back with other bytes.
#[test]
fn a_segment_that_was_given_up_and_comes_back_is_read_by_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let config = |name: &str| {
        let mut config = PersistenceConfig::new(dir.path().join(name));
        archiving(&mut config);
        config.wal.segment_bytes_first = ByteSize(64 << 10);
        config
    };
    let make = |name: &str| {
        let db = Database::new_with_persistence(config(name)).unwrap();
        let mut history = Vec::new();
        let mut first = Vec::new();
        for i in 0..3 {
            for _ in 0..8 {
                fill(&db, 1);
                history.push((db.lsn(), db.view().unwrap().digest().unwrap()));
            }
            if i == 0 {
                first = std::fs::read(dir.path().join(name).join("log/0000000000000001.seg")).unwrap();
            }
            if i < 2 {
                db.snapshot().unwrap().wait().unwrap();
                db.compact().unwrap().wait().unwrap();
            }
        }
        db.close().unwrap();
        (history, first)
    };
    let ((history, own), _) = (make("world"), make("other"));
    let log = dir.path().join("world/log");
    let first = |dir: &Path| {
        let names =
            std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.ends_with(".seg")).min().unwrap()
    };
    assert!(first(&log).as_str() > "0000000000000003.seg");
    let foreign =
        std::fs::read(dir.path().join("other/log").join(first(&dir.path().join("other/log")))).unwrap();
    // The bytes of another database, and of this one, with damage: the archive has it whole.
    let mut own = own;
    own[5_000] ^= 1;
    for (number, bytes) in [(1, &own), (2, &foreign), (3, &foreign)] {
        std::fs::write(log.join(format!("{number:016}.seg")), bytes).unwrap();
    }
    let verified = ecsdb::verify(&config("world"), |_| {}).unwrap();
    assert!(verified.faults.is_empty(), "{verified:?}");
    for (lsn, expected) in &history {
        let copy = dir.path().join(format!("copy-{lsn}"));
        ecsdb::restore_copy(&config("world"), &copy, Moment::Lsn(*lsn), |_| {}).unwrap();
        assert_eq!(Database::open_read_only(&copy).unwrap().view().unwrap().digest().unwrap(), *expected);
    }
    let mut strict = config("world");
    strict.recovery.policy = Policy::Strict;
    let db = Database::new_with_persistence(strict).unwrap();
    assert_eq!(db.view().unwrap().digest().unwrap(), history.last().unwrap().1);
    fill(&db, 4);
    db.snapshot().unwrap().wait().unwrap();
    for (lsn, expected) in &history {
        db.restore(Moment::Lsn(*lsn)).unwrap().wait().unwrap();
        assert_eq!(db.view().unwrap().digest().unwrap(), *expected, "{lsn}");
    }
}

/// CKP-7: attempts that fail for days leave nothing behind: no files, and no entries in the manifest.
#[test]
fn snapshots_that_cannot_be_written_leave_nothing_in_the_manifest() {
    let disk = SimDisk::new(1);
    let db = builder(&disk).open().unwrap();
    db.write(|tx| Ok(tx.spawn(Counter(1)))).unwrap();
    disk.inject(Fault::on(FileOp::Write).of_names_containing(".snap").times(50).failing(Failure::NoSpace));
    let largest = |disk: &SimDisk| {
        let files = disk.files().into_iter();
        files.filter(|(path, _)| path.extension().is_some_and(|e| e == "manifest")).map(|(_, len)| len).max()
    };
    let first = db.snapshot().unwrap().wait().unwrap_err();
    assert!(first.is_full_disk(), "{first}");
    let before = largest(&disk);
    for _ in 0..20 {
        db.snapshot().unwrap().wait().unwrap_err();
    }
    assert_eq!(largest(&disk), before);
    disk.clear_faults();
    db.snapshot().unwrap().wait().unwrap();
}
