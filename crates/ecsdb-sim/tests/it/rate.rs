//! How many crashes a minute: a log of 1 MiB in preallocated segments, about 200 operations.

use std::path::Path;
use std::time::Instant;

use ecsdb_io::{IoError, OpenMode, Vfs};
use ecsdb_sim::{Exploration, Journal, SimDisk, explore};

const SEGMENT: u64 = 256 * 1024;
const RECORD: usize = 4096;

/// 60 commits of one page each (more than a segment has room for), each synced, over segments filled with zeros.
fn workload(disk: &SimDisk, journal: &Journal<u64>) -> Result<(), IoError> {
    let mut commit = 0u64;
    for segment in 0..4 {
        let file = disk.create(Path::new(&format!("/{segment}.seg")))?;
        file.write_at(&vec![0; SEGMENT as usize], 0)?;
        file.sync_data()?;
        disk.sync_dir(Path::new("/"))?;
        for at in 0..16 {
            commit += 1;
            let mut record = vec![commit as u8; RECORD];
            record[..8].copy_from_slice(&commit.to_le_bytes());
            file.write_at(&record[..RECORD / 2], at * RECORD as u64)?;
            file.write_at(&record[RECORD / 2..], at * RECORD as u64 + RECORD as u64 / 2)?;
            file.sync_data()?;
            journal.note(commit);
        }
    }
    Ok(())
}

/// Replays all records in order, as a recovery would.
fn last_commit(disk: &SimDisk) -> Result<u64, IoError> {
    let mut last = 0;
    let mut record = vec![0; RECORD];
    for segment in disk.read_dir(Path::new("/"))? {
        let file = disk.open(&Path::new("/").join(segment.name), OpenMode::Read)?;
        for at in 0..16 {
            if file.read_at(&mut record, at * RECORD as u64)? < RECORD {
                return Ok(last);
            }
            let mut whole = vec![(last + 1) as u8; RECORD];
            whole[..8].copy_from_slice(&(last + 1).to_le_bytes());
            if record != whole {
                return Ok(last);
            }
            last += 1;
        }
    }
    Ok(last)
}

#[test]
#[ignore = "a measurement: cargo test --release -p ecsdb-sim -- --ignored --nocapture"]
fn a_hundred_thousand_crashes_take_less_than_a_minute() {
    for threads in [1, 2] {
        let start = Instant::now();
        let mut crashes = 0;
        for seed in 0..5 {
            let exploration = Exploration { seed, threads, random_variants: 100, ..Exploration::default() };
            crashes += explore(&exploration, workload, |crashed, case| {
                let acknowledged = case.events.last().copied().unwrap_or(0);
                let found = last_commit(crashed)?;
                assert!((acknowledged..=acknowledged + 1).contains(&found), "{found} after {acknowledged}");
                Ok(())
            })
            .unwrap()
            .crashes;
        }
        let rate = crashes as f64 / start.elapsed().as_secs_f64() * 60.0;
        println!("{threads} threads: {crashes} crashes, {rate:.0} a minute");
        assert!(rate >= 100_000.0);
    }
}
