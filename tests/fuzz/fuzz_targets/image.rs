//! A killed database with some bytes of its files changed, files cut, swapped and removed: every opening gives a state of the history, or an
//! error; nothing that is lost is called less.
#![no_main]

use std::sync::LazyLock;

use arbitrary::Arbitrary;
use ecsdb::{DataLoss, Policy};
use ecsdb_fuzz::{Lived, builder, disk_of, lived};
use libfuzzer_sys::fuzz_target;

static LIVED: LazyLock<Lived> = LazyLock::new(lived);

#[derive(Arbitrary, Debug)]
enum Edit {
    Write { file: u8, at: u16, page: u8, bytes: [u8; 4] },
    Zero { file: u8, sector: u8 },
    Cut { file: u8, len: u16 },
    Swap { one: u8, two: u8 },
    Remove { file: u8 },
}

fuzz_target!(|edits: (u8, Vec<Edit>)| {
    let (policy, edits) = edits;
    let mut files = LIVED.files.clone();
    let n = files.len();
    for edit in edits.into_iter().take(4) {
        match edit {
            Edit::Write { file, at, page, bytes } => {
                let file = &mut files[usize::from(file) % n].1;
                let at = usize::from(at % 4096) + 4096 * usize::from(page % 16);
                for (i, byte) in bytes.into_iter().enumerate() {
                    if let Some(place) = file.get_mut(at + i) {
                        *place ^= byte;
                    }
                }
            }
            Edit::Zero { file, sector } => {
                let file = &mut files[usize::from(file) % n].1;
                let (from, len) = (usize::from(sector) * 512, file.len());
                file[from.min(len)..(from + 512).min(len)].fill(0);
            }
            Edit::Cut { file, len } => files[usize::from(file) % n].1.truncate(usize::from(len)),
            Edit::Swap { one, two } => {
                let (one, two) = (usize::from(one) % n, usize::from(two) % n);
                let bytes = files[one].1.clone();
                files[one].1 = std::mem::replace(&mut files[two].1, bytes);
            }
            Edit::Remove { file } => files[usize::from(file) % n].0 = "/db/elsewhere".into(),
        }
    }
    let last = LIVED.history.last().expect("a history").0;
    let policy = [Policy::Strict, Policy::TruncateTail, Policy::Salvage][usize::from(policy) % 3];
    let disk = disk_of(&files);
    let Ok(db) = builder(&disk).policy(policy).open() else { return };
    let report = db.recovery_report().expect("a report").clone();
    let digest = db.view().expect("a view").digest().expect("a digest");
    let found = LIVED.history.iter().find(|(lsn, _)| *lsn == report.last_lsn).expect("an LSN of the history");
    assert_eq!(found.1, digest, "another world, under {policy:?}: {report}");
    if report.last_lsn < last {
        // Every transaction of it was acknowledged. Damage to the very last group cannot be told from a torn write.
        let last_group = report.last_lsn.0 + 1 == last.0 && report.data_loss == DataLoss::Unacknowledged;
        assert!(last_group || report.data_loss == DataLoss::Acknowledged, "lost and not told: {report}");
    }
    db.write(|tx| Ok(tx.spawn(ecsdb_fuzz::Counter(7)))).expect("it can be written to");
    let digest = db.view().expect("a view").digest().expect("a digest");
    drop(db);
    let again = builder(&disk).open().expect("it opens again");
    assert_eq!(again.view().expect("a view").digest().expect("a digest"), digest);
});
