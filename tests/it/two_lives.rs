//! A database that was put back from a copy goes on beside the archive of its other life, which has segments under the numbers that it uses itself,
//! or has passed over: none of them is a part of its past (CKP-11).

use std::path::{Path, PathBuf};

use ecsdb::prelude::*;
use ecsdb::{Digest, Lsn, Moment, PersistenceConfig, Policy};
use ecsdb_io::{FileOp, Layout};
use ecsdb_recovery::verify;
use ecsdb_sim::{CrashVariant, Fault, SimDisk};
use ecsdb_tests::components::Counter;
use ecsdb_tests::crashed::{self, DIR, builder, files};

use crate::lifecycle::{State, archiving, by_hand, large, state};
use crate::model::cases;
use crate::past;

pub(crate) fn each_full(config: &mut PersistenceConfig) {
    archiving(config);
    config.snapshot.chain_max = 1;
}

pub(crate) fn is_archived(path: &Path) -> bool {
    path.starts_with(Path::new(DIR).join("archive"))
}

fn log_file(number: u64) -> PathBuf {
    Path::new(DIR).join(format!("log/{number:016}.seg"))
}

pub(crate) fn small(db: &Database, value: u64) -> State {
    db.write(|tx| Ok(tx.spawn(Counter(value)))).map(drop).unwrap();
    state(db)
}

/// All files but the archive's.
pub(crate) fn copy(disk: &SimDisk) -> Vec<(PathBuf, Vec<u8>)> {
    let paths = disk.files().into_iter().map(|(path, _)| path).filter(|path| !is_archived(path));
    paths.map(|path| (path.clone(), disk.read(&path).unwrap())).collect()
}

/// Puts them back. The archive stays as it is.
pub(crate) fn put_back(disk: &SimDisk, copied: &[(PathBuf, Vec<u8>)]) {
    put_in_place(disk, copied, |path| !is_archived(path));
}

/// Puts those of the copied files in the place of those there are, and no others.
pub(crate) fn put_in_place(disk: &SimDisk, copied: &[(PathBuf, Vec<u8>)], is_it: impl Fn(&Path) -> bool) {
    erase(disk, &is_it);
    for (path, bytes) in copied.iter().filter(|(path, _)| is_it(path)) {
        disk.put(path, bytes).unwrap();
    }
}

/// What opens, by any policy, and what is told of any moment, is one of these worlds.
pub(crate) fn no_world_is_another(
    disk: &SimDisk,
    settings: fn(&mut PersistenceConfig),
    worlds: &[State],
    lsns: impl Iterator<Item = Lsn>,
    what: &str,
) {
    let was = |found: Digest| worlds.iter().any(|(_, world)| *world == found);
    for policy in [Policy::Strict, Policy::TruncateTail, Policy::Salvage] {
        if let Ok(db) = builder(&disk.crash(CrashVariant::KEPT), settings).policy(policy).open() {
            let report = db.recovery_report().unwrap();
            assert!(was(state(&db).1), "{what}, {policy:?}: a world that never was: {report}");
        }
    }
    for found in past::past(disk, lsns).into_iter().flatten() {
        assert!(was(found), "{what}: a moment that never was");
    }
}

fn erase(disk: &SimDisk, is_it: impl Fn(&Path) -> bool) {
    for (path, _) in disk.files().into_iter().filter(|(path, _)| is_it(path)) {
        disk.erase(&path).unwrap();
    }
}

pub(crate) fn in_log(path: &Path) -> bool {
    path.starts_with(Path::new(DIR).join("log")) && path.to_string_lossy().ends_with(".seg")
}

fn is_manifest(path: &Path) -> bool {
    path.to_string_lossy().ends_with(".manifest")
}

