//! The explorer finds planted bugs, and finds none in `ecsdb_io::publish` and `replace`.

use std::path::Path;
use std::sync::{Arc, Mutex};

use ecsdb_io::{FileKind, IoError, Vfs, VfsFile, publish, read_file, remove_temporaries, replace};
use ecsdb_sim::{
    Counterexample, CrashCase, Exploration, Explored, Failure, Journal, NameOrder, SimDisk, explore,
    explore_faults, explore_from,
};

const TARGET: &str = "/db/0000000000000001.snap";

/// Larger than a sector, so that it can be torn.
fn version(number: u8) -> Vec<u8> {
    vec![number; 1500]
}

/// The steps of a publish, in an order and completeness of one's own.
#[derive(Debug, Clone, Copy, PartialEq)]
enum PublishStep {
    Write,
    Sync,
    Rename,
    SyncDir,
}
use PublishStep::{Rename, Sync, SyncDir, Write};

fn toy_publish(disk: &dyn Vfs, steps: &[PublishStep], bytes: &[u8]) -> Result<(), IoError> {
    let (temporary, target) = (Path::new("/db/0000000000000001.snap.tmp"), Path::new(TARGET));
    remove_temporaries(disk, Path::new("/db"), &[FileKind::Snapshot])?;
    let file = disk.create(temporary)?;
    for step in steps {
        match step {
            Write => file.write_at(bytes, 0)?,
            Sync => file.sync_data()?,
            Rename => disk.rename(temporary, target)?,
            SyncDir => disk.sync_dir(Path::new("/db"))?,
        }
    }
    Ok(())
}

fn publish_three(
    disk: &SimDisk,
    journal: &Journal<u8>,
    publish: impl Fn(&SimDisk, &[u8]) -> Result<(), IoError>,
) -> Result<(), String> {
    disk.put_dir("/db").unwrap();
    for number in 1..=3 {
        publish(disk, &version(number)).map_err(|e| e.to_string())?;
        journal.note(number);
    }
    Ok(())
}

/// The last acknowledged version is there, or a newer one; whole.
fn check(disk: &SimDisk, acknowledged: u8) -> Result<(), String> {
    match read_file(disk, Path::new(TARGET), 1 << 20) {
        Ok(bytes) => match (acknowledged..=3).find(|number| bytes == version(*number)) {
            Some(_) => Ok(()),
            None => Err(format!(
                "{} bytes starting with {:?} are no version from {acknowledged} on",
                bytes.len(),
                bytes.first()
            )),
        },
        Err(e) if e.is_not_found() && acknowledged == 0 => Ok(()),
        Err(e) => Err(e.to_string()),
    }
}

fn check_case(disk: &SimDisk, case: &CrashCase<'_, u8>) -> Result<(), String> {
    check(disk, case.events.last().copied().unwrap_or(0))
}

fn explore_toy(steps: &[PublishStep], exploration: &Exploration) -> Result<Explored, Counterexample> {
    explore(
        exploration,
        |disk, journal| publish_three(disk, journal, |disk, bytes| toy_publish(disk, steps, bytes)),
        check_case,
    )
}

fn real_publish(disk: &SimDisk, bytes: &[u8]) -> Result<(), IoError> {
    let write = |file: &Arc<dyn VfsFile>| {
        let (head, tail) = bytes.split_at(700);
        file.write_at(head, 0)?;
        file.write_at(tail, 700)
    };
    let target = Path::new(TARGET);
    match disk.file_len(target)? {
        None => publish::<_, IoError>(disk, target, write).map(drop),
        Some(_) => replace::<_, IoError>(disk, target, write).map(drop),
    }
}

#[test]
fn a_correct_toy_publish_passes() {
    let explored = explore_toy(&[Write, Sync, Rename, SyncDir], &Exploration::default()).unwrap();
    assert!(explored.points > 12 && explored.crashes >= 40, "{explored:?}");
}

#[test]
fn a_missing_data_sync_is_found() {
    explore_toy(&[Write, Rename, SyncDir], &Exploration::default()).unwrap_err();
}

#[test]
fn a_missing_directory_sync_is_found() {
    explore_toy(&[Write, Sync, Rename], &Exploration::default()).unwrap_err();
}

#[test]
fn a_rename_before_the_sync_is_found() {
    explore_toy(&[Write, Rename, Sync, SyncDir], &Exploration::default()).unwrap_err();
}

#[test]
fn a_directory_sync_before_the_rename_is_found() {
    explore_toy(&[Write, Sync, SyncDir, Rename], &Exploration::default()).unwrap_err();
}

#[test]
fn a_sync_before_the_write_is_found() {
    explore_toy(&[Sync, Write, Rename, SyncDir], &Exploration::default()).unwrap_err();
}

#[test]
fn the_systematic_variants_alone_find_each_of_these() {
    let exploration = Exploration { random_variants: 0, names: NameOrder::Journal, ..Exploration::default() };
    for steps in [&[Write, Rename, SyncDir][..], &[Write, Sync, Rename], &[Write, Rename, Sync, SyncDir]] {
        explore_toy(steps, &exploration).unwrap_err();
    }
}

#[test]
fn a_counterexample_can_be_run_alone() {
    let steps = [Write, Rename, SyncDir];
    let found = explore_toy(&steps, &Exploration::default()).unwrap_err();
    let only = Some((found.point, found.variant.unwrap()));
    let again = explore_toy(&steps, &Exploration { only, ..Exploration::default() }).unwrap_err();
    assert_eq!(found.to_string(), again.to_string());
    assert!(found.trace.last().unwrap().contains("/db"), "{found}");

    let alone = Exploration { only, ..Exploration::default() };
    assert_eq!(explore_toy(&[Write, Sync, Rename, SyncDir], &alone).unwrap().crashes, 1);
}

