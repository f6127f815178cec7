//! The world against a naive model: random transactions, some of which fail or panic, views taken in between
//! and checked at the end, every change set replayed into a second world, and that one taken apart and put
//! together again.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};

use std::collections::HashSet;

use common::*;
use ecsdb_core::{Entity, Lsn, View, With, World};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

/// As many cases as `ECSDB_CASES` says, for long runs.
fn cases(usual: u32) -> u32 {
    std::env::var("ECSDB_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(usual)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: cases(512),
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct("tests/model.proptest-regressions"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn world_views_replay_and_rebuild_agree_with_the_model(
        transactions in proptest::collection::vec(transaction(), 1..25)
    ) {
        // The panics below are meant; their messages are noise.
        std::panic::set_hook(Box::new(|info| {
            if info.payload().downcast_ref::<&str>() != Some(&"meant") {
                eprintln!("{info}");
            }
        }));
        let mut world = World::new();
        let mut replica = World::new();
        let mut model = Model::default();
        let mut views: Vec<(View, Model)> = Vec::new();
        let mut given: HashSet<Entity> = HashSet::new();
        for (ops, end, take_view) in &transactions {
            let mut next = model.clone();
            let lsn = world.lsn().next();
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                let mut open = world.begin();
                for op in ops {
                    run(op, open.transaction(), &mut next);
                }
                match end {
                    End::Panic => panic!("meant"),
                    End::Fail => None,
                    End::Commit => {
                        let prepared = open.prepare().unwrap();
                        let bytes = prepared.change_set().to_vec();
                        prepared.commit(if bytes.is_empty() { Lsn(lsn.0 - 1) } else { lsn });
                        Some(bytes)
                    }
                }
            }));
            given.extend(next.rows.keys());
            match (end, outcome) {
                (End::Commit, Ok(Some(bytes))) => {
                    if !bytes.is_empty() {
                        prop_assert_eq!(replica.apply(lsn, &bytes).unwrap().skipped, 0);
                        prop_assert_eq!(replica.apply(lsn, &bytes).unwrap().operations, 0, "applied once (REC-6)");
                        replica.register_linked().unwrap();
                        // Restart in the middle: what is rebuilt goes on as if nothing had happened.
                        if ops.len() % 4 == 0 {
                            replica = rebuild(&replica.view());
                            replica.register_linked().unwrap();
                        }
                    }
                    model = next;
                }
                (End::Fail, Ok(None)) | (End::Panic, Err(_)) => {}
                (_, Err(panic)) => std::panic::resume_unwind(panic),
                (end, outcome) => panic!("{end:?} {outcome:?}"),
            }
            check(&world.view(), &model);
            let (a, b) = (world.view(), replica.view());
            prop_assert_eq!(a.digest().unwrap(), b.digest().unwrap());
            if *take_view {
                views.push((world.view(), model.clone()));
            }
        }
        for (view, model) in &views {
            check(view, model);
        }
        check(&replica.view(), &stored(&model));

        // What is given out from here on was never given out before, after a restart either: not even by transactions that
        // were rolled back, once the log says so.
        let head = World::begin(&mut world).prepare().unwrap().change_set().to_vec();
        let lsn = replica.lsn().next();
        replica.apply(lsn, &head).unwrap();
        for mut world in [world, replica] {
            let mut open = world.begin();
            let tx = open.transaction();
            for id in (0..20).map(|_| tx.spawn(Hp(1))) {
                prop_assert!(!given.contains(&id), "{id} was given out before");
            }
        }
    }
}

/// Found by the test above: a column was handed out, a row came into its chunk, and the column was handed out
/// again; the rollback then moved the row away before it had undone the second change.
#[test]
fn a_rollback_undoes_a_change_made_after_a_row_came_into_a_chunk_already_handed_out() {
    let mut world = World::new();
    let mut open = world.begin();
    let tx = open.transaction();
    let a = tx.spawn((Pos { x: 0, y: 0 }, Name("a".into()), Hp(1)));
    let b = tx.spawn((Pos { x: 0, y: 0 }, Name("b".into())));
    open.prepare().unwrap().commit(Lsn(1));

    let mut open = world.begin();
    let tx = open.transaction();
    tx.query::<(&mut Name, With<Hp>)>().for_each(|(name, ())| name.0.push('1'));
    tx.insert(b, Hp(2)).unwrap();
    tx.query::<(&mut Name, With<Hp>)>().for_each(|(name, ())| name.0.push('2'));
    drop(open);
    let view = world.view();
    assert_eq!((&*view.get::<Name>(a).unwrap().0, &*view.get::<Name>(b).unwrap().0), ("a", "b"));
}