/// CKP-11: where neither a segment nor the one behind it says what it is, or it is gone, a copy under its number is taken for it by nobody.
#[test]
fn another_lifes_copy_is_not_taken_for_a_segment_that_cannot_be_read() {
    for is_gone in [false, true] {
        let Lives { disk, own, .. } = lives(3, 4, 0, &mut fastrand::Rng::with_seed(3));
        let own = own + 1;
        let is_copy = |path: &Path| is_archived(path) && path.ends_with(format!("{own:016}.seg.zst"));
        let others = files(&disk, ".seg.zst").into_iter().find(|path| is_copy(path)).unwrap();
        let bytes = disk.read(others).unwrap();
        let db = builder(&disk, each_full).open().unwrap();
        for i in 0..6 {
            large(&db, 1_000 + i);
        }
        if is_gone {
            disk.erase(log_file(own)).unwrap();
        } else {
            disk.corrupt(log_file(own), 20, &[7; 30]).unwrap();
            disk.corrupt(log_file(own + 1), 20, &[7; 30]).unwrap();
        }
        for i in 0..2 {
            small(&db, i);
            db.snapshot().unwrap().wait().unwrap();
        }
        db.close().unwrap();
        let there: Vec<_> =
            disk.files().into_iter().filter(|(path, _)| disk.read(path).unwrap() == bytes).collect();
        assert!(there.iter().all(|(path, _)| !is_copy(path)), "{is_gone}: {there:?}");
        assert!(!there.is_empty(), "{is_gone}: it is kept");
    }
}

/// The disk of a database that has gone on for a while, was put back from a copy without its archive, and was open once since and killed. Also its
/// states, those of the other life, and the number of the segment it begins its own life with.
struct Lives {
    disk: SimDisk,
    states: Vec<State>,
    others: Vec<State>,
    own: u64,
}

fn lives(before: u64, other: u64, after: u64, random: &mut fastrand::Rng) -> Lives {
    let disk = crashed::disk(random.u64(..));
    let db = builder(&disk, each_full).open().unwrap();
    let (mut states, mut others) = (Vec::new(), Vec::new());
    for i in 0..before {
        states.push(large(&db, i));
        db.snapshot().unwrap().wait().unwrap();
    }
    db.close().unwrap();
    drop(db);
    let copied = copy(&disk);
    let db = builder(&disk, each_full).open().unwrap();
    for i in 0..other {
        others.push(large(&db, 10 + i));
        db.snapshot().unwrap().wait().unwrap();
    }
    db.close().unwrap();
    drop(db);
    put_back(&disk, &copied);
    let db = builder(&disk, each_full).open().unwrap();
    for i in 0..after {
        states.push(if random.bool() { small(&db, 100 + i) } else { large(&db, 100 + i) });
        if random.u8(..4) == 0 {
            db.snapshot().unwrap().wait().unwrap();
        }
    }
    let closed = random.bool();
    if closed {
        db.close().unwrap();
    }
    disk.power_off();
    drop(db);
    let disk = disk.crash(CrashVariant::KEPT);
    let newest = files(&disk, ".seg").into_iter().rfind(|path| !is_archived(path)).unwrap();
    let own: u64 = newest.file_stem().unwrap().to_string_lossy().parse().unwrap();
    // What threads prepare meanwhile.
    if !closed && random.bool() {
        disk.put(log_file(own + 1), &vec![0; 64 << 10]).unwrap();
    }
    Lives { disk, states, others, own }
}

/// What is told of the past is of this life, or nothing; of what is not damaged it is all there.
fn judge(disk: &SimDisk, lives: &Lives, is_whole: bool, what: &str) {
    let lsns = lives.states.iter().map(|state| state.0);
    for (found, own) in past::past(disk, lsns).into_iter().zip(&lives.states) {
        match found {
            Ok(found) => {
                assert_eq!(found, own.1, "{what}: LSN {}: the other life's: {}", own.0, lives.is_other(found))
            }
            Err(e) => assert!(!is_whole, "{what}: LSN {}: {e}", own.0),
        }
    }
}

impl Lives {
    fn is_other(&self, world: Digest) -> bool {
        self.others.iter().any(|other| other.1 == world)
    }

    /// It goes on, and all of its past is there.
    fn go_on(&mut self, what: &str) {
        let db = builder(&self.disk, each_full).policy(Policy::Strict).open().unwrap();
        assert_eq!(state(&db).1, self.states[self.states.len() - 1].1, "{what}");
        self.states.push(small(&db, 1_000));
        for own in &self.states {
            let view = db.view_at(Moment::Lsn(own.0)).unwrap().wait().unwrap();
            assert_eq!(view.digest().unwrap(), own.1, "{what}: LSN {}", own.0);
        }
        assert!(db.verify(|_| {}).unwrap().faults.is_empty(), "{what}");
        db.close().unwrap();
    }
}

