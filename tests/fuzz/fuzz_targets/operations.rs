//! Sequences of operations, crashes among them: what was acknowledged is there, and as it was.
#![no_main]

use std::collections::BTreeMap;

use arbitrary::Arbitrary;
use ecsdb::prelude::*;
use ecsdb::{Digest, Lsn, Moment};
use ecsdb_fuzz::{Bag, Counter, Name, Position, builder};
use ecsdb_sim::{NameOrder, SimDisk};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug, Clone)]
enum Step {
    Spawn(u8, u16),
    Despawn(u8),
    Insert(u8, u8),
    Remove(u8, u8),
    Set(u8, u64),
    All(u8),
}

#[derive(Arbitrary, Debug)]
enum Op {
    Write(Vec<Step>, u8),
    Fail(Vec<Step>),
    Sync,
    Snapshot,
    Compact,
    Back(u8),
    Reopen,
    Crash(u8),
}

fn run(tx: &mut Transaction<'_>, steps: &[Step]) {
    for step in steps.iter().take(8) {
        let ids: Vec<Entity> = tx.query::<Entity>().collect();
        let pick = |n: u8| ids.get(usize::from(n) % ids.len().max(1)).copied();
        match *step {
            Step::Spawn(kind, len) => drop(match kind % 4 {
                0 => tx.spawn(Counter(len.into())),
                1 => tx.spawn((Counter(1), Name("x".repeat(len.into())))),
                2 => tx.spawn((Position { x: 0.0, y: len.into() }, Bag(vec![(len.into(), None)]))),
                _ => tx.spawn(()),
            }),
            Step::Despawn(n) => drop(pick(n).map(|id| tx.despawn(id))),
            Step::Insert(n, kind) => drop(pick(n).map(|id| match kind % 3 {
                0 => tx.insert(id, Counter(kind.into())),
                1 => tx.insert(id, (Name("i".into()), Position { x: 1.0, y: 1.0 })),
                _ => tx.insert(id, Bag(Vec::new())),
            })),
            Step::Remove(n, kind) => drop(pick(n).map(|id| match kind % 2 {
                0 => tx.remove::<Counter>(id).map(drop),
                _ => tx.remove::<(Name, Position)>(id).map(drop),
            })),
            Step::Set(n, value) => drop(pick(n).map(|id| tx.get_mut::<Counter>(id).map(|c| c.0 = value))),
            Step::All(by) => tx.query::<&mut Counter>().for_each(|c| c.0 = c.0.wrapping_add(by.into())),
        }
    }
}

fuzz_target!(|ops: Vec<Op>| {
    let mut disk = SimDisk::new(3);
    disk.put_dir("/db").expect("a directory");
    let mut db = builder(&disk).open().expect("opens");
    let mut history: BTreeMap<Lsn, Digest> = BTreeMap::new();
    let digest = |db: &Database| db.view().expect("a view").digest().expect("a digest");
    history.insert(Lsn(0), digest(&db));
    for op in ops.iter().take(24) {
        match op {
            Op::Write(steps, how) => {
                let how = [Durability::Immediate, Durability::Batched, Durability::Buffered][usize::from(*how) % 3];
                db.write_with(how, |tx| Ok(run(tx, steps))).expect("commits");
                history.insert(db.lsn(), digest(&db));
            }
            Op::Fail(steps) => {
                let before = digest(&db);
                db.write(|tx| -> Result<(), _> { run(tx, steps); Err(std::fmt::Error.into()) }).expect_err("it gives up");
                assert_eq!(digest(&db), before);
                history.insert(db.lsn(), before);
            }
            Op::Sync => drop(db.sync().expect("syncs")),
            Op::Snapshot => drop(db.snapshot().expect("begins").wait().expect("a snapshot")),
            Op::Compact => drop(db.compact().expect("begins").wait().expect("a compaction")),
            Op::Back(n) => {
                let at = history.keys().nth(usize::from(*n) % history.len()).copied().expect("a moment");
                if let Ok(lsn) = db.restore(Moment::Lsn(at)).expect("begins").wait() {
                    assert_eq!(digest(&db), history[&at], "{at} is another moment");
                    history.insert(lsn, digest(&db));
                }
            }
            Op::Reopen => {
                let before = digest(&db);
                db.close().expect("closes");
                db = builder(&disk).open().expect("opens");
                assert_eq!(digest(&db), before);
            }
            Op::Crash(variant) => {
                let durable = db.durable_lsn();
                let variants = disk.crash_variants(2, (*variant).into(), NameOrder::Any);
                let crashed = disk.crash(variants[usize::from(*variant) % variants.len()]);
                drop(std::mem::replace(&mut db, Database::in_memory()));
                disk = crashed;
                db = builder(&disk).policy(ecsdb::Policy::Strict).open().expect("opens after a crash");
                let last = db.recovery_report().expect("a report").last_lsn;
                assert!(last >= durable, "{durable} was durable, and {last} is there");
                assert_eq!(digest(&db), history[&last], "another world at {last}");
                history.retain(|lsn, _| *lsn <= last);
            }
        }
    }
});
