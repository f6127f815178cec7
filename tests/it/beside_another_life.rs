//! A database that was put back from a copy, beside what its other life has archived or set aside: what fell once, as small as it gets (REC-16, REC-17,
//! CKP-11).

use std::path::{Path, PathBuf};

use ecsdb::{Database, Event, Lsn, PersistenceConfig, Policy};
use ecsdb_io::{FileOp, Layout};
use ecsdb_recovery::{log_dirs, verify};
use ecsdb_sim::{CrashVariant, Fault, SimDisk};
use ecsdb_snapshot::Manifest;
use ecsdb_tests::crashed::{self, DIR, builder, files};

use ecsdb_wal::segment_files;

use crate::lifecycle::{State, by_hand, large, state};
use crate::past;
use crate::two_lives::{
    copy, each_full as archiving, in_log, is_archived, no_world_is_another, put_back, put_in_place, small,
};

/// What a kill leaves, with the next segment prepared, as it always is where there are threads.
fn killed(disk: &SimDisk, db: Database) -> SimDisk {
    disk.power_off();
    drop(db);
    let disk = disk.crash(CrashVariant::KEPT);
    let newest = files(&disk, ".seg").into_iter().rfind(|path| !is_archived(path)).unwrap();
    let number: u64 = newest.file_stem().unwrap().to_string_lossy().parse().unwrap();
    disk.put(Path::new(DIR).join(format!("log/{:016}.seg", number + 1)), &[0; 64 << 10]).unwrap();
    disk
}

/// A database whose other life has archived six segments. It was put back from a copy of before, went on, was killed while its second segment was
/// prepared (as one with threads always is), and was opened again, so that its log goes on in segment 3. Then a snapshot lets it give up segment 1.
fn passed_over() -> (SimDisk, Vec<State>) {
    let disk = crashed::disk(1);
    let db = builder(&disk, archiving).open().unwrap();
    let mut states = vec![small(&db, 1), small(&db, 2)];
    db.close().unwrap();
    drop(db);
    let copied = copy(&disk);
    // The other life.
    let db = builder(&disk, archiving).open().unwrap();
    for i in 10..16 {
        large(&db, i);
    }
    for i in 0..3 {
        db.snapshot().unwrap().wait().unwrap();
        small(&db, 20 + i);
    }
    db.close().unwrap();
    drop(db);
    put_back(&disk, &copied);
    // This one.
    let db = builder(&disk, archiving).open().unwrap();
    states.push(small(&db, 3));
    let disk = killed(&disk, db);
    let db = builder(&disk, archiving).open().unwrap();
    for i in 4..7 {
        states.push(small(&db, i));
        states.push(small(&db, 100 + i));
        db.snapshot().unwrap().wait().unwrap();
    }
    db.close().unwrap();
    drop(db);
    (disk, states)
}

/// CKP-11: a number that the log has passed over, right before the first segment that it still has, is given up with those before it. What another
/// life has archived under it is no part of this one.
#[test]
fn another_lifes_segment_under_a_number_passed_over_before_the_log_is_no_part_of_it() {
    let (disk, states) = passed_over();
    past::every_moment_is_there(&disk, &states, "after a snapshot");
}

/// CKP-11: whatever lies there.
#[test]
fn nothing_counts_between_the_end_of_the_archive_and_the_log() {
    let disk = crashed::disk(1);
    for (dir, numbers) in [("archive", 1..=6), ("log", 5..=6)] {
        for number in numbers {
            disk.put(Path::new(DIR).join(format!("{dir}/{number:016}.seg")), &[1; 8192]).unwrap();
        }
    }
    let mut manifest = Manifest::new(1);
    (manifest.first_segment, manifest.archive_end, manifest.first_archived) = (5, 3, 2);
    let files = segment_files(&*disk.vfs(), &log_dirs(&Layout::new(DIR), &manifest)).unwrap();
    assert_eq!(files.iter().map(|file| file.number).collect::<Vec<_>>(), [2, 5, 6]);
}

/// The same: what is whole is called damaged.
#[test]
fn verify_accuses_nothing_of_another_lifes_segment_passed_over() {
    let (disk, _) = passed_over();
    let verified = verify(&*disk.vfs(), &Layout::new(DIR), &mut |_| {}).unwrap();
    assert!(verified.faults.is_empty(), "{:?} {:?}", verified.faults, verified.unreachable);
}

