//! What a rollback must not need, and what must not come between a transaction and its rollback.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use common::{Hp, Pos, Score, try_commit};
use ecsdb_core::{Component, Entity, Error, Lsn, Transaction, World};

thread_local! {
    static PANIC_IN_CLONE: Cell<bool> = const { Cell::new(false) };
    static CLONES: Cell<u32> = const { Cell::new(0) };
}

#[derive(Component, Debug, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
#[component(name = "touchy", archived)]
struct Touchy(String);

impl Clone for Touchy {
    fn clone(&self) -> Self {
        CLONES.set(CLONES.get() + 1);
        assert!(!PANIC_IN_CLONE.get(), "meant");
        Touchy(self.0.clone())
    }
}

/// Ten entities, and what was logged.
fn ten() -> (World, Vec<Entity>, Vec<u8>) {
    let mut world = World::new();
    let rows = (0..10).map(|i| (Touchy(format!("{i}")), Hp(i)));
    let (ids, bytes) = try_commit(&mut world, |tx| tx.spawn_batch(rows)).unwrap();
    (world, ids, bytes)
}

/// What was there before, then all of a column.
fn rolls_back_without_a_clone(first: impl Fn(&mut Transaction<'_>, &[Entity])) {
    let (mut world, ids, _) = ten();
    let before = world.view().digest().unwrap();
    let mut open = world.begin();
    let tx = open.transaction();
    first(tx, &ids);
    tx.query::<&mut Touchy>().for_each(|touchy| touchy.0.push('b'));
    PANIC_IN_CLONE.set(true);
    let rolled_back = catch_unwind(AssertUnwindSafe(|| drop(open)));
    PANIC_IN_CLONE.set(false);
    assert!(rolled_back.is_ok() && !world.is_poisoned());
    assert_eq!(world.view().digest().unwrap(), before);
}

#[test]
fn a_rollback_calls_no_clone_whatever_was_changed_before_a_column_was_handed_out() {
    rolls_back_without_a_clone(|_, _| {});
    rolls_back_without_a_clone(|tx, ids| tx.get_mut::<Touchy>(ids[0]).unwrap().0.push('a'));
    rolls_back_without_a_clone(|tx, _| _ = tx.spawn((Touchy("new".into()), Hp(1))));
    rolls_back_without_a_clone(|tx, ids| tx.despawn(ids[3]).unwrap());
    rolls_back_without_a_clone(|tx, ids| tx.insert(ids[3], Pos { x: 1, y: 2 }).unwrap());
    rolls_back_without_a_clone(|tx, ids| {
        // The copy to go on in cannot be made, and that is caught.
        tx.get_mut::<Touchy>(ids[0]).unwrap().0.push('a');
        PANIC_IN_CLONE.set(true);
        let query = || tx.query::<&mut Touchy>().for_each(|touchy| touchy.0.push('b'));
        assert!(catch_unwind(AssertUnwindSafe(query)).is_err());
        PANIC_IN_CLONE.set(false);
    });
}

#[test]
fn what_a_picture_shares_is_copied_before_the_first_step_or_the_world_is_poisoned() {
    for clone_panics in [false, true] {
        let (mut world, ids, _) = ten();
        let before = world.view().digest().unwrap();
        let mut open = world.begin();
        let tx = open.transaction();
        tx.get_mut::<Touchy>(ids[0]).unwrap().0.push('a');
        let (picture, shown) = (tx.view(), tx.view().digest().unwrap());
        tx.query::<&mut Touchy>().for_each(|touchy| touchy.0.push('b'));
        PANIC_IN_CLONE.set(clone_panics);
        let rolled_back = catch_unwind(AssertUnwindSafe(|| drop(open)));
        PANIC_IN_CLONE.set(false);
        assert!(rolled_back.is_ok());
        assert_eq!(world.is_poisoned(), clone_panics);
        assert!(clone_panics || world.view().digest().unwrap() == before);
        assert_eq!(picture.digest().unwrap(), shown);
    }
}

#[test]
fn a_type_that_becomes_known_after_a_row_was_taken_out_is_the_rows_type_when_it_is_put_back() {
    for (despawned, used) in [(2, 0), (9, 3)] {
        let (_, ids, bytes) = ten();
        let mut world = World::new();
        world.apply(Lsn(1), &bytes).unwrap();
        let before = world.view().digest().unwrap();
        let mut open = world.begin();
        let tx = open.transaction();
        tx.despawn(ids[despawned]).unwrap();
        tx.get_mut::<Touchy>(ids[used]).unwrap().0.push('a');
        tx.get_mut::<Hp>(ids[used]).unwrap().0 += 1;
        drop(open);
        assert_eq!(world.view().digest().unwrap(), before);
        assert_eq!(world.view().get::<Touchy>(ids[despawned]).unwrap().0, despawned.to_string());
    }
}

#[derive(Component, Clone, Copy, Debug, PartialEq)]
#[component(name = "flag", plain)]
#[repr(transparent)]
struct Flag(bool);

#[test]
fn bytes_that_are_no_value_do_not_become_one_by_way_of_a_rollback() {
    let mut world = World::new();
    let (ids, bytes) = try_commit(&mut world, |tx| tx.spawn_batch((0..3).map(|i| Flag(i == 1)))).unwrap();
    // One byte of the change set is the `true`; as 2 it is no value.
    let mut damaged = (0..bytes.len()).filter(|&at| bytes[at] == 1).filter_map(|at| {
        let mut damaged = bytes.clone();
        damaged[at] = 2;
        let mut world = World::new();
        let applied = world.apply(Lsn(1), &damaged).ok()?;
        let refused = matches!(world.register::<Flag>(), Err(Error::Codec { .. }));
        (applied.operations == 3 && refused && world.view().contains(ids[1])).then_some(damaged)
    });
    let damaged = damaged.next_back().unwrap();
    let mut world = World::new();
    world.apply(Lsn(1), &damaged).unwrap();
    let mut open = world.begin();
    let tx = open.transaction();
    tx.despawn(ids[1]).unwrap();
    let used = tx.get_mut::<Flag>(ids[0]).is_ok();
    drop(open);
    let view = world.view();
    let mut rows = Vec::new();
    view.chunks().next().unwrap().columns().nth(1).unwrap().encode(&mut rows).unwrap();
    assert!(!used && rows == [0, 2, 0], "{used}, {rows:?}: rows of a `bool`");
}

#[test]
fn a_transaction_that_is_forgotten_is_rolled_back_before_the_world_is_changed_otherwise() {
    let forget = |world: &mut World, ids: &[Entity]| {
        let mut open = world.begin();
        open.transaction().despawn(ids[5]).unwrap();
        open.transaction().get_mut::<Hp>(ids[9]).unwrap().0 = 7;
        std::mem::forget(open);
    };
    let (mut other, ids, _) = ten();
    let despawn = |tx: &mut Transaction<'_>| ids[3..].iter().for_each(|&e| tx.despawn(e).unwrap());
    let (_, bytes) = try_commit(&mut other, despawn).unwrap();
    let (mut world, _, _) = ten();
    forget(&mut world, &ids);
    world.apply(Lsn(2), &bytes).unwrap();
    drop(world.begin());
    assert_eq!(world.view().digest().unwrap(), other.view().digest().unwrap());

    let (mut world, ids, _) = ten();
    let before = world.view();
    forget(&mut world, &ids);
    world.restore(&before).unwrap().commit(Lsn(1));
    drop(world.begin());
    assert_eq!(world.view().digest().unwrap(), before.digest().unwrap());

    let mut world = World::new();
    let (ids, _) = try_commit(&mut world, |tx| tx.spawn_batch((0..9000).map(Hp))).unwrap();
    try_commit(&mut world, |tx| {
        ids[10..8980].iter().for_each(|&e| tx.despawn(e).unwrap());
    })
    .unwrap();
    let before = world.view().digest().unwrap();
    forget(&mut world, &ids);
    while world.compact_chunks(1000).more {}
    drop(world.begin());
    assert_eq!(world.view().digest().unwrap(), before);
}

#[test]
fn a_resource_is_kept_as_it_was_once_a_transaction() {
    let (mut world, ..) = ten();
    let mut open = world.begin();
    let tx = open.transaction();
    tx.insert_resource(Score(vec![1]));
    tx.insert_resource(Touchy("resource".into()));
    CLONES.set(0);
    for _ in 0..100 {
        tx.resource_mut::<Touchy>().unwrap().0.push('a');
    }
    assert!(CLONES.get() <= 1, "{} copies", CLONES.get());
}

#[test]
fn a_restore_that_is_forgotten_is_put_back_and_never_seen() {
    let (mut world, ids, bytes) = ten();
    let ten = world.view();
    let (_, more) = try_commit(&mut world, |tx| tx.despawn(ids[5]).unwrap()).unwrap();
    let (digest, lsn) = (world.view().digest().unwrap(), world.lsn());
    std::mem::forget(world.restore(&ten).unwrap());
    assert_eq!((world.view().digest().unwrap(), world.lsn()), (digest, lsn));

    // What comes next is done on what was there before, as the log has it.
    world.register::<Score>().unwrap();
    std::mem::forget(world.restore(&ten).unwrap());
    let (_, last) = try_commit(&mut world, |tx| tx.spawn((Hp(7), Score(vec![1])))).unwrap();
    std::mem::forget(world.restore(&ten).unwrap());
    while world.compact_chunks(100).more {}
    let mut replica = World::new();
    for (lsn, bytes) in [bytes, more, last].iter().enumerate() {
        assert_eq!(replica.apply(Lsn(lsn as u64 + 1), bytes).unwrap().skipped, 0);
    }
    assert_eq!(world.view().digest().unwrap(), replica.view().digest().unwrap());
    assert_eq!(world.lsn(), replica.lsn());

    std::mem::forget(world.restore(&ten).unwrap());
    world.advance_lsn(Lsn(9));
    assert_eq!((world.view().digest().unwrap(), world.lsn()), (replica.view().digest().unwrap(), Lsn(9)));
}
