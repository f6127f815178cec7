//! What nobody has given up of the past, as small as it gets: what fell once (CKP-11).

use std::path::{Path, PathBuf};

use ecsdb::prelude::*;
use ecsdb::{Lsn, PersistenceConfig, Policy};
use ecsdb_io::{FileKind, Layout};
use ecsdb_recovery::verify;
use ecsdb_sim::{CrashVariant, SimDisk};
use ecsdb_tests::crashed::{self, DIR, builder, files};

use crate::away::manifest;
use crate::components::Name;
use crate::lifecycle::{State, by_hand, large, state};
use crate::past::every_moment_is_there;
use crate::two_lives::{
    copy, each_full, in_log, is_archived, no_world_is_another, put_back, put_in_place, small,
};

fn unlimited(config: &mut PersistenceConfig) {
    by_hand(config);
    config.archive.enabled = Some(true);
    config.archive.compression_level = 0;
    config.retention.unlimited = true;
    config.snapshot.chain_max = 1;
}

fn snap(db: &Database) {
    db.snapshot().unwrap().wait().unwrap();
}

/// A transaction in a segment of its own for each value, each with a snapshot behind it; and the end.
fn rotated(db: Database, values: std::ops::Range<u64>) {
    for value in values {
        small(&db, value);
        db.rotate_log().unwrap();
        snap(&db);
    }
    db.close().unwrap();
}

fn archive_file(name: &str) -> PathBuf {
    Path::new(DIR).join("archive").join(name)
}

/// A closed database that keeps everything, of which the first transaction did not fit the first segment, which stayed empty. Its archive has segments
/// 2 and 3, and all of its past.
fn first_segment_empty() -> (SimDisk, Vec<State>) {
    let disk = crashed::disk(1);
    let db = builder(&disk, unlimited).open().unwrap();
    db.write(|tx| Ok(tx.spawn(Name("x".repeat(90_000))))).unwrap();
    let mut states = vec![state(&db), large(&db, 2)];
    snap(&db);
    db.close().unwrap();
    drop(db);
    let db = builder(&disk, unlimited).open().unwrap();
    states.push(small(&db, 3));
    snap(&db);
    db.close().unwrap();
    drop(db);
    every_moment_is_there(&disk, &states, "before");
    (disk, states)
}

/// CKP-11: nothing is given up where `retention.unlimited` is said. The segment that the archive begins with is away for one trim.
#[test]
fn an_archive_that_goes_back_to_the_beginning_loses_nothing_while_its_first_segment_is_away() {
    let (disk, states) = first_segment_empty();
    let first = archive_file("0000000000000002.seg");
    let bytes = disk.read(&first).unwrap();
    disk.erase(&first).unwrap();
    let db = builder(&disk, unlimited).open().unwrap();
    snap(&db);
    db.close().unwrap();
    drop(db);
    disk.put(&first, &bytes).unwrap();
    every_moment_is_there(&disk, &states, "it is back");
    builder(&disk, unlimited).open().unwrap().close().unwrap();
    every_moment_is_there(&disk, &states, "opened once more");
}

/// The same, where a bit of its header has flipped: the segments behind it are whole.
#[test]
fn an_archive_that_goes_back_to_the_beginning_loses_nothing_for_its_first_header() {
    let (disk, _) = first_segment_empty();
    let second = disk.read(archive_file("0000000000000003.seg")).unwrap();
    let first = archive_file("0000000000000002.seg");
    disk.flip_bit(&first, 20, 1).unwrap();
    let db = builder(&disk, unlimited).open().unwrap();
    small(&db, 4);
    snap(&db);
    db.close().unwrap();
    drop(db);
    let is_there = |bytes: &[u8]| disk.files().iter().any(|(path, _)| disk.read(path).unwrap() == bytes);
    assert!(is_there(&second), "a whole segment is deleted: {:?}", disk.files());
    disk.flip_bit(&first, 20, 1).unwrap();
}