#[test]
fn no_moment_is_of_another_life() {
    for seed in 0..cases(24) {
        let random = &mut fastrand::Rng::with_seed(seed.into());
        let mut lives = lives(random.u64(1..6), random.u64(1..8), random.u64(1..5), random);
        let what = format!("seed {seed}");
        judge(&lives.disk, &lives, true, &what);
        lives.go_on(&what);
        judge(&lives.disk, &lives, true, &what);
        // One of its segments is damaged, or gone, and perhaps snapshots do not load.
        let disk = lives.disk.crash(CrashVariant::KEPT);
        let damaged = log_file(random.u64(lives.own.saturating_sub(2).max(1)..=lives.own));
        match random.u8(..3) {
            _ if disk.read(&damaged).is_err() => {}
            0 => disk.corrupt(&damaged, 40, &[7; 8]).unwrap(),
            1 => disk.corrupt(&damaged, 4_200, &[7; 40]).unwrap(),
            _ => disk.erase(&damaged).unwrap(),
        }
        judge(&disk, &lives, false, &what);
        verify(&*disk.vfs(), &Layout::new(DIR), &mut |_| {}).unwrap();
        for snapshot in files(&disk, ".snap").into_iter().rev().take(random.usize(..4)) {
            disk.corrupt(&snapshot, 20, &[7; 40]).unwrap();
        }
        for policy in [Policy::TruncateTail, Policy::Salvage] {
            let disk = disk.crash(CrashVariant::KEPT);
            if let Ok(db) = builder(&disk, each_full).policy(policy).open() {
                let world = state(&db).1;
                let is_own = world == ecsdb_core::World::new().view().digest().unwrap()
                    || lives.states.iter().any(|own| own.1 == world);
                assert!(
                    is_own,
                    "{what}, {policy:?}: the other life's: {}: {}",
                    lives.is_other(world),
                    db.recovery_report().unwrap()
                );
            }
        }
    }
}

/// Of all that is not the archive's, anything may be gone or damaged: it opens as what it was at one time in this life, or not at all.
#[test]
fn no_world_is_of_another_life() {
    let (mut opened, mut refused) = (0, 0);
    for seed in 0..cases(60) {
        let random = &mut fastrand::Rng::with_seed(seed.into());
        let lives = lives(random.u64(1..4), random.u64(1..8), random.u64(1..5), random);
        for _ in 0..6 {
            let disk = lives.disk.crash(CrashVariant::KEPT);
            let in_archive = format!("archive/{:016}.seg.zst", random.u64(0..9));
            erase(&disk, |path| path.ends_with(&in_archive));
            let all = random.u8(..3);
            let goes = |random: &mut fastrand::Rng, n| n == 0 || n == 1 && random.bool();
            let gone: Vec<_> =
                disk.files().into_iter().filter(|(path, _)| in_log(path) && goes(random, all)).collect();
            gone.into_iter().for_each(|(path, _)| disk.erase(path).unwrap());
            for manifest in files(&disk, ".manifest").into_iter().rev().take([0, 0, 1, 9][random.usize(..4)])
            {
                disk.erase(manifest).unwrap();
            }
            for snapshot in files(&disk, ".snap").into_iter().rev().take(random.usize(..4)) {
                let middle = disk.read(&snapshot).unwrap().len() as u64 / 2;
                match random.u8(..3) {
                    0 => disk.erase(&snapshot).unwrap(),
                    1 => disk.corrupt(&snapshot, 20, &[7; 40]).unwrap(),
                    _ => disk.corrupt(&snapshot, middle, &[7; 40]).unwrap(),
                }
            }
            // Then the archive is all that a salvage has to go on with from a snapshot, and nothing says whose it is.
            let tells = |path: &Path| is_manifest(path) || in_log(path) && disk.read(path).unwrap()[0] != 0;
            let nothing_tells = !disk.files().iter().any(|(path, _)| tells(path));
            for policy in [Policy::Strict, Policy::TruncateTail, Policy::Salvage] {
                let disk = disk.crash(CrashVariant::KEPT);
                let Ok(db) = builder(&disk, each_full).policy(policy).open() else {
                    refused += 1;
                    continue;
                };
                opened += 1;
                let world = state(&db).1;
                let is_own = world == ecsdb_core::World::new().view().digest().unwrap()
                    || lives.states.iter().any(|own| own.1 == world);
                assert!(
                    is_own || nothing_tells,
                    "seed {seed}, {policy:?}: the other life's: {}: {}",
                    lives.is_other(world),
                    db.recovery_report().unwrap()
                );
            }
        }
    }
    assert!(opened > 0 && refused > 0, "{opened}, {refused}");
}

