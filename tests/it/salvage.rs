//! A salvage, wherever it is interrupted and whatever it finds: what is lost is said until its end, nothing that was there is gone, and what comes
//! after it is whole (REC-5, REC-13, REC-17, CKP-11).

use std::path::PathBuf;

use ecsdb::prelude::*;
use ecsdb::{DataLoss, PersistenceConfig, Policy, RecoveryReport};
use ecsdb_io::{FileOp, Layout};
use ecsdb_recovery::Verified;
use ecsdb_sim::{CrashVariant, Failure, Fault, SimDisk};
use ecsdb_tests::crashed::{self, DIR, builder, files, snapshot_file};

use crate::away::manifest;
use crate::components::{Counter, Name};
use crate::lifecycle::{archiving, by_hand, large, state};

type Settings = fn(&mut PersistenceConfig);

fn open(disk: &SimDisk, settings: Settings, policy: Policy) -> ecsdb::Result<Database> {
    builder(disk, settings).config(|config| config.snapshot.chain_max = 1).policy(policy).open()
}

fn snapshot(db: &Database) {
    db.snapshot().unwrap().wait().unwrap();
}

fn verified(disk: &SimDisk) -> Verified {
    ecsdb_recovery::verify(&*disk.vfs(), &Layout::new(DIR), &mut |_| {}).unwrap()
}

/// The segments of the log that were begun.
fn log(disk: &SimDisk) -> Vec<PathBuf> {
    let mut log = files(disk, ".seg");
    log.retain(|path| path.starts_with(Layout::new(DIR).log_dir()));
    log.retain(|path| disk.read(path).unwrap().iter().any(|byte| *byte != 0));
    log
}

/// Segments and snapshots with something in them.
fn contents(disk: &SimDisk) -> Vec<Vec<u8>> {
    let mut all = files(disk, ".seg");
    all.extend(files(disk, ".snap"));
    let bytes = all.into_iter().map(|path| disk.read(path).unwrap());
    // A segment is cut to its end.
    let written = bytes.map(|mut bytes| {
        bytes.truncate(bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1));
        bytes
    });
    written.filter(|bytes| bytes.len() > 4096).collect()
}

fn nothing_is_gone(before: &[Vec<u8>], disk: &SimDisk, what: &str) {
    let after = contents(disk);
    for bytes in before {
        assert!(after.iter().any(|now| now.starts_with(bytes)), "{what}: {} bytes are gone", bytes.len());
    }
}

/// Six transactions, with a snapshot after the second, in segments of which each takes one; or in one segment.
fn lived(settings: Settings, segments: bool, closes: bool) -> SimDisk {
    let disk = crashed::disk(1);
    let db = open(&disk, settings, Policy::Strict).unwrap();
    let bytes = if segments { 40_000 } else { 5_000 };
    for i in 0..6 {
        db.write(|tx| Ok(tx.spawn((Counter(i), Name("x".repeat(bytes)))))).unwrap();
        if i == 1 {
            snapshot(&db);
        }
    }
    if closes {
        db.close().unwrap();
    } else {
        disk.power_off();
        drop(db);
    }
    disk.crash(CrashVariant::KEPT)
}