/// The same: where snapshots do not load, the log leads to the newest state all the same.
#[test]
fn another_lifes_segment_passed_over_does_not_make_the_log_a_lost_one() {
    for policy in [Policy::Salvage, Policy::TruncateTail] {
        let (disk, states) = passed_over();
        for snapshot in files(&disk, ".snap") {
            disk.corrupt(snapshot, 5_000, &[7; 40]).unwrap();
        }
        let db =
            builder(&disk, archiving).policy(policy).open().unwrap_or_else(|e| panic!("{policy:?}: {e}"));
        let report = db.recovery_report().unwrap();
        assert_eq!(state(&db).1, states.last().unwrap().1, "{policy:?}: {report}");
        assert!(report.lost.is_empty(), "{policy:?}: {report}");
    }
}

/// As before, with other snapshots: this life's first segment has LSN 1 to 3, with snapshots of LSN 1 and 3, and the other one's second segment,
/// which was passed over, begins with LSN 2.
fn passed_over_between() -> (SimDisk, Vec<State>) {
    let disk = crashed::disk(1);
    let db = builder(&disk, archiving).open().unwrap();
    db.close().unwrap();
    drop(db);
    let copied = copy(&disk);
    let db = builder(&disk, archiving).open().unwrap();
    small(&db, 10);
    db.rotate_log().unwrap();
    large(&db, 11);
    db.rotate_log().unwrap();
    db.snapshot().unwrap().wait().unwrap();
    small(&db, 12);
    db.snapshot().unwrap().wait().unwrap();
    db.close().unwrap();
    drop(db);
    put_back(&disk, &copied);
    let db = builder(&disk, archiving).open().unwrap();
    let mut states = vec![large(&db, 1)];
    db.snapshot().unwrap().wait().unwrap();
    states.extend([small(&db, 2), small(&db, 3)]);
    db.snapshot().unwrap().wait().unwrap();
    let disk = killed(&disk, db);
    let db = builder(&disk, archiving).open().unwrap();
    states.push(small(&db, 4));
    db.snapshot().unwrap().wait().unwrap();
    db.close().unwrap();
    drop(db);
    (disk, states)
}

/// REC-16, CKP-11: no moment is the other life's transaction on this one's snapshot.
#[test]
fn no_moment_mixes_two_lives() {
    let (disk, states) = passed_over_between();
    for (found, was) in past::past(&disk, states.iter().map(|state| state.0)).into_iter().zip(&states) {
        if let Ok(found) = found {
            assert_eq!(found, was.1, "LSN {}: a world that never was", was.0);
        }
    }
}

/// REC-17: a salvage goes on with a state that there was. The newer snapshots do not load; nothing else is damaged.
#[test]
fn no_salvage_mixes_two_lives() {
    let (disk, states) = passed_over_between();
    for snapshot in files(&disk, ".snap").into_iter().skip(1) {
        disk.corrupt(snapshot, 20, &[7; 40]).unwrap();
    }
    let db = builder(&disk, archiving).policy(Policy::Salvage).open().unwrap();
    let report = db.recovery_report().unwrap();
    let world = state(&db).1;
    assert!(states.iter().any(|own| own.1 == world), "a world that never was: {report}");
    assert_eq!(world, states.last().unwrap().1, "the log has it all: {report}");
}

/// This life has LSN 1 to 4 in segments 1 to 4, the other one has archived its own under the same numbers. Somebody has put the archive's third segment
/// into the log, in the place of one that was damaged.
fn third_from_the_archive(snapshots: bool) -> (SimDisk, Vec<State>) {
    let disk = crashed::disk(1);
    let db = builder(&disk, archiving).open().unwrap();
    db.close().unwrap();
    drop(db);
    let copied = copy(&disk);
    let db = builder(&disk, archiving).config(|c| c.archive.compression_level = 0).open().unwrap();
    for i in 10..15 {
        large(&db, i);
        db.rotate_log().unwrap();
    }
    for i in 20..23 {
        db.snapshot().unwrap().wait().unwrap();
        small(&db, i);
    }
    db.close().unwrap();
    drop(db);
    put_back(&disk, &copied);
    let db = builder(&disk, archiving).open().unwrap();
    let mut states = Vec::new();
    for i in 1..5 {
        states.push(large(&db, i));
        db.rotate_log().unwrap();
        if snapshots && i == 1 {
            db.snapshot().unwrap().wait().unwrap();
        }
    }
    db.close().unwrap();
    drop(db);
    let third = Path::new(DIR).join("log/0000000000000003.seg");
    disk.put(third, &disk.read(Path::new(DIR).join("archive/0000000000000003.seg")).unwrap()).unwrap();
    (disk, states)
}