/// A session that says nothing of archive and retention: it keeps what was said last.
fn unsaid(config: &mut PersistenceConfig) {
    by_hand(config);
    config.snapshot.chain_max = 1;
}

fn a_session_that_says_nothing(disk: &SimDisk, states: &mut Vec<State>) {
    let db = builder(disk, unsaid).open().unwrap();
    for i in 10..13 {
        states.push(small(&db, i));
        drop(db.snapshot().unwrap().wait());
    }
    db.close().unwrap();
    drop(db);
    every_moment_is_there(disk, states, "after a session that says nothing");
}

/// CKP-11: what was said goes on to hold in openings that say nothing, though the session that said it has come to no trim.
#[test]
fn what_was_said_holds_though_nothing_was_trimmed_since() {
    for killed in [false, true] {
        let disk = crashed::disk(1);
        let db = builder(&disk, unlimited).open().unwrap();
        let mut states = vec![small(&db, 1), small(&db, 2)];
        let disk = if killed {
            let after = disk.crash(CrashVariant::KEPT);
            disk.power_off();
            drop(db);
            after
        } else {
            db.close().unwrap();
            drop(db);
            disk
        };
        a_session_that_says_nothing(&disk, &mut states);
    }
}

/// CKP-11: the same where each trim failed, since another database's files are in the archive's place.
#[test]
fn what_was_said_holds_though_each_trim_has_failed() {
    let disk = crashed::disk(1);
    let other = Database::builder("/data/other").vfs(disk.vfs()).without_threads().config(unlimited);
    let other = other.open().unwrap();
    large(&other, 1);
    other.close().unwrap();
    drop(other);
    let theirs = disk.read("/data/other/log/0000000000000001.seg").unwrap();
    disk.put(archive_file("0000000000000001.seg"), &theirs).unwrap();
    let db = builder(&disk, unlimited).open().unwrap();
    let mut states = Vec::new();
    for i in 0..3 {
        states.push(small(&db, i));
        db.rotate_log().unwrap();
        drop(db.snapshot().unwrap().wait());
    }
    db.close().unwrap();
    drop(db);
    every_moment_is_there(&disk, &states, "while it is said");
    a_session_that_says_nothing(&disk, &mut states);
}

/// CKP-11: two files lie in the archive under one number: the one that the next segment names counts, whichever name comes first. Another life's was away
/// when this one's segment was archived, with compression, and is back.
#[test]
fn of_two_copies_under_one_number_the_one_that_the_log_leads_to_counts() {
    let disk = crashed::disk(1);
    builder(&disk, unlimited).open().unwrap().close().unwrap();
    let copied = copy(&disk);
    let db = builder(&disk, unlimited).open().unwrap();
    rotated(db, 100..103);
    put_back(&disk, &copied);
    let theirs = archive_file("0000000000000001.seg");
    let bytes = disk.read(&theirs).unwrap();
    disk.erase(&theirs).unwrap();
    let compressed = |config: &mut PersistenceConfig| {
        unlimited(config);
        config.archive.compression_level = 3;
    };
    let db = builder(&disk, compressed).open().unwrap();
    let mut states = Vec::new();
    for i in 1..4 {
        states.extend([small(&db, i), small(&db, 10 + i)]);
        db.rotate_log().unwrap();
        snap(&db);
    }
    db.close().unwrap();
    drop(db);
    assert!(disk.read(archive_file("0000000000000001.seg.zst")).is_ok());
    every_moment_is_there(&disk, &states, "it is away");
    disk.put(&theirs, &bytes).unwrap();
    every_moment_is_there(&disk, &states, "it is back");
    let verified = verify(&*disk.vfs(), &Layout::new(DIR), &mut |_| {}).unwrap();
    assert!(verified.faults.is_empty(), "{:?}", verified.faults);
}