type Damage = (&'static str, fn(&SimDisk));

/// Kinds of damage by which something acknowledged is lost.
const DAMAGES: [Damage; 6] = [
    ("the newest segment, in its middle", |disk| {
        let path = log(disk).pop().unwrap();
        let len = disk.read(&path).unwrap().iter().rposition(|byte| *byte != 0).unwrap() as u64;
        disk.corrupt(path, (4096 + len) / 2, &[9; 64]).unwrap();
    }),
    ("the newest segment is missing", |disk| disk.erase(log(disk).pop().unwrap()).unwrap()),
    ("a segment within", |disk| {
        let log = log(disk);
        disk.corrupt(&log[log.len().saturating_sub(2)], 5000, &[9; 64]).unwrap();
    }),
    ("no log", |disk| log(disk).iter().for_each(|path| disk.erase(path).unwrap())),
    ("no snapshots, and no beginning of the log", |disk| {
        files(disk, ".snap").iter().for_each(|path| disk.erase(path).unwrap());
        disk.erase(&log(disk)[0]).unwrap();
    }),
    ("the log of another life", |disk| {
        let other = disk.crash(CrashVariant::KEPT);
        let db = open(&other, by_hand, Policy::TruncateTail).unwrap();
        for value in 0..4 {
            large(&db, value);
        }
        db.close().unwrap();
        for value in 10..13 {
            let db = open(disk, by_hand, Policy::TruncateTail).unwrap();
            large(&db, value);
            db.close().unwrap();
        }
        log(disk).iter().for_each(|path| disk.erase(path).unwrap());
        log(&other).iter().for_each(|path| disk.put(path, &other.read(path).unwrap()).unwrap());
    }),
];

/// A salvage that is interrupted: what it is interrupted by, how the disk is afterwards, and whether it came to its end all the same.
fn interrupted(disk: &SimDisk, settings: Settings, at: u64, full: bool) -> (SimDisk, bool) {
    let at = disk.operations() + at;
    if full {
        disk.inject(Fault::at(at).times(u64::MAX).failing(Failure::NoSpace));
    } else {
        disk.stop_after(at);
    }
    let done = open(disk, settings, Policy::Salvage).is_ok();
    disk.clear_faults();
    disk.power_off();
    (disk.crash(CrashVariant::KEPT), done)
}

fn says_the_loss(report: &RecoveryReport, first: Lsn, what: &str) {
    assert_eq!(report.data_loss, DataLoss::Acknowledged, "{what}: {report}");
    assert_eq!(report.lost.iter().map(|lost| lost.first).min(), Some(first), "{what}: {report}");
}

/// REC-5, REC-17: whoever opens it next is told of the loss, or refused, and comes to the same world. Killed and on a full disk, at each operation.
#[test]
fn a_salvage_that_was_interrupted_anywhere_is_no_other_and_hides_nothing() {
    for (case, (damage, hurt)) in DAMAGES.iter().enumerate() {
        let (archive, segments, closes) = (case % 2 == 0, case != 0, case != 2);
        let settings: Settings = if archive { archiving } else { by_hand };
        let hurt = |disk: &SimDisk| {
            let disk = disk.crash(CrashVariant::KEPT);
            hurt(&disk);
            disk
        };
        let lived = lived(settings, segments, closes);
        let whole = hurt(&lived);
        assert!(open(&hurt(&lived), settings, Policy::TruncateTail).is_err(), "{damage}");
        let before = contents(&whole);
        let db = open(&whole, settings, Policy::Salvage).unwrap();
        let (expected, first) = (state(&db).1, db.recovery_report().unwrap().lost[0].first);
        drop(db);
        for full in [false, true] {
            for at in 0.. {
                let what = format!("{damage}, archive {archive}, full {full}, operation {at}");
                let (disk, done) = interrupted(&hurt(&lived), settings, at, full);
                if done {
                    break;
                }
                let again = disk.crash(CrashVariant::KEPT);
                for policy in [Policy::TruncateTail, Policy::Salvage] {
                    let disk = again.crash(CrashVariant::KEPT);
                    let manifest = manifest(&disk).unwrap();
                    let salvaging = manifest.salvage != 0;
                    let ended = !salvaging && manifest.salvaged_segments != 0;
                    let opened = open(&disk, settings, policy);
                    if policy == Policy::Salvage || salvaging || ended {
                        let _: &Database = opened.as_ref().unwrap_or_else(|e| panic!("{what}: {e}"));
                    }
                    let Ok(db) = opened else { continue };
                    assert_eq!(state(&db).1, expected, "{what}: {}", db.recovery_report().unwrap());
                    if !ended {
                        says_the_loss(db.recovery_report().unwrap(), first, &what);
                    }
                    let last = large(&db, 9);
                    snapshot(&db);
                    drop(db);
                    nothing_is_gone(&before, &disk, &what);
                    let db = open(&disk, settings, Policy::Strict).unwrap();
                    assert_eq!(state(&db), last, "{what}");
                    assert_eq!(db.recovery_report().unwrap().data_loss, DataLoss::None, "{what}");
                    drop(db);
                    assert_eq!(verified(&disk).faults, Vec::<String>::new(), "{what}");
                }
            }
        }
    }
}

/// REC-17: while it was interrupted, older files were put back under the names of those that it had set aside.
#[test]
fn what_a_salvage_sets_aside_takes_no_other_files_place() {
    for stop in (0..).step_by(3) {
        let disk = lived(by_hand, true, false);
        let before: Vec<(PathBuf, Vec<u8>)> =
            log(&disk).into_iter().map(|path| (path.clone(), disk.read(path).unwrap())).collect();
        let damaged = &before[before.len() - 2].0;
        disk.corrupt(damaged, 4096, &[9; 64]).unwrap();
        let whole = contents(&disk);
        let (disk, done) = interrupted(&disk, by_hand, stop, false);
        if done {
            break;
        }
        for (path, bytes) in &before {
            if disk.read(path).is_err() {
                disk.put(path, &bytes[..bytes.len() / 2]).unwrap();
            }
        }
        drop(open(&disk, by_hand, Policy::Salvage).unwrap());
        nothing_is_gone(&whole, &disk, &format!("stop {stop}"));
    }
}

/// CKP-11: without a manifest nobody knows what was said to be kept. Sessions that say nothing give nothing of it up.
#[test]
fn a_salvage_without_a_manifest_keeps_the_past() {
    let disk = crashed::disk(1);
    let db = open(&disk, archiving, Policy::Strict).unwrap();
    for i in 0..6 {
        large(&db, i);
        snapshot(&db);
    }
    db.close().unwrap();
    let count = || (files(&disk, ".snap").len(), files(&disk, ".seg.zst").len());
    let before = count();
    files(&disk, ".manifest").iter().for_each(|path| disk.erase(path).unwrap());
    let db = open(&disk, by_hand, Policy::Salvage).unwrap();
    // Nor where the log ended.
    assert_eq!(db.recovery_report().unwrap().data_loss, DataLoss::Possible);
    for i in 0..3 {
        large(&db, i);
        snapshot(&db);
    }
    db.close().unwrap();
    assert!(count().0 >= before.0 && count().1 > before.1, "{before:?} {:?}", count());
    assert_eq!(verified(&disk).faults, Vec::<String>::new());
}

/// REC-17, CKP-12: what was archived before a salvage stays where it is, is none of the log's after it, and no fault.
#[test]
fn an_archive_from_before_a_salvage_stays_and_is_no_fault() {
    for all in [false, true] {
        let disk = crashed::disk(1);
        let db = open(&disk, archiving, Policy::Strict).unwrap();
        for i in 0..6 {
            large(&db, i);
            snapshot(&db);
        }
        db.compact().unwrap().wait().unwrap();
        large(&db, 9);
        db.close().unwrap();
        let log = log(&disk);
        let lost = if all { &log[..] } else { &log[log.len() - 1..] };
        lost.iter().for_each(|path| disk.erase(path).unwrap());
        let archived = files(&disk, ".seg.zst");
        let db = open(&disk, archiving, Policy::Salvage).unwrap();
        says_the_loss(db.recovery_report().unwrap(), db.recovery_report().unwrap().last_lsn.next(), "");
        for i in 0..4 {
            large(&db, i);
            snapshot(&db);
        }
        let last = state(&db);
        db.close().unwrap();
        let now = files(&disk, ".seg.zst");
        assert!(archived.iter().all(|path| now.contains(path)), "all {all}: {now:?}");
        assert!(now.len() > archived.len());
        assert_eq!(verified(&disk).faults, Vec::<String>::new(), "all {all}");
        assert_eq!(state(&open(&disk, archiving, Policy::Strict).unwrap()), last);
    }
}

/// REC-9, CKP-11: for want of the newest manifest the one before counts, which says of a snapshot that it is given up until it is whole.
#[test]
fn nothing_whole_is_deleted_by_the_word_of_an_older_manifest() {
    for damaged in [false, true] {
        let disk = crashed::disk(1);
        let db = open(&disk, by_hand, Policy::Strict).unwrap();
        let last = large(&db, 1);
        // Up to the manifest that names it, and no trim after it.
        disk.inject(Fault::on(FileOp::Rename).of_names_containing(".manifest").skip(2).times(9));
        snapshot(&db);
        disk.power_off();
        drop(db);
        disk.clear_faults();
        let disk = disk.crash(CrashVariant::KEPT);
        let before = contents(&disk);
        let newest = files(&disk, ".manifest").pop().unwrap();
        if damaged {
            disk.flip_bit(&newest, 100, 0).unwrap();
        } else {
            disk.inject(Fault::on(FileOp::Read).of_names_ending(&newest.to_string_lossy()));
        }
        for _ in 0..2 {
            let db = open(&disk, by_hand, Policy::TruncateTail).unwrap();
            assert_eq!(state(&db).1, last.1);
            nothing_is_gone(&before, &disk, &format!("damaged {damaged}"));
        }
    }
}

/// REC-9, REC-17: the manifests are those of an older time. What there is of snapshots counts as it does without any manifest.
#[test]
fn a_salvage_goes_by_snapshots_that_an_old_manifest_does_not_know() {
    for archive in [false, true] {
        let settings: Settings = if archive { archiving } else { by_hand };
        for (log_too, then, knows) in
            [(false, 0, false), (false, 2, false), (false, 1, true), (true, 0, false), (true, 2, false)]
        {
            let disk = crashed::disk(1);
            let db = open(&disk, settings, Policy::Strict).unwrap();
            for i in 0..3 {
                large(&db, i);
                snapshot(&db);
            }
            // It knows the transactions, and not the snapshot of them.
            if knows {
                large(&db, 4);
            }
            db.close().unwrap();
            let old = disk.crash(CrashVariant::KEPT);
            let db = open(&disk, settings, Policy::Strict).unwrap();
            let mut covered = state(&db);
            for i in 0..9 {
                if !knows {
                    covered = large(&db, i);
                }
                snapshot(&db);
            }
            if knows {
                db.compact().unwrap().wait().unwrap();
                let newest = manifest(&disk).unwrap().snapshots.last().unwrap().sequence;
                let others = files(&disk, ".snap").into_iter().filter(|path| *path != snapshot_file(newest));
                others.for_each(|path| disk.erase(path).unwrap());
            }
            for i in 0..then {
                large(&db, i);
            }
            let last = state(&db);
            db.close().unwrap();
            let put_back = |ending: &str| {
                files(&disk, ending).iter().for_each(|path| disk.erase(path).unwrap());
                let paths = files(&old, ending);
                paths.iter().for_each(|path| disk.put(path, &old.read(path).unwrap()).unwrap());
            };
            put_back(".manifest");
            if log_too {
                put_back(".seg");
            }
            let what = format!("archive {archive}, the log too {log_too}, then {then}, knows {knows}");
            let before = contents(&disk);
            if let Ok(db) = open(&disk.crash(CrashVariant::KEPT), settings, Policy::TruncateTail) {
                // The archive has the log that leads to it.
                assert!(archive && !log_too && state(&db) == last, "{what}");
                continue;
            }
            let db = open(&disk, settings, Policy::Salvage).unwrap();
            let report = db.recovery_report().unwrap().clone();
            assert_eq!(state(&db).1, if log_too { covered.1 } else { last.1 }, "{what}: {report}");
            assert_eq!(report.unlisted.len(), 1, "{what}: {report}");
            if log_too {
                says_the_loss(&report, covered.0.next(), &what);
            } else {
                assert_eq!(report.data_loss, DataLoss::None, "{what}: {report}");
            }
            nothing_is_gone(&before, &disk, &what);
            let last = large(&db, 1);
            snapshot(&db);
            db.close().unwrap();
            assert_eq!(verified(&disk).faults, Vec::<String>::new(), "{what}");
            assert_eq!(state(&open(&disk, settings, Policy::Strict).unwrap()), last, "{what}");
        }
    }
}

/// REC-13: the snapshot of another life of the database is no way into the log of this one, however far either goes.
#[test]
fn a_salvage_goes_by_no_snapshot_of_another_life() {
    for (lived, other) in [(9, 5), (9, 8), (6, 9)] {
        let disk = crashed::disk(1);
        let db = open(&disk, by_hand, Policy::Strict).unwrap();
        for i in 0..3 {
            large(&db, i);
        }
        db.close().unwrap();
        let disk2 = disk.crash(CrashVariant::KEPT);
        let db = open(&disk, by_hand, Policy::Strict).unwrap();
        for i in 3..other {
            large(&db, 100 + i);
        }
        let theirs = state(&db);
        snapshot(&db);
        db.close().unwrap();
        let stray = files(&disk, ".snap").pop().unwrap();

        disk2.set_clock(disk.vfs().now_unix_ns());
        disk2.advance(std::time::Duration::from_secs(60));
        let db = open(&disk2, by_hand, Policy::Strict).unwrap();
        let mut states = vec![theirs.1];
        for i in 3..lived {
            states.push(large(&db, i).1);
        }
        disk2.power_off();
        drop(db);
        let disk2 = disk2.crash(CrashVariant::KEPT);
        disk2.put(&stray, &disk.read(&stray).unwrap()).unwrap();
        let damaged = &log(&disk2)[1];
        disk2.corrupt(damaged, 5000, &[9; 64]).unwrap();
        let db = open(&disk2, by_hand, Policy::Salvage).unwrap();
        let (now, report) = (state(&db).1, db.recovery_report().unwrap());
        assert_eq!(report.data_loss, DataLoss::Acknowledged, "{lived} {other}: {report}");
        let whole = report.last_lsn == Lsn(1) || now == theirs.1 && other > lived;
        assert!(whole, "{lived} {other}: {report}");
    }
}

/// REC-9, REC-13: a segment into which nothing was written is lost. It may have had transactions, as far as anything tells; nobody says that it had.
#[test]
fn a_segment_that_nothing_shows_to_have_had_transactions_is_called_that() {
    for (commits, closes, missing) in [false, true]
        .into_iter()
        .flat_map(|a| [(a, false, false), (a, false, true), (a, true, false), (a, true, true)])
    {
        let disk = crashed::disk(1);
        let db = open(&disk, by_hand, Policy::Strict).unwrap();
        large(&db, 1);
        db.close().unwrap();
        let db = open(&disk, by_hand, Policy::Strict).unwrap();
        if commits {
            large(&db, 2);
        }
        if closes {
            db.close().unwrap();
        } else {
            disk.power_off();
            drop(db);
        }
        let disk = disk.crash(CrashVariant::KEPT);
        let newest = log(&disk).pop().unwrap();
        let spoil = || match missing {
            true => disk.erase(&newest).unwrap(),
            false => disk.flip_bit(&newest, 50, 3).unwrap(),
        };
        spoil();
        let what = format!("commits {commits}, closes {closes}, missing {missing}");
        let error = open(&disk, by_hand, Policy::TruncateTail).unwrap_err().to_string();
        // What was written into a file that is gone, and no manifest noted, leaves no trace.
        let shown = commits && (closes || !missing);
        assert_eq!(error.contains("acknowledged transactions are lost"), shown, "{what}: {error}");
        assert_eq!(error.contains("nothing shows that it had transactions"), !shown, "{what}: {error}");
        assert!(error.contains("from LSN 2 on"), "{what}: {error}");
        let looked = builder(&disk, by_hand).open_read_only().unwrap_err().to_string();
        assert_eq!(looked.contains("nothing shows"), !shown, "{what}: {looked}");
        let db = open(&disk, by_hand, Policy::Salvage).unwrap();
        let report = db.recovery_report().unwrap();
        assert_eq!(report.lost[0].why.contains("nothing shows"), !shown, "{what}: {report}");
        assert_eq!(db.view().unwrap().len(), 1, "{what}");
    }
}

/// REC-16: a hole in the archive is blamed on what is missing.
#[test]
fn a_hole_in_the_archive_is_not_blamed_on_what_follows_it() {
    let disk = crashed::disk(1);
    let db = open(&disk, archiving, Policy::Strict).unwrap();
    for i in 0..8 {
        large(&db, i);
        snapshot(&db);
    }
    db.close().unwrap();
    let archived = files(&disk, ".seg.zst");
    disk.erase(&archived[2]).unwrap();
    let found = verified(&disk);
    // It may come back, as all of them may, and what is there is whole.
    assert_eq!(found.away, [Layout::new(DIR).archive_dir().join("0000000000000003.seg.zst")]);
    assert_eq!(found.faults, [""; 0]);
    // What is damaged on either side of it is told all the same.
    let middle = disk.vfs().file_len(&archived[4]).unwrap().unwrap() / 2;
    disk.flip_bit(&archived[4], middle, 3).unwrap();
    let found = verified(&disk);
    assert_eq!((found.away.len(), found.faults.len()), (1, 1), "{found:?}");
}
