//! Log segments that are damaged or gone, in the log or in the archive, of a database that is open or closed: what it says of its past is what was,
//! up to there, or it refuses (REC-16).

use std::ops::ControlFlow;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ecsdb::prelude::*;
use ecsdb::{Digest, ErrorKind, Moment, RecoveryError};
use ecsdb_io::Layout;
use ecsdb_recovery::{Existence, History, Options, Policy, lock_closed};
use ecsdb_sim::{CrashVariant, SimDisk};
use ecsdb_tests::crashed::{self, DIR, EMPTY, builder, files};
use ecsdb_wal::LogScan;

use crate::components::Counter;
use crate::lifecycle::{archiving, by_hand, large, state};
use crate::model::cases;

/// A transaction that was acknowledged, the world after it, and a time before the next one.
#[derive(Clone, Copy)]
struct Was {
    lsn: Lsn,
    world: Digest,
    until: SystemTime,
}

struct Life {
    disk: SimDisk,
    archive: bool,
    chain: usize,
    states: Vec<Was>,
}

impl Life {
    fn open(&self) -> Database {
        let chain = self.chain;
        let settings = if self.archive { archiving } else { by_hand };
        builder(&self.disk, settings).config(move |config| config.snapshot.chain_max = chain).open().unwrap()
    }

    fn note(&mut self, db: &Database) {
        let (lsn, world) = state(db);
        self.disk.advance(Duration::from_secs(5));
        let until = UNIX_EPOCH + Duration::from_nanos(self.disk.vfs().now_unix_ns());
        self.disk.advance(Duration::from_secs(5));
        self.states.push(Was { lsn, world, until });
    }

    /// A life with several sessions, and segments of one transaction and of more.
    fn new(seed: u64, random: &mut fastrand::Rng) -> (Life, Database) {
        let (archive, chain) = (random.bool(), random.usize(1..4));
        let mut life = Life { disk: crashed::disk(seed), archive, chain, states: Vec::new() };
        let mut db = life.open();
        for _ in 0..random.u64(4..16) {
            match random.u32(..8) {
                0..3 => drop(large(&db, random.u64(..))),
                3 | 4 => drop(db.write(|tx| Ok(tx.spawn(Counter(random.u64(..))))).unwrap()),
                5 | 6 => {
                    db.snapshot().unwrap().wait().unwrap();
                    continue;
                }
                _ => {
                    if random.bool() {
                        db.close().unwrap();
                    } else {
                        life.disk.power_off();
                        drop(db);
                        life.disk = life.disk.crash(CrashVariant::KEPT);
                    }
                    db = life.open();
                    continue;
                }
            }
            life.note(&db);
        }
        (life, db)
    }

    fn moments(&self) -> Vec<(Moment, Was)> {
        let of = |was: &Was| [(Moment::Lsn(was.lsn), *was), (Moment::Time(was.until), *was)];
        let latest = self.states.last().map(|last| (Moment::Latest, *last));
        self.states.iter().flat_map(of).chain(latest).collect()
    }
}

/// Damages one segment that has transactions, or takes it away. Gives the first of them, and whether its header is whole.
fn hurt(disk: &SimDisk, is_open: bool, random: &mut fastrand::Rng) -> Option<(Lsn, bool)> {
    let vfs = disk.vfs();
    let mut segments = Vec::new();
    for path in [".seg", ".seg.zst"].into_iter().flat_map(|end| files(disk, end)) {
        if let Ok(scanned) = LogScan::file(&*vfs, &path)
            && scanned.end.last_lsn >= scanned.header.first_lsn
        {
            segments.push((scanned.header.first_lsn, path));
        }
    }
    segments.sort();
    if is_open {
        // Its end is being written.
        segments.pop();
    }
    let (first, path) = segments.get(random.usize(..segments.len().max(1)))?;
    let len = disk.read(path).unwrap().len();
    match random.u32(..3) {
        0 => disk.erase(path).unwrap(),
        1 => disk.corrupt(path, 0, &[7; 64]).unwrap(),
        _ if path.extension().is_some_and(|end| end == "zst") => {
            disk.corrupt(path, random.u64(..len as u64 - 8), &[9; 8]).unwrap();
        }
        _ => {
            disk.corrupt(path, 4096 + random.u64(..64), &[9; 64]).unwrap();
            return Some((*first, true));
        }
    }
    Some((*first, false))
}

