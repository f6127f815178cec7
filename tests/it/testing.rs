//! `ecsdb::testing`, as a user's test has it: that it finds what a user does wrong.

use ecsdb::prelude::*;
use ecsdb::testing::{CrashPoints, Explored};

use crate::components::Counter;

/// Moves one from a counter to another, `ticks` times.
fn explored(
    tick: impl Fn(&Database, [Entity; 2]) -> ecsdb::Result<()>,
) -> Result<Explored, ecsdb::testing::Counterexample> {
    CrashPoints::new().exploration(|e| e.random_variants = 2).run(
        |db, told| {
            let pair = db.write(|tx| Ok([tx.spawn(Counter(9)), tx.spawn(Counter(0))]))?;
            for n in 1..=3u64 {
                tick(db, pair)?;
                told.note(n);
            }
            Ok(())
        },
        |db, told| {
            let counters: Vec<u64> = db.view()?.query::<&Counter>()?.map(|counter| counter.0).collect();
            assert!(counters.is_empty() || counters.iter().sum::<u64>() == 9);
            assert!(counters.iter().min().copied().unwrap_or(0) >= told.last().copied().unwrap_or(0));
            Ok(())
        },
    )
}

#[test]
fn ticks_that_are_one_transaction_pass_every_crash() {
    let explored = explored(|db, [from, to]| {
        db.write(|tx| {
            tx.get_mut::<Counter>(from)?.0 -= 1;
            tx.get_mut::<Counter>(to)?.0 += 1;
            Ok(())
        })
    });
    assert!(explored.unwrap().crashes > 50);
}

#[test]
fn a_tick_in_two_transactions_and_one_that_was_not_waited_for_are_found() {
    let halves = explored(|db, [from, to]| {
        db.write(|tx| Ok(tx.get_mut::<Counter>(from)?.0 -= 1))?;
        db.write(|tx| Ok(tx.get_mut::<Counter>(to)?.0 += 1))
    });
    assert!(halves.unwrap_err().reason.contains("sum"));
    let hasty = explored(|db, [from, to]| {
        db.write_with(Durability::Batched, |tx| {
            tx.get_mut::<Counter>(from)?.0 -= 1;
            tx.get_mut::<Counter>(to)?.0 += 1;
            Ok(())
        })
    });
    assert!(hasty.unwrap_err().reason.contains("told"));
}
