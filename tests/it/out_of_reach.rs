//! Which moments are out of reach for what is damaged or missing: what verifying says is what going back refuses.

use std::ops::ControlFlow;

use ecsdb::Moment;
use ecsdb::prelude::*;
use ecsdb_io::Layout;
use ecsdb_recovery::{Existence, History, Options, Policy, lock_closed, verify};
use ecsdb_sim::{CrashVariant, SimDisk};
use ecsdb_snapshot::Manifest;
use ecsdb_tests::crashed::{self, DIR, builder, files};
use ecsdb_wal::LogScan;

use crate::components::Counter;
use crate::lifecycle::{archiving, by_hand, large};
use crate::model::cases;

/// A closed or killed database with some snapshots and segments, and its last transaction.
fn life(random: &mut fastrand::Rng, seed: u64) -> (SimDisk, Lsn) {
    let (settings, chain) = (if random.bool() { archiving } else { by_hand }, random.usize(1..3));
    let mut disk = crashed::disk(seed);
    let open = |disk: &SimDisk| {
        builder(disk, settings).config(move |c| c.snapshot.chain_max = chain).open().unwrap()
    };
    let mut db = open(&disk);
    for _ in 0..random.u64(3..14) {
        match random.u32(..8) {
            0..3 => drop(large(&db, random.u64(..))),
            3 | 4 => drop(db.write(|tx| Ok(tx.spawn(Counter(random.u64(..))))).unwrap()),
            5 | 6 => drop(db.snapshot().unwrap().wait().unwrap()),
            _ => {
                db.close().unwrap();
                db = open(&disk);
            }
        }
    }
    let last = db.lsn();
    if random.bool() {
        db.close().unwrap();
    } else {
        disk.power_off();
        drop(db);
        disk = disk.crash(CrashVariant::KEPT);
    }
    (disk, last)
}

/// Takes a file away, empties it, puts another database's in its place, damages some of it or one byte; or takes all files of a kind away.
fn hurt(disk: &SimDisk, other: &SimDisk, random: &mut fastrand::Rng) -> Option<String> {
    let ends = [".seg", ".seg.zst", ".snap"];
    if random.u32(..12) == 0 {
        let end = ends[random.usize(..ends.len())];
        for path in files(disk, end) {
            disk.erase(&path).unwrap();
        }
        return Some(format!("all {end}"));
    }
    let all: Vec<_> = ends.into_iter().flat_map(|end| files(disk, end)).collect();
    let path = all.get(random.usize(..all.len().max(1)))?;
    let len = disk.read(path).unwrap().len() as u64;
    let how = random.u32(..6);
    match how {
        0 => disk.erase(path).unwrap(),
        1 => disk.truncate(path, 0).unwrap(),
        2 => disk.corrupt(path, 0, &[7; 64]).unwrap(),
        3 => disk.put(path, &other.read(path).ok()?).unwrap(),
        _ if len < 200 => return None,
        4 => disk.corrupt(path, random.u64(..len - 64), &[9; 64]).unwrap(),
        _ => {
            let at = random.u64(..len);
            let byte = disk.read(path).unwrap()[at as usize];
            disk.corrupt(path, at, &[byte ^ 1 << random.u32(..8)]).unwrap();
        }
    }
    Some(format!("{how} {}", path.display()))
}

/// The last LSN that anything tells of.
fn known(disk: &SimDisk, manifest: &Manifest, reached: &[bool]) -> u64 {
    let segments = [".seg", ".seg.zst"].into_iter().flat_map(|end| files(disk, end));
    let scanned = segments.filter_map(|path| LogScan::file(&*disk.vfs(), &path).ok());
    let ours = scanned.filter(|segment| segment.header.database == manifest.database);
    let ends = ours.map(|segment| segment.end.last_lsn.0);
    let reached = reached.iter().rposition(|there| *there).map_or(0, |at| at as u64 + 1);
    let named = manifest.snapshots.iter().map(|entry| entry.lsn);
    named.chain(ends).chain([reached, manifest.durable_lsn]).max().unwrap_or(0)
}

/// Which moments can be gone back to.
fn reached(disk: &SimDisk, last: Lsn) -> Vec<bool> {
    let (vfs, layout) = (disk.vfs(), Layout::new(DIR));
    let (_lock, manifest) = lock_closed(&*vfs, &layout).unwrap();
    let Ok(history) = History::of_closed(&*vfs, &layout, &manifest) else {
        return vec![false; last.0 as usize];
    };
    let (existence, policy) = (Existence::Required, Policy::TruncateTail);
    let options = Options { existence, policy, threads: 1, register: false };
    let at = |lsn| history.reconstruct(Moment::Lsn(lsn), options, &mut |_| ControlFlow::Continue(()));
    (1..=last.0).map(|lsn| at(Lsn(lsn)).is_ok()).collect()
}

#[test]
fn what_verifying_calls_out_of_reach_is_what_going_back_refuses() {
    let mut found = 0;
    for seed in 0..u64::from(cases(200)) {
        let mut random = fastrand::Rng::with_seed(seed);
        let ((disk, last), (other, _)) = (life(&mut random, seed), life(&mut random, seed + 1_000_000));
        let before = reached(&disk, last);
        let done: Vec<_> = (0..random.usize(1..6)).filter_map(|_| hurt(&disk, &other, &mut random)).collect();
        let (vfs, layout) = (disk.vfs(), Layout::new(DIR));
        let verified = verify(&*vfs, &layout, &mut |_| {}).unwrap();
        let after = reached(&disk, last);
        let (_lock, manifest) = lock_closed(&*vfs, &layout).unwrap();
        let end = known(&disk, &manifest, &after);
        let refused: Vec<u64> =
            (1..=end).filter(|lsn| before[*lsn as usize - 1] && !after[*lsn as usize - 1]).collect();
        let said: Vec<u64> = verified.unreachable.iter().flat_map(|(first, last)| first.0..=last.0).collect();
        let state = format!("{seed}: {done:?} {verified:?}");
        assert_eq!(said, refused, "{state}");
        let lost = before.iter().zip(&after).any(|(before, after)| *before && !after);
        let is_told =
            !verified.faults.is_empty() || !verified.away.is_empty() || verified.torn_tail.is_some();
        assert!(!lost || is_told, "{state}");
        found += usize::from(!refused.is_empty());
    }
    assert!(found > 0);
}