/// REC-13: a closed database, of which the log is put back as it was in another life. That begins where this one's newest snapshot ends, and its first
/// segment, which the manifest knows, is not there.
#[test]
fn a_log_of_another_life_that_begins_behind_the_snapshot_is_not_gone_on_from() {
    let disk = crashed::disk(1);
    builder(&disk, unlimited).open().unwrap().close().unwrap();
    let copied = copy(&disk);
    let db = builder(&disk, unlimited).open().unwrap();
    let mut states = vec![small(&db, 100)];
    db.rotate_log().unwrap();
    snap(&db);
    states.push(small(&db, 101));
    snap(&db);
    db.close().unwrap();
    drop(db);
    let others = copy(&disk);
    put_back(&disk, &copied);
    let db = builder(&disk, unlimited).open().unwrap();
    states.push(small(&db, 1));
    snap(&db);
    db.close().unwrap();
    drop(db);
    put_in_place(&disk, &others, in_log);
    no_world_is_another(&disk, unlimited, &states, [Lsn(1), Lsn(2)].into_iter(), "the log alone");
}

/// CKP-3: a segment that the log has given up and still has, since its removal was not synced, stays as long as the archive, which is an older one, does
/// not have it.
#[test]
fn the_last_copy_of_a_segment_that_should_be_archived_stays() {
    let disk = crashed::disk(1);
    let db = builder(&disk, unlimited).open().unwrap();
    rotated(db, 0..4);
    let newest = files(&disk, ".seg").into_iter().rfind(|path| is_archived(path)).unwrap();
    let bytes = disk.read(&newest).unwrap();
    disk.erase(&newest).unwrap();
    let back = Path::new(DIR).join("log").join(newest.file_name().unwrap());
    disk.put(&back, &bytes).unwrap();
    for i in 4..6 {
        let db = builder(&disk, unlimited).open().unwrap();
        small(&db, i);
        snap(&db);
        db.close().unwrap();
    }
    assert!(disk.read(&back).is_ok(), "{:?}", disk.files());
    // Once the archive has it, it goes.
    disk.put(&newest, &bytes).unwrap();
    builder(&disk, unlimited).open().unwrap().close().unwrap();
    assert!(disk.read(&back).is_err(), "{:?}", disk.files());
}

/// CKP-10: another database's segment lies in the log between what the archive has and what leads to that.
#[test]
fn a_strangers_segment_is_not_in_the_way_of_what_leads_to_the_archive() {
    let strangers = crashed::disk(2);
    builder(&strangers, unlimited).open().unwrap().close().unwrap();
    let bytes = strangers.read(files(&strangers, ".seg").pop().unwrap()).unwrap();
    let disk = crashed::disk(1);
    let db = builder(&disk, unlimited).open().unwrap();
    snap(&db);
    let states = vec![small(&db, 1), small(&db, 2)];
    db.close().unwrap();
    drop(db);
    disk.put(Path::new(DIR).join("log/0000000000000002.seg"), &bytes).unwrap();
    let db = builder(&disk, unlimited).open().unwrap();
    db.compact().unwrap().wait().unwrap();
    db.close().unwrap();
    drop(db);
    every_moment_is_there(&disk, &states, "before");
    // By the one before, the log has archived nothing.
    disk.corrupt(files(&disk, ".manifest").pop().unwrap(), 20, &[7; 40]).unwrap();
    every_moment_is_there(&disk, &states, "with the newest manifest damaged");
}

/// REC-13, REC-16: all but the log is put back as it was in one life, and the log is that of another one, which the manifest tells by the salt of the segment that it
/// knows, or by what was durable when that was the last one; and a segment is missed, too. No moment is of the two.
#[test]
fn no_moment_is_of_another_lifes_log_of_which_a_segment_is_missed() {
    for (own, others) in [(1, 2), (2, 3), (3, 4)] {
        let disk = crashed::disk(1);
        builder(&disk, unlimited).open().unwrap().close().unwrap();
        let copied = copy(&disk);
        let mut states = Vec::new();
        let db = builder(&disk, unlimited).open().unwrap();
        for i in 1..=own {
            db.rotate_log().unwrap();
            states.push(small(&db, i));
        }
        db.close().unwrap();
        drop(db);
        let db = builder(&disk, unlimited).open().unwrap();
        snap(&db);
        let first = copy(&disk);
        db.close().unwrap();
        drop(db);
        put_back(&disk, &copied);
        let db = builder(&disk, unlimited).open().unwrap();
        states.extend((1..=others).map(|i| small(&db, 10 + i)));
        db.close().unwrap();
        drop(db);
        put_in_place(&disk, &first, |path| !in_log(path));
        let what = format!("{own} {others}");
        no_world_is_another(&disk, unlimited, &states, (1..=others).map(Lsn), &what);
    }
}

