//! Numbers that nobody wrote, under checksums that hold: an opening goes by what is older, or refuses with an error. It does not panic, and what it
//! gives stays (REC-1, REC-8).

use std::path::Path;

use ecsdb::Policy;
use ecsdb::prelude::*;
use ecsdb_io::checksum;
use ecsdb_io::frame::{read_frame, write_frame};
use ecsdb_sim::{CrashVariant, SimDisk};
use ecsdb_snapshot::Manifest;
use ecsdb_tests::crashed::{self, builder, files};

use crate::components::{Counter, Name};
use crate::lifecycle::{State, by_hand, state};

const ODD: [u64; 4] = [0, 1 << 47, 1 << 48, u64::MAX];
const POLICIES: [Policy; 3] = [Policy::TruncateTail, Policy::Salvage, Policy::Strict];

fn open(disk: &SimDisk, policy: Policy) -> ecsdb::Result<Database> {
    builder(disk, by_hand).config(|config| config.snapshot.chain_max = 2).policy(policy).open()
}

fn write(db: &Database, value: u64) {
    db.write(|tx| Ok(tx.spawn(Counter(value)))).unwrap();
}

/// Full snapshots, increments, and some log behind them.
fn killed() -> (SimDisk, State) {
    let disk = crashed::disk(3);
    let db = open(&disk, Policy::Strict).unwrap();
    db.write(|tx| Ok(tx.spawn_batch((0..10).map(|i| (Name(i.to_string()),))))).unwrap();
    for value in 0..3 {
        write(&db, value);
        db.snapshot().unwrap().wait().unwrap();
    }
    write(&db, 9);
    let last = state(&db);
    disk.power_off();
    drop(db);
    (disk.crash(CrashVariant::KEPT), last)
}

/// Opens it and works with it, as far as it goes. Gives the state that it opened with.
fn used(disk: &SimDisk, policy: Policy, what: &str) -> Option<State> {
    let db = open(disk, policy).ok()?;
    let found = state(&db);
    let work = || -> ecsdb::Result<()> {
        for value in 0..2 {
            db.write(|tx| Ok(tx.spawn(Counter(value))))?;
            db.snapshot()?.wait()?;
        }
        db.compact()?.wait()?;
        Ok(())
    };
    let works = work();
    let (_, last) = state(&db);
    if works.is_ok() && db.close().is_ok() {
        let db = open(disk, Policy::TruncateTail).unwrap_or_else(|e| panic!("{what}: and then: {e}"));
        assert_eq!(state(&db).1, last, "{what}");
    }
    Some(found)
}

/// A manifest with another number at this place of its payload, or none where it ends.
fn with_number(manifest: &[u8], at: usize, number: u64) -> Option<Vec<u8>> {
    let (head, rest) = manifest.split_at(16);
    let salt = u32::from_le_bytes(head[12..].try_into().unwrap());
    let (frame, payload) = read_frame(rest, salt).unwrap();
    let mut payload = payload.to_vec();
    payload.get_mut(at..at + 8)?.copy_from_slice(&number.to_le_bytes());
    let mut bytes = head.to_vec();
    write_frame(&mut bytes, frame, &payload, salt);
    Some(bytes)
}

/// Each number of the newest manifest, and of both.
#[test]
fn a_manifest_with_odd_numbers_is_refused_or_used() {
    let (template, last) = killed();
    let manifests = files(&template, ".manifest");
    let mut refused = 0;
    for (i, at) in (0..).step_by(8).enumerate() {
        for (j, number) in ODD.into_iter().enumerate() {
            let disk = template.crash(CrashVariant::KEPT);
            let spoilt = if (i + j) % 2 == 0 { &manifests[1..] } else { &manifests[..] };
            for path in spoilt {
                let Some(odd) = with_number(&disk.read(path).unwrap(), at, number) else {
                    assert!(refused > 0);
                    return;
                };
                disk.put(path, &odd).unwrap();
            }
            let policy = POLICIES[(i + j / 2) % 3];
            let what = format!("{number:#x} at {at} of {spoilt:?}, {policy:?}");
            let is_refused = Manifest::read(&*disk.vfs(), &manifests[1]).is_err();
            let found = used(&disk, policy, &what);
            // The older one is whole.
            if is_refused && spoilt.len() == 1 && policy != Policy::Strict {
                assert_eq!(found.map(|found| found.1), Some(last.1), "{what}");
                refused += 1;
            }
        }
    }
}

/// Writes the header of a file anew, with another number in it.
fn spoil_header(disk: &SimDisk, path: &Path, len: usize, at: usize, number: u64) {
    let mut header = disk.read(path).unwrap()[..len].to_vec();
    header[at..at + 8].copy_from_slice(&number.to_le_bytes());
    let sum = checksum(0, &header[..len - 4]);
    header[len - 4..].copy_from_slice(&sum.to_le_bytes());
    disk.corrupt(path, 0, &header).unwrap();
}

/// An older one is gone by, and the log.
#[test]
fn a_snapshot_with_odd_numbers_in_its_header_loses_nothing() {
    let (template, last) = killed();
    for path in files(&template, ".snap") {
        for at in (32..64).step_by(8) {
            for number in ODD {
                let disk = template.crash(CrashVariant::KEPT);
                spoil_header(&disk, &path, 96, at, number);
                let what = format!("{number:#x} at {at} of {}", path.display());
                let found = used(&disk, Policy::TruncateTail, &what);
                assert_eq!(found.map(|found| found.1), Some(last.1), "{what}");
            }
        }
    }
}

#[test]
fn a_segment_with_odd_numbers_in_its_header_is_refused_or_used() {
    let (template, _) = killed();
    for path in files(&template, ".seg") {
        for at in (32..96).step_by(8) {
            for (number, policy) in ODD.into_iter().zip(POLICIES.into_iter().cycle().skip(at / 8)) {
                let disk = template.crash(CrashVariant::KEPT);
                spoil_header(&disk, &path, 128, at, number);
                used(&disk, policy, &format!("{number:#x} at {at} of {}, {policy:?}", path.display()));
            }
        }
    }
}