/// The first segment in the archive has become a copy of the second one: nothing is given up for that.
#[test]
fn a_copy_under_another_number_gives_up_no_archive() {
    let disk = crashed::disk(1);
    let db = builder(&disk, each_full).open().unwrap();
    let mut states: Vec<State> = (0..4).map(|i| large(&db, i)).collect();
    for i in 4..8 {
        db.snapshot().unwrap().wait().unwrap();
        states.push(large(&db, i));
    }
    db.close().unwrap();
    drop(db);
    let archived = |n: u64| Path::new(DIR).join(format!("archive/{n:016}.seg.zst"));
    let first = disk.read(archived(1)).unwrap();
    disk.put(archived(1), &disk.read(archived(2)).unwrap()).unwrap();
    let db = builder(&disk, each_full).open().unwrap();
    for i in 8..10 {
        states.push(large(&db, i));
        db.snapshot().unwrap().wait().unwrap();
    }
    db.close().unwrap();
    drop(db);
    disk.put(archived(1), &first).unwrap();
    past::every_moment_is_there(&disk, &states, "the right one is back");
}

/// A life of one large transaction in each segment, archived; put back to LSN 2 after that. Gives the states of before, and those of that life.
fn put_back_to_two(disk: &SimDisk, other: u64, closed: bool) -> (Vec<State>, Vec<State>) {
    let db = builder(disk, each_full).open().unwrap();
    let states: Vec<State> = (0..2).map(|i| large(&db, i)).collect();
    db.close().unwrap();
    drop(db);
    let copied = copy(disk);
    let db = builder(disk, each_full).open().unwrap();
    let mut others: Vec<State> = (10..10 + other).map(|i| large(&db, i)).collect();
    if closed {
        db.close().unwrap();
        drop(db);
        let db = builder(disk, each_full).open().unwrap();
        others.extend(archive_all(&db, 20));
    } else {
        others.extend(archive_all(&db, 20));
    }
    put_back(disk, &copied);
    (states, others)
}

/// So many snapshots that everything before them is archived.
fn archive_all(db: &Database, value: u64) -> Vec<State> {
    let mut states = Vec::new();
    for i in 0..3 {
        db.snapshot().unwrap().wait().unwrap();
        states.push(small(db, value + i));
    }
    states
}

/// The log is not where it should be. REC-13: what another life has archived does not take its place, neither at an opening nor for whoever goes back.
#[test]
fn another_lifes_archive_does_not_take_the_place_of_a_log_that_is_away() {
    for closed in [true, false] {
        let disk = crashed::disk(1);
        let (mut states, others) = put_back_to_two(&disk, if closed { 4 } else { 5 }, closed);
        assert!(files(&disk, "0000000000000006.seg.zst").len() == 1, "{:?}", files(&disk, ".seg.zst"));
        let db = builder(&disk, each_full).open().unwrap();
        states.extend((30..33).map(|i| small(&db, i)));
        db.snapshot().unwrap().wait().unwrap();
        let snapshot = states[states.len() - 1].1;
        states.push(small(&db, 40));
        disk.power_off();
        drop(db);
        let disk = disk.crash(CrashVariant::KEPT);
        erase(&disk, in_log);
        for (found, own) in past::past(&disk, states.iter().map(|state| state.0)).into_iter().zip(&states) {
            assert!(found.is_err() || found.is_ok_and(|found| found == own.1), "LSN {}", own.0);
        }
        let beyond = others.iter().map(|state| state.0).filter(|lsn| *lsn > states[states.len() - 1].0);
        assert!(past::past(&disk, beyond).into_iter().all(|found| found.is_err()));
        for policy in [Policy::Strict, Policy::TruncateTail] {
            let opened = builder(&disk.crash(CrashVariant::KEPT), each_full).policy(policy).open();
            assert!(opened.is_err(), "closed {closed}, {policy:?}");
        }
        let db = builder(&disk, each_full).policy(Policy::Salvage).open().unwrap();
        assert_eq!(state(&db).1, snapshot, "closed {closed}");
        assert!(!db.recovery_report().unwrap().lost.is_empty());
    }
}

