//! The medium does not give a file for once: nothing rests on that, and the next time it counts as before (CKP-11, REC-13).

use ecsdb::{DataLoss, Policy};
use ecsdb_io::FileOp;
use ecsdb_sim::{CrashVariant, Failure, Fault};
use ecsdb_tests::crashed::{DIR, files};

use crate::blamed::{live, open};
use crate::components::Counter;
use crate::lifecycle::state;
use crate::model::cases;

/// Seeds 1089164 and 1097286 of the simulation: a segment was followed by one that did not know of it, and a whole snapshot was set aside.
#[test]
fn what_is_not_given_for_once_counts_the_next_time() {
    let (mut opened, mut refused) = (0, 0);
    for seed in 0..u64::from(cases(40)) {
        let mut random = fastrand::Rng::with_seed(seed);
        let archive = random.bool();
        let (before, (_, last)) = live(&mut random, archive);
        let each = [FileOp::Open, FileOp::Read]
            .map(|op| [".seg", ".snap", ".zst", ".manifest"].map(|ending| (op, ending)));
        for (op, ending) in each.into_iter().flatten() {
            for skip in 0.. {
                let disk = before.crash(CrashVariant::KEPT);
                disk.inject(Fault::on(op).of_names_ending(ending).skip(skip).failing(Failure::Io));
                let first = open(&disk, archive, Policy::TruncateTail);
                if disk.faults_fired() == 0 {
                    break;
                }
                disk.clear_faults();
                let what = format!("seed {seed}: {op:?} of {ending}, after {skip} others");
                let mut last = last;
                match first {
                    Ok(db) => {
                        opened += 1;
                        assert_eq!(state(&db).1, last, "{what}");
                        assert_eq!(db.recovery_report().unwrap().data_loss, DataLoss::None, "{what}");
                        db.write(|tx| Ok(tx.spawn(Counter(skip)))).unwrap();
                        last = state(&db).1;
                        if random.bool() {
                            db.snapshot().unwrap().wait().unwrap();
                        }
                        db.close().unwrap();
                    }
                    Err(_) => refused += 1,
                }
                let db = open(&disk, archive, Policy::Strict).unwrap_or_else(|e| panic!("{what}: {e}"));
                assert_eq!(state(&db).1, last, "{what}");
                let report = db.recovery_report().unwrap();
                assert!(report.rejected.is_empty(), "{what}: {report}");
                let quarantine = format!("{DIR}/quarantine");
                let mut set_aside = files(&disk, "");
                set_aside.retain(|path| path.starts_with(&quarantine));
                assert!(set_aside.is_empty(), "{what}: {set_aside:?}");
            }
        }
    }
    assert!(opened > 20 && refused > 20, "{opened} opened, {refused} refused");
}
