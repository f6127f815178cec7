//! The I/O scheduler over the simulated disk: what was published through it is whole and durable, wherever the power goes.

use std::path::Path;
use std::sync::Arc;

use ecsdb_io::{IoError, Priority, Scheduler, SchedulerOptions, publish, read_file};
use ecsdb_sim::{CrashCase, Exploration, Failure, Journal, SimDisk, explore, explore_faults};

const FILES: u8 = 4;

/// Publishes files of many small writes, one after another, noting each that is said to be durable.
fn workload(disk: &SimDisk, journal: &Journal<u8>) -> Result<(), String> {
    let scheduler =
        Scheduler::start(SchedulerOptions { queue_bytes_max: 2_000, ..SchedulerOptions::default() })
            .map_err(|e| e.to_string())?;
    let vfs = scheduler.vfs(Arc::new(disk.clone()), Priority::Snapshot);
    for file in 0..FILES {
        publish::<_, IoError>(&*vfs, &name(file), |to| {
            // Adjacent ones, which are merged, and others between them.
            for at in 0..40 {
                to.write_at(&[file + 1; 100], at * 100)?;
            }
            to.write_at(&[0xee; 50], 6_000)?;
            to.write_at(&[file + 1; 2_000], 4_000)
        })
        .map_err(|e| e.to_string())?;
        journal.note(file);
    }
    Ok(())
}

fn name(file: u8) -> std::path::PathBuf {
    Path::new("/").join(format!("file-{file}"))
}

fn check(disk: &SimDisk, case: &CrashCase<'_, u8>) -> Result<(), String> {
    for file in 0..FILES {
        let acknowledged = case.events.contains(&file);
        match read_file(&*disk.vfs(), &name(file), 10_000) {
            Ok(bytes) => {
                let mut expected = vec![file + 1; 6_000];
                expected.extend([0xee; 50]);
                if bytes != expected {
                    return Err(format!("file {file} is there, but not whole"));
                }
            }
            Err(e) if e.is_not_found() && !acknowledged => {}
            Err(e) => return Err(format!("file {file} was published: {e}")),
        }
    }
    Ok(())
}

#[test]
fn a_power_cut_at_any_operation_leaves_whole_files_and_all_that_were_acknowledged() {
    let explored = explore(&Exploration::default(), workload, check).unwrap();
    assert!(explored.crashes > 100, "{explored:?}");
}

/// The workload goes on in other threads after a fault, so the failure has to reach the caller that waits (WAL-5).
#[test]
fn an_error_of_any_operation_reaches_whoever_publishes_and_nothing_half_done_is_called_durable() {
    let exploration = Exploration { random_variants: 4, ..Exploration::default() };
    let failures = [Failure::Io, Failure::NoSpace, Failure::ShortWrite(30)];
    let explored = explore_faults(&exploration, &failures, workload, check).unwrap();
    assert!(explored.points > 30, "{explored:?}");
}