type Past = Result<Digest, ErrorKind>;

fn of_running(db: &Database, moment: Moment) -> Past {
    let view = db.view_at(moment).and_then(|job| job.wait());
    view.map(|view| view.digest().unwrap()).map_err(|e| e.kind())
}

fn of_closed(history: &History<'_>, moment: Moment) -> Past {
    told(history, moment).map_err(|e| ecsdb::Error::from(e).kind())
}

fn told(history: &History<'_>, moment: Moment) -> Result<Digest, RecoveryError> {
    let options =
        Options { existence: Existence::Required, policy: Policy::TruncateTail, threads: 2, register: true };
    let past = history.reconstruct(moment, options, &mut |_| ControlFlow::Continue(()));
    past.map(|past| past.world.view().digest().unwrap())
}

/// What is listed is one transaction after another, to the end, or to where it says that some are lost.
fn judge_list(history: &History<'_>, life: &Life, what: &str) {
    let mut listed = Vec::new();
    let result = history.transactions(Lsn::ZERO, Lsn::MAX, |transaction, _| {
        listed.push(transaction.lsn);
        ControlFlow::Continue(())
    });
    let all: Vec<Lsn> = life.states.iter().map(|was| was.lsn).collect();
    let from = listed.first().map_or(all.len(), |first| all.iter().position(|lsn| lsn == first).unwrap());
    assert!(all[from..].starts_with(&listed), "{what}: {listed:?} of {all:?}");
    assert!(
        result.is_err() || listed.is_empty() || listed.last() == all.last(),
        "{what}: {listed:?} of {all:?}"
    );
}

/// REC-16: each moment is the model's, or refused with a word about why; and what comes before the hole is there as it was without it.
#[test]
fn no_moment_is_told_over_a_hole() {
    let (mut there, mut refused) = (0, 0);
    for seed in 0..u64::from(cases(60)) {
        let mut random = fastrand::Rng::with_seed(seed);
        let (life, db) = Life::new(seed, &mut random);
        let is_open = random.bool();
        let db = if is_open { Some(db) } else { db.close().map(|()| None).unwrap() };
        let (vfs, layout) = (life.disk.vfs(), Layout::new(DIR));
        let ask = || -> Vec<Past> {
            let moments = life.moments().into_iter();
            if let Some(db) = &db {
                return moments.map(|(moment, _)| of_running(db, moment)).collect();
            }
            let (_lock, manifest) = lock_closed(&*vfs, &layout).unwrap();
            let history = History::of_closed(&*vfs, &layout, &manifest).unwrap();
            judge_list(&history, &life, &format!("seed {seed}"));
            moments.map(|(moment, _)| of_closed(&history, moment)).collect()
        };
        let before = ask();
        let Some((first_lost, has_header)) = hurt(&life.disk, is_open, &mut random) else { continue };
        for (((moment, was), past), whole) in life.moments().into_iter().zip(ask()).zip(before) {
            let what = format!("seed {seed}, open {is_open}, hole from LSN {first_lost}: {moment}");
            match past {
                Ok(world) => assert_eq!(world, was.world, "{what}"),
                Err(kind) => {
                    assert!(matches!(kind, ErrorKind::Damaged | ErrorKind::NotFound), "{what}: {kind:?}")
                }
            }
            // Of a time the next transaction tells that it was the last one.
            let told_by = match moment {
                Moment::Time(_) => {
                    life.states.iter().find(|next| next.lsn > was.lsn).map_or(Lsn::MAX, |next| next.lsn)
                }
                _ => was.lsn,
            };
            if has_header && told_by < first_lost {
                assert_eq!(past, whole, "{what}");
            }
            if past.is_ok() { there += 1 } else { refused += 1 }
        }
    }
    assert!(there > 0 && refused > 0);
}

