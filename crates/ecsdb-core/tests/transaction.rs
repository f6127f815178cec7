//! What a transaction promises: the log says what the world became (TX-1), an operation that failed has done nothing (TX-3), and
//! a rollback is not stopped by foreign code (TX-4).

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use common::*;
use ecsdb_core::{Component, Entity, Error, Lsn, Transaction, World};

/// Commits and gives the logged bytes.
fn commit<T>(world: &mut World, f: impl FnOnce(&mut Transaction<'_>) -> T) -> (T, Vec<u8>) {
    try_commit(world, f).unwrap()
}

type Step<'a, S> = &'a dyn Fn(&mut Transaction<'_>, S);

/// Runs transactions on a world and on another that only gets the log; both must be the same after each.
fn agree<S: Copy>(setup: impl Fn(&mut Transaction<'_>) -> S, steps: &[Step<'_, S>]) -> (World, S) {
    let (mut world, mut replica) = (World::new(), World::new());
    let (state, bytes) = commit(&mut world, &setup);
    replica.apply(Lsn(1), &bytes).unwrap();
    for step in steps {
        let (_, bytes) = commit(&mut world, |tx| step(tx, state));
        if !bytes.is_empty() {
            assert_eq!(replica.apply(world.lsn(), &bytes).unwrap().skipped, 0);
        }
        replica.register_linked().unwrap();
        assert_eq!(world.view().digest().unwrap(), replica.view().digest().unwrap());
    }
    (world, state)
}

const ZERO: Pos = Pos { x: 0, y: 0 };
const FIVE: Pos = Pos { x: 5, y: 5 };

#[test]
fn a_value_set_back_to_what_it_was_is_logged_as_what_it_is() {
    let setup = |tx: &mut Transaction<'_>| tx.spawn((ZERO, Name("one".into())));
    let (world, id) = agree(
        setup,
        &[
            &|tx, e| {
                tx.get_mut::<Pos>(e).unwrap().x = 1;
                tx.insert(e, FIVE).unwrap();
                *tx.get_mut::<Pos>(e).unwrap() = ZERO;
            },
            &|tx, e| {
                tx.query::<&mut Pos>().for_each(|pos| pos.x = 1);
                tx.remove::<Pos>(e).unwrap();
                tx.insert(e, FIVE).unwrap();
                tx.query::<&mut Pos>().for_each(|pos| *pos = ZERO);
            },
            &|tx, e| {
                tx.query::<&mut Pos>().for_each(|pos| pos.x = 7);
                tx.spawn((FIVE, Name("two".into())));
                *tx.get_mut::<Pos>(e).unwrap() = ZERO;
            },
            &|tx, e| {
                tx.get_mut::<Name>(e).unwrap().0.push('!');
                tx.insert(e, Name("five".into())).unwrap();
                tx.get_mut::<Name>(e).unwrap().0 = "one".into();
            },
        ],
    );
    assert_eq!(world.view().get::<Pos>(id).unwrap(), &ZERO);
    assert_eq!(world.view().get::<Name>(id).unwrap().0, "one");
}

#[test]
fn what_came_and_went_within_a_transaction_is_not_in_the_log() {
    let mut world = World::new();
    let (e, _) = commit(&mut world, |tx| tx.spawn((ZERO, Hp(1), Name("a".into()))));
    let (_, bytes) = commit(&mut world, |tx| {
        for x in 0..100 {
            tx.get_mut::<Pos>(e).unwrap().x = x;
            tx.insert(e, Tag).unwrap();
            tx.get_mut::<Name>(e).unwrap().0.push('b');
            tx.remove::<Tag>(e).unwrap();
        }
        *tx.get_mut::<Pos>(e).unwrap() = ZERO;
        tx.get_mut::<Name>(e).unwrap().0 = "a".into();
        tx.query::<&mut Hp>().for_each(|hp| hp.0 += 0);
    });
    assert!(bytes.is_empty(), "{bytes:?}");
    let (_, bytes) = commit(&mut world, |tx| {
        for x in 0..1000 {
            tx.get_mut::<Pos>(e).unwrap().x = x;
        }
    });
    assert!(bytes.len() < 40, "{}", bytes.len());
    // The floor of generations alone, and that only once.
    let spawn_in_vain = |tx: &mut Transaction<'_>| {
        for x in 0..100 {
            let e = tx.spawn((Pos { x, y: 0 }, Name("c".into())));
            tx.despawn(e).unwrap();
        }
    };
    let (_, bytes) = commit(&mut world, spawn_in_vain);
    assert!(bytes.len() < 8, "{}", bytes.len());
    let (_, bytes) = commit(&mut world, spawn_in_vain);
    assert!(bytes.is_empty());
}

#[test]
fn an_error_that_the_closure_passes_over_has_done_nothing() {
    agree(
        |tx| (tx.spawn((ZERO, Hp(1))), tx.spawn(FIVE)),
        &[&|tx, (a, b)| {
            tx.despawn(b).unwrap();
            assert!(matches!(tx.despawn(b), Err(Error::NoSuchEntity(_))));
            assert!(tx.insert(b, Hp(3)).is_err() && tx.remove::<Pos>(b).is_err());
            assert!(tx.get_mut::<Pos>(b).is_err());
            assert!(matches!(tx.insert(a, (Hp(7), Hp(8))), Err(Error::DuplicateComponent(_))));
            assert!(matches!(tx.take::<(Hp, Tag)>(a), Err(Error::MissingComponent { .. })));
            assert_eq!(tx.get::<Hp>(a).unwrap(), &Hp(1));
            assert!(tx.exchange::<(Hp,), _>(b, Tag).is_err());
        }],
    );
}

thread_local!(static PANIC_IN_CLONE: Cell<bool> = const { Cell::new(false) });

#[derive(Component, Debug, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
#[component(name = "touchy", archived)]
struct Touchy(String);

impl Clone for Touchy {
    fn clone(&self) -> Self {
        assert!(!PANIC_IN_CLONE.get(), "meant");
        Touchy(self.0.clone())
    }
}

#[test]
fn after_a_panic_that_the_closure_catches_the_transaction_cannot_be_committed() {
    let mut world = World::new();
    let (e, _) = commit(&mut world, |tx| tx.spawn((Touchy("a".into()), Hp(1))));
    let before = world.view().digest().unwrap();
    let attempts: [&dyn Fn(&mut Transaction<'_>); 5] = [
        &|tx| drop(tx.spawn_batch((0..100).map(|x| if x == 70 { panic!("meant") } else { Hp(x) }))),
        &|tx| drop(tx.get_mut::<Touchy>(e)),
        &|tx| tx.insert(e, Tag).unwrap(),
        &|tx| drop(tx.take::<Touchy>(e)),
        &|tx| tx.query::<&mut Touchy>().for_each(|touchy| touchy.0.push('b')),
    ];
    for attempt in attempts {
        // A view shares the rows, so that changing them needs a copy.
        let _view = world.view();
        let mut open = world.begin();
        PANIC_IN_CLONE.set(true);
        let caught = catch_unwind(AssertUnwindSafe(|| attempt(open.transaction())));
        PANIC_IN_CLONE.set(false);
        assert!(caught.is_err());
        // Whatever is done after it.
        open.transaction().insert(e, Hp(9)).unwrap();
        assert!(matches!(open.prepare().map(drop), Err(Error::Interrupted)));
        assert_eq!(world.view().digest().unwrap(), before);
    }
    commit(&mut world, |tx| tx.get_mut::<Touchy>(e).unwrap().0.push('c'));
    assert_eq!(world.view().get::<Touchy>(e).unwrap().0, "ac");
}

static DROPPED: AtomicUsize = AtomicUsize::new(0);
static PANIC_IN_DROP: AtomicBool = AtomicBool::new(false);

#[derive(Component, Clone)]
#[component(name = "bomb", transient)]
struct Bomb(bool);

impl Drop for Bomb {
    fn drop(&mut self) {
        DROPPED.fetch_add(1, Ordering::Relaxed);
        assert!(!(self.0 && PANIC_IN_DROP.load(Ordering::Relaxed)), "meant");
    }
}

#[test]
fn destructors_that_panic_stop_neither_a_rollback_nor_a_commit_nor_one_another() {
    let mut world = World::new();
    let spawn = |tx: &mut Transaction<'_>| -> Vec<Entity> {
        (0..6).map(|i| tx.spawn((Hp(i), Bomb(i % 2 == 0)))).collect()
    };
    let (ids, _) = commit(&mut world, spawn);
    let before = world.view().digest().unwrap();
    PANIC_IN_DROP.store(true, Ordering::Relaxed);

    // Four new ones, three replaced, one taken out: all of the new are dropped by the rollback, none of the old.
    let dropped = DROPPED.load(Ordering::Relaxed);
    let mut open = world.begin();
    let tx = open.transaction();
    tx.spawn_batch((0..4).map(|i| (Hp(i), Bomb(true))));
    tx.insert(ids[0], Bomb(true)).unwrap();
    tx.insert(ids[1], (Bomb(true), Tag)).unwrap();
    tx.query::<(&mut Bomb, &mut Hp)>().for_each(|(_, hp)| hp.0 += 1);
    tx.despawn(ids[2]).unwrap();
    drop(open);
    assert!(DROPPED.load(Ordering::Relaxed) >= dropped + 6);
    assert_eq!(world.view().digest().unwrap(), before);
    for (i, &id) in ids.iter().enumerate() {
        assert_eq!(world.view().get::<Bomb>(id).unwrap().0, i % 2 == 0);
    }

    let dropped = DROPPED.load(Ordering::Relaxed);
    commit(&mut world, |tx| ids.iter().for_each(|&id| tx.despawn(id).unwrap()));
    assert_eq!(DROPPED.load(Ordering::Relaxed), dropped + 6);
    assert!(world.view().is_empty());
    PANIC_IN_DROP.store(false, Ordering::Relaxed);
}

/// Everything of each kind of operation, undone.
fn change_everything(tx: &mut Transaction<'_>, ids: &[Entity]) {
    tx.query::<&mut Touchy>().for_each(|touchy| touchy.0.push('x'));
    tx.get_mut::<Hp>(ids[0]).unwrap().0 = 99;
    tx.insert(ids[1], (Tag, Hp(7))).unwrap();
    tx.despawn(ids[2]).unwrap();
    tx.spawn((Touchy("new".into()), Hp(5)));
    tx.remove::<Touchy>(ids[3]).unwrap();
}

#[test]
fn a_picture_of_a_transaction_stays_what_it_was_when_the_transaction_is_rolled_back() {
    let mut world = World::new();
    let (ids, _) = commit(&mut world, |tx| tx.spawn_batch((0..10).map(|i| (Touchy(format!("{i}")), Hp(i)))));
    let before = world.view().digest().unwrap();
    let mut open = world.begin();
    change_everything(open.transaction(), &ids);
    let (picture, shown) = (open.transaction().view(), open.transaction().view().digest().unwrap());
    open.transaction().query::<(&mut Hp, &mut Touchy)>().for_each(|(hp, touchy)| {
        hp.0 += 1;
        touchy.0.clear();
    });
    drop(open);
    assert_eq!(world.view().digest().unwrap(), before);
    assert_eq!(picture.digest().unwrap(), shown);

    // Undoing what a picture shares takes copies. When one cannot be made, nothing is built on the half that is left.
    let mut open = world.begin();
    change_everything(open.transaction(), &ids);
    let picture = open.transaction().view();
    PANIC_IN_CLONE.set(true);
    drop(open);
    PANIC_IN_CLONE.set(false);
    assert!(world.is_poisoned());
    assert!(matches!(world.begin().prepare().map(drop), Err(Error::Poisoned)));
    drop(picture);
}

#[test]
fn a_transaction_that_is_forgotten_is_rolled_back_before_the_next() {
    let mut world = World::new();
    let (ids, _) = commit(&mut world, |tx| tx.spawn_batch((0..10).map(|i| (Touchy(format!("{i}")), Hp(i)))));
    let before = world.view().digest().unwrap();
    let mut open = world.begin();
    change_everything(open.transaction(), &ids);
    std::mem::forget(open);
    drop(world.begin());
    assert_eq!(world.view().digest().unwrap(), before);
    let [] = world.begin().transaction().get_many_mut::<Hp, 0>([]).unwrap();
}

#[test]
fn ids_given_out_in_vain_cost_the_next_commit_a_few_bytes_however_many_they_are() {
    let mut world = World::new();
    let (_, small) = commit(&mut world, |tx| tx.spawn(Hp(0)));
    let mut lost = Vec::new();
    for _ in 0..3 {
        lost.extend(world.begin().transaction().spawn_batch((0..30_000).map(Hp)));
    }
    for _ in 0..10_000 {
        lost.push(world.begin().transaction().spawn(Hp(1)));
    }
    assert!(world.has_unlogged_ids());
    let (id, bytes) = commit(&mut world, |tx| tx.spawn(Hp(1)));
    assert!(bytes.len() < small.len() + 16, "{} bytes", bytes.len());
    assert!(!world.has_unlogged_ids());

    // After a restart, too, none of them means another entity.
    let mut reopened = World::new();
    reopened.apply(Lsn(1), &small).unwrap();
    reopened.apply(Lsn(2), &bytes).unwrap();
    reopened.register_linked().unwrap();
    let lost: std::collections::HashSet<Entity> = lost.into_iter().chain([id]).collect();
    for world in [&mut world, &mut reopened] {
        let (ids, _) = commit(world, |tx| tx.spawn_batch((0..40_000).map(Hp)));
        assert!(ids.iter().all(|id| !lost.contains(id)));
    }
}

/// What came and went leaves no word in the log, so that nothing bounds the slots that a spawn may skip.
#[test]
fn a_log_that_skips_any_number_of_slots_is_replayed() {
    let in_vain = |tx: &mut Transaction<'_>| {
        let ids = tx.spawn_batch((0..200_000).map(Hp));
        ids.into_iter().for_each(|id| tx.despawn(id).unwrap());
    };
    // In a transaction before, of which the log has a floor; in the same one.
    let (mut world, mut replica) = (World::new(), World::new());
    let (_, before) = commit(&mut world, in_vain);
    let (id, bytes) = commit(&mut world, |tx| tx.spawn(Hp(1)));
    assert_eq!(id.index(), 199_999, "the slot that was given up last");
    assert!(before.len() + bytes.len() < 200);
    replica.apply(Lsn(1), &before).unwrap();
    assert_eq!(replica.apply(Lsn(2), &bytes).unwrap().skipped, 0);
    assert!(replica.view().contains(id));
    let mut world = World::new();
    let (id, bytes) = commit(&mut world, |tx| {
        in_vain(tx);
        tx.spawn(Hp(2))
    });
    assert_eq!((id.index(), bytes.len() < 100), (200_000, true));
    assert_eq!(World::new().apply(Lsn(1), &bytes).unwrap().operations, 1);
}

#[test]
fn rows_that_were_spawned_are_iterated_in_the_same_order_after_replay() {
    let (mut world, mut replica) = (World::new(), World::new());
    for lsn in 1..4 {
        let (_, bytes) = commit(&mut world, |tx| {
            tx.spawn_batch((0..5_000).map(|i| (Hp(i), Pos { x: i as i32, y: 0 })));
            (0..10).for_each(|i| {
                tx.spawn(Hp(i));
            });
        });
        replica.apply(Lsn(lsn), &bytes).unwrap();
    }
    replica.register_linked().unwrap();
    let order = |world: &World| -> Vec<(Entity, u64)> {
        world.view().query::<(Entity, &Hp)>().unwrap().map(|(e, hp)| (e, hp.0)).collect()
    };
    assert_eq!(order(&world), order(&replica));
}
