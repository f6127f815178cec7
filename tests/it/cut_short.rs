//! A segment that ends at any byte, within the zeros after a record, too: it is read as far as it is whole, and what goes on from it is whole
//! (REC-3, REC-5).

use ecsdb::Policy;
use ecsdb::prelude::*;
use ecsdb_io::Layout;
use ecsdb_sim::{CrashVariant, SimDisk};
use ecsdb_tests::crashed::{self, DIR, builder, files};

use crate::components::{Counter, Name};
use crate::lifecycle::archiving;

const TRANSACTIONS: u64 = 7;

fn open(disk: &SimDisk, policy: Policy) -> ecsdb::Result<Database> {
    builder(disk, archiving).policy(policy).open()
}

fn counters(db: &Database) -> Vec<u64> {
    let view = db.view().unwrap();
    let mut all: Vec<u64> = view.query::<&Counter>().unwrap().map(|counter| counter.0).collect();
    all.sort_unstable();
    all
}

fn opens_as_what_is_whole(closes: bool) {
    let before = crashed::disk(1);
    let db = open(&before, Policy::Strict).unwrap();
    for i in 0..TRANSACTIONS {
        // Records of every length within an alignment.
        db.write(|tx| Ok(tx.spawn((Counter(i), Name("x".repeat(i as usize)))))).unwrap();
    }
    if closes {
        db.close().unwrap();
    } else {
        before.power_off();
        drop(db);
    }
    let before = before.crash(CrashVariant::KEPT);
    let path = files(&before, ".seg").into_iter().find(|path| path.starts_with(Layout::new(DIR).log_dir()));
    let (path, bytes) = path.map(|path| (path.clone(), before.read(&path).unwrap())).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let (mut cuts, mut seen) = (0, Vec::new());
    for policy in [Policy::Salvage, Policy::TruncateTail, Policy::Strict] {
        let mut least = 0;
        for len in (4096..bytes.len().min(end + 17)).chain([bytes.len()]) {
            let what = format!("{policy:?}, cut to {len} of {end}, closed: {closes}");
            let disk = before.crash(CrashVariant::KEPT);
            disk.put(&path, &bytes[..len]).unwrap();
            let db = match open(&disk, policy) {
                Ok(db) => db,
                Err(e) => {
                    assert!(policy != Policy::Salvage && e.kind() == ErrorKind::Damaged, "{what}: {e}");
                    continue;
                }
            };
            cuts += 1;
            let found = counters(&db);
            let count = found.len() as u64;
            assert!(found.iter().copied().eq(0..count) && count >= least, "{what}: {found:?} after {least}");
            (least, seen) = (count, [seen, vec![count]].concat());
            // What comes after is whole, and so is what is kept of it.
            db.write(|tx| Ok(tx.spawn(Counter(count)))).unwrap();
            db.snapshot().unwrap().wait().unwrap();
            db.compact().unwrap().wait().unwrap();
            db.close().unwrap();
            let verified = ecsdb_recovery::verify(&*disk.vfs(), &Layout::new(DIR), &mut |_| {}).unwrap();
            assert!(verified.faults.is_empty(), "{what}: {:?}", verified.faults);
            let db = open(&disk, Policy::Strict).unwrap_or_else(|e| panic!("{what}: {e}"));
            assert!(counters(&db).into_iter().eq(0..=count), "{what}");
        }
        assert!(policy != Policy::Salvage || least == TRANSACTIONS, "{least}");
    }
    seen.sort_unstable();
    seen.dedup();
    assert!(seen.into_iter().eq(0..=TRANSACTIONS) && cuts > 500, "{cuts}");
}

#[test]
fn what_was_closed_and_is_cut_at_any_byte_opens_as_what_is_whole() {
    opens_as_what_is_whole(true);
}

#[test]
fn what_was_not_closed_and_is_cut_at_any_byte_opens_as_what_is_whole() {
    opens_as_what_is_whole(false);
}