/// REC-16: the archive's copy of the second one ends as the third one says, and does not follow from the first one.
#[test]
fn a_copy_in_the_archive_that_does_not_follow_from_the_one_before_is_no_part_of_the_log() {
    for snapshots in [false, true] {
        let (disk, states) = third_from_the_archive(snapshots);
        for (found, was) in past::past(&disk, states.iter().map(|state| state.0)).into_iter().zip(&states) {
            if let Ok(found) = found {
                assert_eq!(found, was.1, "LSN {}: another world", was.0);
            }
        }
    }
}

/// The same for an opening.
#[test]
fn a_salvage_goes_on_with_no_copy_that_does_not_follow() {
    for (policy, snapshots) in [Policy::TruncateTail, Policy::Salvage]
        .into_iter()
        .flat_map(|policy| [(policy, false), (policy, true)])
    {
        let (disk, states) = third_from_the_archive(snapshots);
        if let Ok(db) = builder(&disk, archiving).policy(policy).open() {
            let world = state(&db).1;
            let report = db.recovery_report().unwrap();
            assert!(states.iter().any(|own| own.1 == world), "{policy:?}: no world of this life: {report}");
        }
    }
}

/// REC-16, CKP-11: the log's first segment is gone, which a snapshot covers. What another life has archived under its number does not take its place once
/// the log gives that up.
#[test]
fn another_lifes_segment_does_not_take_the_place_of_one_that_is_gone() {
    let disk = crashed::disk(1);
    let db = builder(&disk, archiving).open().unwrap();
    db.close().unwrap();
    drop(db);
    let copied = copy(&disk);
    let db = builder(&disk, archiving).open().unwrap();
    for i in 10..13 {
        small(&db, i);
        db.rotate_log().unwrap();
    }
    for i in 20..23 {
        db.snapshot().unwrap().wait().unwrap();
        small(&db, i);
    }
    db.close().unwrap();
    drop(db);
    put_back(&disk, &copied);
    let db = builder(&disk, archiving).open().unwrap();
    let mut states = vec![small(&db, 1), small(&db, 2)];
    db.close().unwrap();
    drop(db);
    let db = builder(&disk, archiving).open().unwrap();
    db.snapshot().unwrap().wait().unwrap();
    db.close().unwrap();
    drop(db);
    disk.erase(Path::new(DIR).join("log/0000000000000001.seg")).unwrap();
    for (found, was) in past::past(&disk, states.iter().map(|state| state.0)).into_iter().zip(&states) {
        assert!(found.is_err() || found.unwrap() == was.1, "before: LSN {}: another world", was.0);
    }
    for round in 3..6 {
        let db = builder(&disk, archiving).open().unwrap();
        states.push(large(&db, round));
        db.snapshot().unwrap().wait().unwrap();
        db.close().unwrap();
        drop(db);
        for (found, was) in past::past(&disk, states.iter().map(|state| state.0)).into_iter().zip(&states) {
            assert!(found.is_err() || found.unwrap() == was.1, "{round}: LSN {}: another world", was.0);
        }
    }
}

/// CKP-11: the newest manifest, which says that there is an archive now, is damaged, and the settings say nothing of one any more. By the one before,
/// the log never archived anything: what it has archived itself is none of another life.
#[test]
fn what_a_damaged_manifest_said_to_be_archived_is_not_set_aside_as_another_lifes() {
    let disk = crashed::disk(1);
    let unsaid = |config: &mut PersistenceConfig| {
        archiving(config);
        config.archive.enabled = None;
    };
    let db = builder(&disk, unsaid).open().unwrap();
    let mut states: Vec<State> = (0..2).map(|i| large(&db, i)).collect();
    db.snapshot().unwrap().wait().unwrap();
    states.push(large(&db, 2));
    db.close().unwrap();
    drop(db);
    let db = builder(&disk, archiving).open().unwrap();
    states.push(small(&db, 3));
    db.snapshot().unwrap().wait().unwrap();
    db.close().unwrap();
    drop(db);
    past::every_moment_is_there(&disk, &states, "before");
    let newest = files(&disk, ".manifest").pop().unwrap();
    disk.corrupt(newest, 20, &[7; 40]).unwrap();
    past::every_moment_is_there(&disk, &states, "with the newest manifest damaged");
    let db = builder(&disk, unsaid).open().unwrap();
    states.push(small(&db, 4));
    db.snapshot().unwrap().wait().unwrap();
    db.close().unwrap();
    drop(db);
    past::every_moment_is_there(&disk, &states, &format!("after it: {:?}", files(&disk, ".seg.zst")));
}