/// A database of four large transactions, a segment each, of which the second is damaged.
fn holed() -> (Life, Database) {
    let mut life = Life { disk: crashed::disk(1), archive: false, chain: 1, states: Vec::new() };
    let db = life.open();
    life.disk.advance(Duration::from_secs(5));
    for value in 0..4 {
        large(&db, value);
        life.note(&db);
    }
    life.disk.corrupt(&files(&life.disk, ".seg")[1], 5000, &[9; 64]).unwrap();
    (life, db)
}

#[test]
fn a_time_behind_a_hole_is_refused_and_one_before_it_is_not() {
    let (life, db) = holed();
    let times: Vec<Moment> = life.states.iter().map(|was| Moment::Time(was.until)).collect();
    let before =
        UNIX_EPOCH + (life.states[0].until.duration_since(UNIX_EPOCH).unwrap() - Duration::from_secs(7));
    assert_eq!(of_running(&db, Moment::Time(before)), Ok(EMPTY));
    let last = state(&db);
    for time in times {
        // After the first it is not known whether the second was written by then.
        let refused = db.restore(time).unwrap().wait().unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Damaged);
        let text = refused.to_string();
        assert!(
            text.contains("lost from LSN 2 on") && text.contains("LSN 0 (") && text.contains("LSN 1 ("),
            "{text}"
        );
        assert!(db.restore_to("/data/copy", time).unwrap().wait().is_err());
    }
    assert_eq!(state(&db), last);
    db.close().unwrap();
}

/// The segment of a log that no snapshot covers is gone: it was told that there had been nothing before, or that nothing was ever committed.
#[test]
fn what_is_before_a_hole_that_no_snapshot_covers_can_be_gone_back_to_and_the_rest_is_lost() {
    for archive in [false, true] {
        for gone in 0..4 {
            let disk = crashed::disk(1);
            let settings = if archive { archiving } else { by_hand };
            let db = builder(&disk, settings).open().unwrap();
            let states: Vec<_> = (0..6).map(|i| large(&db, i)).collect();
            db.close().unwrap();
            let (missing, what) = (files(&disk, ".seg").remove(gone), format!("archive {archive}, {gone}"));
            disk.erase(&missing).unwrap();
            let (vfs, layout) = (disk.vfs(), Layout::new(DIR));
            let (_lock, manifest) = lock_closed(&*vfs, &layout).unwrap();
            let history = History::of_closed(&*vfs, &layout, &manifest).unwrap();
            let mut there = 0;
            let name = missing.file_name().unwrap().to_string_lossy();
            for (lsn, world) in &states {
                match told(&history, Moment::Lsn(*lsn)) {
                    Ok(found) => {
                        assert_eq!(found, *world, "{what}, LSN {lsn}");
                        there += 1;
                    }
                    Err(e) => {
                        let is_loss = matches!(e, RecoveryError::Corrupt { .. } | RecoveryError::Gap { .. });
                        assert!(is_loss && e.to_string().contains(&*name), "{what}, LSN {lsn}: {e}");
                    }
                }
            }
            assert_eq!(there, gone, "{what}: one of large transactions in each segment before it");
            assert!(matches!(told(&history, Moment::Latest), Err(e) if e.to_string().contains("lost")));
        }
    }
}