#[test]
fn the_one_publish_passes_every_crash() {
    let exploration = Exploration { random_variants: 200, ..Exploration::default() };
    let explored =
        explore(&exploration, |disk, journal| publish_three(disk, journal, real_publish), check_case)
            .unwrap();
    assert!(explored.crashes >= 150, "{explored:?}");
}

#[test]
fn the_one_publish_passes_every_fault() {
    let failures =
        [Failure::Io, Failure::NoSpace, Failure::ShortWrite(100), Failure::PowerOff, Failure::PowerOffAfter];
    let workload = |disk: &SimDisk, journal: &Journal<u8>| publish_three(disk, journal, real_publish);
    let explored = explore_faults(&Exploration::default(), &failures, workload, check_case).unwrap();
    assert!(explored.crashes >= 400, "{explored:?}");
}

#[test]
fn a_sync_retried_after_its_failure_is_found() {
    let retrying = |disk: &SimDisk, bytes: &[u8]| -> Result<(), IoError> {
        let file = disk.create(Path::new("/db/0000000000000001.snap.tmp"))?;
        file.write_at(bytes, 0)?;
        file.sync_data().or_else(|_| file.sync_data())?;
        disk.rename(Path::new("/db/0000000000000001.snap.tmp"), Path::new(TARGET))?;
        disk.sync_dir(Path::new("/db"))
    };
    let workload = |disk: &SimDisk, journal: &Journal<u8>| publish_three(disk, journal, retrying);
    explore(&Exploration::default(), workload, check_case).unwrap();
    explore_faults(&Exploration::default(), &[Failure::Io], workload, check_case).unwrap_err();
}

/// A recovery that finishes what a crash interrupted: temporary files go, a first version is published.
fn recover(disk: &SimDisk, careful: bool) -> Result<(), IoError> {
    disk.put_dir("/db")?;
    remove_temporaries(disk, Path::new("/db"), &[FileKind::Snapshot])?;
    match disk.file_len(Path::new(TARGET))? {
        Some(_) => Ok(()),
        None if careful => real_publish(disk, &version(3)),
        None => {
            let file = disk.create(Path::new(TARGET))?;
            file.write_at(&version(3), 0)?;
            file.sync_data()
        }
    }
}

fn explore_recovery(careful: bool) -> Result<Explored, Counterexample> {
    let exploration = Exploration { random_variants: 4, ..Exploration::default() };
    explore(
        &exploration,
        |disk, journal| publish_three(disk, journal, real_publish),
        |crashed, case| {
            explore_from::<(), _>(
                crashed,
                &exploration.within(case, 6, 4),
                |disk, _| recover(disk, careful).map_err(|e| e.to_string()),
                |crashed_again, _| check(crashed_again, case.events.last().copied().unwrap_or(0)),
            )
            .map(drop)
            .map_err(|e| e.to_string())
        },
    )
}

#[test]
fn a_crash_within_the_recovery_from_a_crash_is_explored() {
    explore_recovery(true).unwrap();
    let found = explore_recovery(false).unwrap_err();
    assert!(found.reason.contains("run it alone"), "the inner case is named too: {found}");
}

#[test]
fn a_panic_in_the_check_or_an_error_of_the_workload_is_a_counterexample() {
    let quiet = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let panicked =
        explore::<(), String>(&Exploration::default(), |_, _| Ok(()), |_, _| panic!("told {}", "so"));
    std::panic::set_hook(quiet);
    assert_eq!(panicked.unwrap_err().reason, "panicked: told so");
    let failed = explore::<(), _>(&Exploration::default(), |_, _| Err("no".to_string()), |_, _| Ok(()));
    assert!(failed.unwrap_err().reason.ends_with("no"));
}

#[test]
fn fewer_points_are_spread_over_the_workload_and_end_with_its_last() {
    let seen = Mutex::new(Vec::new());
    let exploration = Exploration { points_max: 5, random_variants: 0, ..Exploration::default() };
    explore::<(), IoError>(
        &exploration,
        |disk, _| (0..100).try_for_each(|i| disk.create(Path::new(&format!("/{i}"))).map(drop)),
        |_, case| {
            seen.lock().unwrap().push(case.point);
            Ok(())
        },
    )
    .unwrap();
    let mut seen = seen.into_inner().unwrap();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!((seen.len(), seen.last()), (5, Some(&100)));
}

#[test]
fn a_workload_with_threads_is_crashed_consistently() {
    // Each thread syncs its own file before it acknowledges; so does no crash lose an acknowledged byte.
    let workload = |disk: &SimDisk, journal: &Journal<(usize, u8)>| -> Result<(), IoError> {
        (0..3).try_for_each(|n| disk.put(format!("/{n}"), b""))?;
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..3usize)
                .map(|n| {
                    scope.spawn(move || -> Result<(), IoError> {
                        let file = disk.open(Path::new(&format!("/{n}")), ecsdb_io::OpenMode::ReadWrite)?;
                        for i in 0..10u8 {
                            file.write_at(&[i + 1], u64::from(i))?;
                            file.sync_data()?;
                            journal.note((n, i));
                        }
                        Ok(())
                    })
                })
                .collect();
            threads.into_iter().try_for_each(|thread| thread.join().unwrap())
        })
    };
    explore(&Exploration::default(), workload, |crashed, case| {
        for (n, i) in case.events {
            assert_eq!(crashed.read(format!("/{n}"))?[usize::from(*i)], i + 1);
        }
        Ok(())
    })
    .unwrap();
}