fn in_quarantine(path: &Path) -> bool {
    path.starts_with(Path::new(DIR).join("quarantine"))
}

/// REC-17: a salvage sets everything aside as a database directory of its own. The other life was salvaged, too, at an opening of the same number, and what
/// was set aside then stays where it is when the database is put back: each of the two is a database.
#[test]
fn what_two_lives_set_aside_is_two_databases() {
    let disk = crashed::disk(1);
    let db = builder(&disk, archiving).open().unwrap();
    let mut states = Vec::new();
    for i in 1..5 {
        states.push(large(&db, i));
        db.rotate_log().unwrap();
    }
    db.close().unwrap();
    drop(db);
    let copied = copy(&disk);
    let damage = |number: u64| {
        disk.corrupt(Path::new(DIR).join(format!("log/{number:016}.seg")), 9_000, &[7; 40]).unwrap();
    };
    damage(2);
    builder(&disk, archiving).policy(Policy::Salvage).open().unwrap().close().unwrap();
    // It is put back, and what is in the quarantine, which nothing ever deletes, stays.
    for (path, _) in disk.files().into_iter().filter(|(path, _)| !in_quarantine(path) && !is_archived(path)) {
        disk.erase(&path).unwrap();
    }
    copied.iter().for_each(|(path, bytes)| disk.put(path, bytes).unwrap());
    damage(4);
    let told = past::past(&disk, states.iter().map(|state| state.0));
    assert!(told[..3].iter().all(Result::is_ok) && told[3].is_err(), "{told:?}");
    let db = builder(&disk, archiving).policy(Policy::Salvage).open().unwrap();
    let report = db.recovery_report().unwrap().clone();
    db.close().unwrap();
    drop(db);
    let aside = report.set_aside.iter().find(|path| path.to_string_lossy().contains("salvage-")).unwrap();
    let all: Vec<PathBuf> = disk.files().into_iter().map(|(path, _)| path).collect();
    for path in all.iter().filter(|path| !in_quarantine(path) && !is_archived(path)) {
        disk.erase(path).unwrap();
    }
    for path in &all {
        if let Ok(rest) = path.strip_prefix(aside) {
            disk.put(Path::new(DIR).join(rest), &disk.read(path).unwrap()).unwrap();
        }
    }
    past::every_moment_is_there(&disk, &states[..3], &format!("{report}: {all:?}"));
}

/// CKP-11: the newest manifest is damaged, and the one before says of no archive yet. What the log leads to there is no less for that, though nothing more is
/// archived when the log is trimmed next.
#[test]
fn what_a_damaged_manifest_has_archived_counts_whatever_is_archived_next() {
    for (fails, rotates) in [(0, false), (1, false), (1, true), (4, false), (4, true), (9, true)] {
        counts_whatever_is_archived_next(fails, rotates);
    }
}

fn counts_whatever_is_archived_next(fails: u64, rotates: bool) {
    let disk = crashed::disk(1);
    let plain = |config: &mut PersistenceConfig| {
        archiving(config);
        config.archive.compression_level = 0;
    };
    let db = builder(&disk, plain).open().unwrap();
    let mut states = vec![large(&db, 1), large(&db, 2), small(&db, 3)];
    db.snapshot().unwrap().wait().unwrap();
    states.push(small(&db, 4));
    db.snapshot().unwrap().wait().unwrap();
    states.push(small(&db, 5));
    disk.power_off();
    drop(db);
    let disk = disk.crash(CrashVariant::KEPT);
    let newest = files(&disk, ".manifest").pop().unwrap();
    disk.corrupt(newest, 20, &[7; 40]).unwrap();
    for round in 0..5 {
        let db = builder(&disk, plain).open().unwrap();
        let mut events = db.events();
        states.push(small(&db, 6 + round));
        if rotates {
            db.rotate_log().unwrap();
        }
        if round == 0 && fails > 0 {
            // The medium does not give what was archived, for a while.
            disk.inject(Fault::on(FileOp::Read).of_names_containing("archive/").times(fails));
        }
        db.snapshot().unwrap().wait().unwrap();
        disk.clear_faults();
        while let Some(event) = events.try_next() {
            let failed = matches!(event, Event::Failed { .. });
            assert!(!failed || round == 0 && fails > 0, "{fails}, {rotates}, round {round}: {event:?}");
        }
        db.close().unwrap();
        drop(db);
        let what = format!("{fails}, {rotates}, round {round}");
        past::every_moment_is_there(&disk, &states, &what);
        assert!(
            !disk
                .files()
                .iter()
                .any(|(path, _)| in_quarantine(path) && path.to_string_lossy().contains(".seg")),
            "{what}"
        );
    }
}