/// The log was accused, and another look at LSN 0 advised.
#[test]
fn a_copy_whose_snapshot_is_not_there_misses_its_snapshot() {
    for damage in [false, true] {
        let disk = crashed::disk(1);
        let db = builder(&disk, by_hand).open().unwrap();
        for i in 0..3 {
            large(&db, i);
        }
        db.backup_to("/data/copy").unwrap().wait().unwrap();
        db.close().unwrap();
        let snapshot = files(&disk, ".snap").into_iter().find(|path| path.starts_with("/data/copy")).unwrap();
        match damage {
            true => disk.corrupt(&snapshot, 40, &[0xaa; 8]).unwrap(),
            false => disk.erase(&snapshot).unwrap(),
        }
        let opened = Database::builder("/data/copy").config(by_hand).vfs(disk.vfs()).without_threads().open();
        let e = opened.unwrap_err();
        let name = snapshot.file_name().unwrap().to_string_lossy().into_owned();
        assert!(e.to_string().contains(&name) && !e.to_string().contains("--lsn"), "{e}");
    }
}

/// What came before it was told to be the moment of a snapshot that did not load, where the end of the log was damaged, too.
#[test]
fn the_moment_of_a_damaged_snapshot_is_not_an_earlier_one() {
    for (before, older, closed) in
        (0..3).flat_map(|n| [(n, false, false), (n, false, true), (n, true, false), (n, true, true)])
    {
        let disk = crashed::disk(1);
        let db = builder(&disk, by_hand).open().unwrap();
        let write = |value| db.write(|tx| Ok(tx.spawn(Counter(value)))).map(drop).unwrap();
        (0..before).for_each(write);
        if older {
            db.snapshot().unwrap().wait().unwrap();
        }
        if before > 0 {
            db.rotate_log().unwrap();
        }
        write(9);
        let last = state(&db);
        let newest = db.snapshot().unwrap().wait().unwrap().sequence;
        if closed {
            db.close().unwrap();
        }
        disk.power_off();
        drop(db);
        let disk = disk.crash(CrashVariant::KEPT);
        let is_used = |path: &std::path::PathBuf| disk.read(path).unwrap().iter().any(|byte| *byte != 0);
        let segment = files(&disk, ".seg").into_iter().rfind(is_used).unwrap();
        disk.corrupt(crashed::snapshot_file(newest), 20, &[7; 64]).unwrap();
        disk.corrupt(&segment, 4096, &[9; 64]).unwrap();
        let (vfs, layout) = (disk.vfs(), Layout::new(DIR));
        let (_lock, manifest) = lock_closed(&*vfs, &layout).unwrap();
        let history = History::of_closed(&*vfs, &layout, &manifest).unwrap();
        for moment in [Moment::Lsn(last.0), Moment::Snapshot(newest), Moment::Latest] {
            let told = told(&history, moment);
            assert!(told.is_err(), "{before} before, older {older}, closed {closed}: {moment}");
        }
    }
}

/// It was told from where the segment began, with the advice to look at what was before that.
#[test]
fn what_a_snapshot_holds_is_not_told_to_be_lost() {
    let disk = crashed::disk(1);
    let db = builder(&disk, by_hand).open().unwrap();
    for i in 0..5 {
        db.write(|tx| Ok(tx.spawn(Counter(i)))).unwrap();
    }
    let last = state(&db);
    db.snapshot().unwrap().wait().unwrap();
    db.write(|tx| Ok(tx.spawn(Counter(9)))).unwrap();
    disk.power_off();
    drop(db);
    let disk = disk.crash(CrashVariant::KEPT);
    let is_used = |path: &std::path::PathBuf| disk.read(path).unwrap().iter().any(|byte| *byte != 0);
    let segment = files(&disk, ".seg").into_iter().rfind(is_used).unwrap();
    disk.erase(&segment).unwrap();
    let (vfs, layout) = (disk.vfs(), Layout::new(DIR));
    let (_lock, manifest) = lock_closed(&*vfs, &layout).unwrap();
    let history = History::of_closed(&*vfs, &layout, &manifest).unwrap();
    match told(&history, Moment::Latest) {
        Err(RecoveryError::Corrupt { first_lost, .. }) => assert_eq!(first_lost, last.0.next().0),
        other => panic!("{other:?}"),
    }
    assert_eq!(told(&history, Moment::Lsn(last.0)).unwrap(), last.1);
}
