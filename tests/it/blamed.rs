//! One segment is gone, or nothing of it is left: whoever looks says so of that file, and of no other (REC-2, REC-13).

use std::path::{Path, PathBuf};

use ecsdb::prelude::*;
use ecsdb::{DataLoss, Policy};
use ecsdb_io::Layout;
use ecsdb_sim::{CrashVariant, SimDisk};
use ecsdb_tests::crashed::{self, DIR, builder, files};

use crate::components::Counter;
use crate::lifecycle::{State, archiving, by_hand, large, state};
use crate::model::cases;

/// Lives that have found a fault.
const FOUND: [u64; 2] = [15, 28];

/// Sessions that are closed or killed, in segments large and small, some of them archived.
pub(crate) fn live(random: &mut fastrand::Rng, archive: bool) -> (SimDisk, State) {
    let mut disk = crashed::disk(random.u64(..));
    let open = |disk: &SimDisk| open(disk, archive, Policy::TruncateTail).unwrap();
    let mut db = open(&disk);
    let mut last = state(&db);
    for _ in 0..random.usize(2..14) {
        match random.u32(0..9) {
            0..3 => {
                db.write(|tx| Ok(tx.spawn(Counter(random.u64(..))))).unwrap();
                last = state(&db);
            }
            3 => last = large(&db, random.u64(..)),
            4 => db.rotate_log().unwrap(),
            5 => drop(db.snapshot().unwrap().wait().unwrap()),
            end => {
                if end < 8 {
                    db.close().unwrap();
                } else {
                    disk.power_off();
                    drop(db);
                }
                disk = disk.crash(CrashVariant::KEPT);
                db = open(&disk);
            }
        }
    }
    disk.power_off();
    (disk.crash(CrashVariant::KEPT), last)
}

pub(crate) fn open(disk: &SimDisk, archive: bool, policy: Policy) -> ecsdb::Result<Database> {
    builder(disk, if archive { archiving } else { by_hand }).policy(policy).open()
}

/// A file's name without its endings: a segment that is gone may have been compressed or not.
fn stem(path: &Path) -> PathBuf {
    path.with_extension("").with_extension("")
}

#[test]
fn what_is_missing_is_blamed_and_not_what_is_beside_it() {
    let mut blamed = 0;
    for seed in FOUND.into_iter().chain(0..u64::from(cases(12))) {
        let mut random = fastrand::Rng::with_seed(seed);
        let archive = random.bool();
        let (before, (_, last)) = live(&mut random, archive);
        for path in [files(&before, ".seg"), files(&before, ".seg.zst")].concat() {
            for left in [None, Some(0), Some(before.read(&path).unwrap().len())] {
                let disk = before.crash(CrashVariant::KEPT);
                match left {
                    None => disk.erase(&path).unwrap(),
                    Some(bytes) => disk.put(&path, &vec![0; bytes]).unwrap(),
                }
                let what = format!("seed {seed}: {}, of which {left:?} zeros are left", path.display());
                let is_named = |text: &str| text.contains(&*stem(&path).to_string_lossy());
                let found = ecsdb_recovery::verify(&*disk.vfs(), &Layout::new(DIR), &mut |_| {}).unwrap();
                assert!(found.faults.iter().all(|fault| is_named(fault)), "{what}: {:?}", found.faults);
                match open(&disk, archive, Policy::TruncateTail) {
                    Ok(db) => {
                        let report = db.recovery_report().unwrap();
                        let is_whole = state(&db).1 == last || report.data_loss >= DataLoss::Possible;
                        assert!(is_whole, "{what}: {report}");
                    }
                    Err(e) => {
                        blamed += 1;
                        assert!(!found.faults.is_empty() && is_named(&e.to_string()), "{what}: {e}");
                    }
                }
            }
        }
    }
    assert!(blamed > 0);
}