/// CKP-11: no manifest is left, and the archive is away when a salvage makes one. It is not given up for that once it is back.
#[test]
fn an_archive_that_is_away_while_manifests_are_made_anew_is_not_deleted_once_it_is_back() {
    for said in [archiving, by_hand] {
        let disk = crashed::disk(1);
        let db = builder(&disk, archiving).open().unwrap();
        for i in 0..4 {
            large(&db, i);
            db.snapshot().unwrap().wait().unwrap();
        }
        db.close().unwrap();
        drop(db);
        let there = disk.files().into_iter().filter(|(path, _)| is_archived(path));
        let archive: Vec<_> = there.map(|(path, _)| (path.clone(), disk.read(&path).unwrap())).collect();
        archive.iter().for_each(|(path, _)| disk.erase(path).unwrap());
        for manifest in files(&disk, ".manifest") {
            disk.erase(manifest).unwrap();
        }
        let session = |policy| {
            let db = builder(&disk, said).policy(policy).open().unwrap();
            for i in 0..3 {
                large(&db, 10 + i);
                db.snapshot().unwrap().wait().unwrap();
            }
            db.close().unwrap();
        };
        session(Policy::Salvage);
        archive.iter().for_each(|(path, bytes)| disk.put(path, bytes).unwrap());
        session(Policy::TruncateTail);
        let now: Vec<_> = disk.files().into_iter().map(|(path, _)| disk.read(path).unwrap()).collect();
        let segments = archive.iter().filter(|(path, _)| path.to_string_lossy().ends_with(".seg.zst"));
        assert!(segments.map(|(_, bytes)| bytes).all(|bytes| now.contains(bytes)));
    }
}

/// What never had an archive goes on without one after a salvage without a manifest, also where a tool works on it.
#[test]
fn nothing_is_missed_of_an_archive_that_there_never_was() {
    let disk = crashed::disk(1);
    let db = builder(&disk, by_hand).open().unwrap();
    for i in 0..4 {
        large(&db, i);
        db.snapshot().unwrap().wait().unwrap();
    }
    db.close().unwrap();
    drop(db);
    for manifest in files(&disk, ".manifest") {
        disk.erase(manifest).unwrap();
    }
    let db = builder(&disk, by_hand).policy(Policy::Salvage).open().unwrap();
    large(&db, 9);
    db.close().unwrap();
    drop(db);
    let db = builder(&disk, by_hand).keep_all().open().unwrap();
    db.compact().unwrap().wait().unwrap();
    assert!(db.verify(|_| {}).unwrap().faults.is_empty());
}

/// REC-13: the database was put back from a copy and went on; then the log alone was put back, as it was in the first life. What comes in it behind what the
/// snapshot holds was made for another state. The manifest knows the salt of a segment before that, which is not read any more.
#[test]
fn another_lifes_log_behind_a_snapshot_is_no_past() {
    for n in 0..3 {
        let disk = crashed::disk(1);
        let db = builder(&disk, archiving).open().unwrap();
        let mut was: Vec<State> = (0..n).map(|i| large(&db, 100 + i)).collect();
        db.close().unwrap();
        drop(db);
        let early = copy(&disk);
        let db = builder(&disk, archiving).open().unwrap();
        was.extend((1..4).map(|i| large(&db, i)));
        db.close().unwrap();
        drop(db);
        let late = copy(&disk);
        put_back(&disk, &early);
        let db = builder(&disk, archiving).open().unwrap();
        was.push(large(&db, 10));
        db.snapshot().unwrap().wait().unwrap();
        db.close().unwrap();
        drop(db);
        put_in_place(&disk, &late, in_log);
        no_world_is_another(&disk, archiving, &was, (n + 1..n + 5).map(Lsn), &n.to_string());
    }
}