/// CKP-10: all but the log was put back. What the manifest knows of the log is in the archive by now, and another database's file that the log has
/// gone on behind is in nobody's way.
#[test]
fn another_databases_file_does_not_close_a_log_whose_beginning_is_archived() {
    let disk = crashed::disk(1);
    let db = builder(&disk, each_full).open().unwrap();
    small(&db, 1);
    snap(&db);
    db.close().unwrap();
    drop(db);
    let copied = copy(&disk);
    let db = builder(&disk, each_full).open().unwrap();
    db.compact().unwrap().wait().unwrap();
    let last = small(&db, 2);
    db.close().unwrap();
    drop(db);
    let other = crashed::disk(2);
    builder(&other, each_full).open().unwrap().close().unwrap();
    let theirs = other.read(files(&other, ".seg").pop().unwrap()).unwrap();
    disk.put(Layout::new(DIR).file(FileKind::Segment, 12), &theirs).unwrap();
    builder(&disk, each_full).open().unwrap().close().unwrap();
    put_in_place(&disk, &copied, |path| !is_archived(path) && !in_log(path));
    let verified = verify(&*disk.vfs(), &Layout::new(DIR), &mut |_| {}).unwrap();
    assert_eq!(verified.faults, Vec::<String>::new());
    assert_eq!(state(&builder(&disk, each_full).policy(Policy::Strict).open().unwrap()), last);
}

/// What is said while the database is open holds from then on, whether it comes to a trim or not.
#[test]
fn what_is_said_of_the_past_while_it_is_open_is_noted_at_once() {
    for killed in [false, true] {
        let mut disk = crashed::disk(1);
        let db = builder(&disk, unsaid).open().unwrap();
        let mut states = vec![small(&db, 1)];
        ecsdb_tests::reconfigure(&db, |config| {
            config.archive.enabled = Some(true);
            config.retention.unlimited = true;
        })
        .unwrap();
        if killed {
            disk.power_off();
            drop(db);
            disk = disk.crash(CrashVariant::KEPT);
        } else {
            db.close().unwrap();
        }
        a_session_that_says_nothing(&disk, &mut states);
    }
}

/// CKP-7: the archive is gone for good. It is given up by an opening that says that there is none, and whoever archives afterwards waits for nothing.
#[test]
fn an_archive_that_is_said_to_be_none_is_given_up_by_that_opening() {
    let (disk, _) = first_segment_empty();
    let archived = files(&disk, ".seg").into_iter().filter(|path| is_archived(path));
    archived.for_each(|path| disk.erase(path).unwrap());
    let none = |config: &mut PersistenceConfig| {
        unsaid(config);
        config.archive.enabled = Some(false);
    };
    let db = Database::builder(DIR).vfs(disk.vfs()).config(none).open().unwrap();
    let is_given_up = || manifest(&disk).is_some_and(|now| now.archived_from() >= now.archive_end);
    for _ in 0..2_000 {
        if is_given_up() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert!(is_given_up());
    db.close().unwrap();
    drop(db);
    let db = builder(&disk, unlimited).open().unwrap();
    for value in 0..3 {
        large(&db, value);
        snap(&db);
    }
    assert!(files(&disk, ".seg").into_iter().any(|path| is_archived(&path)), "{:?}", disk.files());
}