/// CKP-11: copies in the archive of segments that the log still has are another life's, and end earlier. By them nothing is given up, and they are no
/// part of what is told of the archive.
#[test]
fn another_lifes_copies_of_what_the_log_has_give_up_no_archive() {
    let disk = crashed::disk(1);
    let (mut states, _) = put_back_to_two(&disk, 40, false);
    let four = |config: &mut PersistenceConfig| {
        each_full(config);
        config.retention.snapshots_max = 4;
    };
    // With threads, which prepare a segment behind the one that the log is in.
    let db = Database::builder(DIR).vfs(disk.vfs()).config(four).open().unwrap();
    for round in 0..8 {
        states.extend((0..20).map(|i| small(&db, 100 * round + i)));
        states.extend((0..3).map(|i| large(&db, 10 * round + i)));
        db.snapshot().unwrap().wait().unwrap();
        let oldest = Lsn(db.snapshots().unwrap()[0].lsn);
        let stats = db.stats().unwrap().store.unwrap();
        assert!(round < 4 || stats.archived_lsn >= oldest, "round {round}: {}", stats.archived_lsn);
        for own in states.iter().filter(|own| own.0 >= oldest) {
            let view = db.view_at(Moment::Lsn(own.0)).and_then(|view| view.wait());
            let digest = view.map(|view| view.digest().unwrap());
            assert_eq!(
                digest.as_ref().ok(),
                Some(&own.1),
                "round {round}: LSN {}: {:?}",
                own.0,
                digest.as_ref().err()
            );
        }
    }
}

/// REC-13: a salvage without a manifest asks those of the archive alone that are the log's.
#[test]
fn a_salvage_without_a_manifest_misses_nothing_of_another_life() {
    for salvaged in [false, true] {
        let disk = crashed::disk(1);
        let db = builder(&disk, each_full).open().unwrap();
        let mut states: Vec<State> = (0..2).map(|i| large(&db, i)).collect();
        archive_all(&db, 50);
        states.push(state(&db));
        db.close().unwrap();
        drop(db);
        let copied = copy(&disk);
        let db = builder(&disk, each_full).open().unwrap();
        for i in 10..14 {
            large(&db, i);
        }
        disk.power_off();
        drop(db);
        let disk = disk.crash(CrashVariant::KEPT);
        if salvaged {
            let newest = files(&disk, ".seg").into_iter().filter(|path| in_log(path)).rev().nth(1).unwrap();
            disk.erase(newest).unwrap();
        }
        let db = builder(&disk, each_full).policy(Policy::Salvage).open().unwrap();
        for i in 14..18 {
            large(&db, i);
        }
        archive_all(&db, 20);
        archive_all(&db, 25);
        db.close().unwrap();
        drop(db);
        put_back(&disk, &copied);
        let db = builder(&disk, each_full).open().unwrap();
        states.extend((30..33).map(|i| large(&db, i)));
        db.close().unwrap();
        drop(db);
        let before = past::past(&disk, states.iter().map(|state| state.0));
        assert!(before.iter().zip(&states).all(|(found, own)| found.as_ref().ok() == Some(&own.1)));
        erase(&disk, is_manifest);
        let db = builder(&disk, each_full).policy(Policy::Salvage).open().unwrap();
        assert_eq!(state(&db).1, states[states.len() - 1].1);
        let report = db.recovery_report().unwrap();
        assert!(report.lost.is_empty(), "salvaged {salvaged}: {report}");
        db.close().unwrap();
        drop(db);
        past::every_moment_is_there(&disk, &states, &format!("salvaged {salvaged}"));
    }
}

