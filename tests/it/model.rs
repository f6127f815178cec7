//! Random transactions of all operations over two or three values against a naive model: in memory, reopened from the log, from a
//! snapshot, and from an increment.

use std::panic::{AssertUnwindSafe, catch_unwind};

use ecsdb::Database;
use ecsdb_sim::SimDisk;
use proptest::prelude::*;

use ecsdb_tests::crashed::open_with;

#[path = "../../crates/ecsdb-core/tests/common/mod.rs"]
mod common;

use common::{End, Model, Op, check, run, stored, transaction};

#[derive(Clone, Debug)]
enum Step {
    Transaction(Vec<Op>, End),
    /// Whole the first time, an increment after that.
    Snapshot,
    Compact,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => transaction().prop_map(|(ops, end, _)| Step::Transaction(ops, end)),
        1 => Just(Step::Snapshot),
        1 => Just(Step::Compact),
        2 => Just(Step::Reopen),
    ]
}

/// As many cases as `ECSDB_CASES` says, for long runs.
pub(crate) fn cases(usual: u32) -> u32 {
    std::env::var("ECSDB_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(usual)
}

#[derive(Debug, thiserror::Error)]
#[error("meant")]
struct Meant;

fn act(db: &Database, model: &mut Model, ops: &[Op], end: &End) {
    let mut next = model.clone();
    let done = catch_unwind(AssertUnwindSafe(|| {
        db.write(|tx| {
            ops.iter().for_each(|op| run(op, tx, &mut next));
            match end {
                End::Commit => Ok(()),
                End::Fail => Err(Meant.into()),
                End::Panic => std::panic::resume_unwind(Box::new("meant")),
            }
        })
    }));
    match (end, done) {
        (End::Commit, Ok(Ok(()))) => *model = next,
        (End::Fail, Ok(Err(_))) => {}
        (End::Panic, Err(panic)) if panic.downcast_ref() == Some(&"meant") => {}
        (_, Err(panic)) => std::panic::resume_unwind(panic),
        (end, done) => panic!("{end:?} {done:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(1_000), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_world_is_what_the_model_says_however_it_comes_back(steps in proptest::collection::vec(step(), 1..16)) {
        let disk = SimDisk::new(7);
        let open = || open_with(&disk, |config| config.snapshot.chain_max = 3).unwrap();
        let (mut db, mut model) = (open(), Model::default());
        for step in &steps {
            match step {
                Step::Transaction(ops, end) => act(&db, &mut model, ops, end),
                Step::Snapshot => drop(db.snapshot().unwrap().wait().unwrap()),
                Step::Compact => drop(db.compact().unwrap().wait().unwrap()),
                Step::Reopen => {
                    let digest = db.view().unwrap().digest().unwrap();
                    db.close().unwrap();
                    db = open();
                    // What is in memory only is gone.
                    model = stored(&model);
                    prop_assert_eq!(db.view().unwrap().digest().unwrap(), digest);
                }
            }
            check(&db.view().unwrap(), &model);
        }
        db.close().unwrap();
        check(&open().view().unwrap(), &stored(&model));
    }
}