/// CKP-11: this life archives nothing. What the other one has archived is no past of it all the same, and is kept, also where it cannot be moved or looked
/// at for a while.
#[test]
fn another_lifes_archive_is_neither_read_nor_deleted_by_one_that_has_none() {
    for (own, other) in [(1, 3), (1, 8), (3, 4), (6, 4)] {
        for fails in [
            None,
            Some((FileOp::Rename, ".seg.zst")),
            Some((FileOp::ReadDir, "archive")),
            Some((FileOp::Read, ".seg.zst")),
            AWAY,
        ] {
            of_one_that_archives_nothing(own, other, fails, false);
            of_one_that_archives_nothing(own, other, fails, true);
        }
    }
}

/// Its files are not there for a while.
const AWAY: Option<(FileOp, &str)> = Some((FileOp::Remove, "archive"));

/// A tool that keeps all may have archived some of it.
fn of_one_that_archives_nothing(own: u64, other: u64, fails: Option<(FileOp, &str)>, by_tool: bool) {
    let disk = crashed::disk(1);
    let without = |config: &mut PersistenceConfig| {
        by_hand(config);
        config.snapshot.chain_max = 1;
        config.retention.snapshots_max = 100;
    };
    let db = builder(&disk, without).open().unwrap();
    let mut states: Vec<State> = (0..2).map(|i| large(&db, i)).collect();
    db.close().unwrap();
    drop(db);
    let copied = copy(&disk);
    let db = builder(&disk, each_full).open().unwrap();
    for i in 0..other {
        large(&db, 10 + i);
    }
    archive_all(&db, 20);
    drop(db);
    // What both lives share, and a tool finds there, is this one's to give up.
    let others = files(&disk, ".seg.zst").into_iter().skip(if by_tool { 2 } else { 0 });
    let archived: Vec<_> = others.map(|path| disk.read(path).unwrap()).collect();
    put_back(&disk, &copied);
    if by_tool {
        let db = builder(&disk, without).keep_all().open().unwrap();
        for i in 0..3 {
            db.snapshot().unwrap().wait().unwrap();
            states.push(large(&db, 60 + i));
        }
        db.close().unwrap();
    }
    let whole = |db: &Database, when: &str| {
        let verified = db.verify(|_| {}).unwrap();
        let found = (&verified.faults[..], &verified.away[..]);
        assert_eq!(found, (&[][..], &[][..]), "{own}, {other}, {fails:?}, {by_tool}: {when}");
    };
    let db = builder(&disk, without).open().unwrap();
    let mut away = Vec::new();
    for round in 0..6 {
        match fails {
            AWAY if round == 0 => {
                let there = disk.files().into_iter().filter(|(path, _)| is_archived(path));
                away = there.map(|(path, _)| (path.clone(), disk.read(&path).unwrap())).collect();
                away.iter().for_each(|(path, _)| disk.erase(path).unwrap());
            }
            AWAY if round == 3 => away.iter().for_each(|(path, bytes)| disk.put(path, bytes).unwrap()),
            Some((op, name)) if fails != AWAY && round == 0 => {
                disk.inject(Fault::on(op).of_names_containing(name).times(u64::MAX));
            }
            _ if round == 3 => disk.clear_faults(),
            _ => {}
        }
        if round >= 3 {
            whole(&db, &format!("round {round}"));
        }
        states.extend((0..own).map(|i| large(&db, 100 * round + i)));
        db.snapshot().unwrap().wait().unwrap();
        for own in &states {
            let view = db.view_at(Moment::Lsn(own.0)).and_then(|view| view.wait());
            if let Ok(view) = view {
                assert_eq!(
                    view.digest().unwrap(),
                    own.1,
                    "{fails:?}, {by_tool}, round {round}: LSN {}",
                    own.0
                );
            }
        }
    }
    whole(&db, "the end");
    db.close().unwrap();
    drop(db);
    if by_tool {
        // Again: what comes into the archive now follows from nothing that is there.
        let db = builder(&disk, without).keep_all().open().unwrap();
        for i in 0..4 {
            large(&db, 700 + i);
            db.snapshot().unwrap().wait().unwrap();
        }
        whole(&db, "the tool's turn");
    }
    let there: Vec<_> = disk.files().iter().map(|(path, _)| disk.read(path).unwrap()).collect();
    let gone = archived.iter().filter(|bytes| !there.contains(bytes)).count();
    assert_eq!(gone, 0, "of {}, {own}, {other}, {fails:?}, {by_tool}", archived.len());
}
