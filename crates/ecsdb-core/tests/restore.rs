//! Restoring an old state, or another database's, into a world: the state is that of the target, replaying the change
//! set gives the same down to the order of free ids, and a restore that is not committed leaves no trace.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::*;
use ecsdb_core::{Component, Entity, Error, Lsn, View, World};
use proptest::prelude::*;

type Steps = Vec<(Vec<Op>, End)>;

fn steps(max: usize) -> impl Strategy<Value = Steps> {
    proptest::collection::vec(transaction().prop_map(|(ops, end, _)| (ops, end)), 1..max)
}

/// Slots, and the free ones in order with their next generations.
fn free_list(world: &World) -> (u64, Vec<(u64, u64)>) {
    let bytes = world.view().allocators();
    let mut bytes = bytes.iter();
    let mut number = || {
        let (mut value, mut shift) = (0, 0);
        loop {
            let byte = *bytes.next().unwrap();
            value |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                return value;
            }
        }
    };
    let (len, _chunks, _floor, n) = (number(), number(), number(), number());
    (len, (0..n).map(|_| (number(), number())).collect())
}

/// A world, what it should hold, and what replay of its log gives.
struct Database {
    world: World,
    model: Model,
    replica: World,
}

impl Database {
    fn new() -> Self {
        Database { world: World::new(), model: Model::default(), replica: World::new() }
    }

    fn step(&mut self, (ops, end): &(Vec<Op>, End)) {
        let mut next = self.model.clone();
        let lsn = self.world.lsn().next();
        let mut open = self.world.begin();
        ops.iter().for_each(|op| run(op, open.transaction(), &mut next));
        if matches!(end, End::Commit) {
            let prepared = open.prepare().unwrap();
            let bytes = prepared.change_set().to_vec();
            prepared.commit(if bytes.is_empty() { Lsn(lsn.0 - 1) } else { lsn });
            self.model = next;
            self.replay(lsn, &bytes);
        } else {
            drop(open);
        }
        self.world.compact_chunks(9);
    }

    fn replay(&mut self, lsn: Lsn, bytes: &[u8]) {
        if !bytes.is_empty() {
            assert_eq!(self.replica.apply(lsn, bytes).unwrap().skipped, 0);
        }
        assert_eq!(self.world.view().digest().unwrap(), self.replica.view().digest().unwrap());
    }

    fn restore(&mut self, target: &View, model: &Model) {
        // Put back first, and then for good.
        let before = (self.world.view().digest().unwrap(), free_list(&self.world), self.world.lsn());
        drop(self.world.restore(target).unwrap());
        assert_eq!(before, (self.world.view().digest().unwrap(), free_list(&self.world), self.world.lsn()));
        check(&self.world.view(), &self.model);

        let restore = self.world.restore(target).unwrap();
        let bytes = restore.change_set().to_vec();
        let lsn = Lsn(before.2.0 + u64::from(!bytes.is_empty()));
        restore.commit(lsn);
        assert_eq!(self.world.lsn(), lsn);
        self.world.register_linked().unwrap();
        assert_eq!(self.world.view().digest().unwrap(), target.digest().unwrap());
        self.replay(lsn, &bytes);
        let mut next = stored(model);
        for (id, row) in &mut next.rows {
            row.cache = self.model.rows.get(id).and_then(|row| row.cache.clone());
        }
        self.model = next;
        check(&self.world.view(), &self.model);
        assert!(self.world.restore(target).unwrap().change_set().is_empty(), "nothing is left to be done");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn an_earlier_state_comes_back_and_so_does_a_later_one(
        first in steps(12), second in steps(12), third in steps(6), apart: bool
    ) {
        let mut db = Database::new();
        first.iter().for_each(|step| db.step(step));
        let (early, early_model) = (db.world.view(), db.model.clone());
        second.iter().for_each(|step| db.step(step));
        let (late, late_model) = (db.world.view(), db.model.clone());
        // The same state in other memory, as loaded from a file.
        let early = if apart { rebuild(&early).view() } else { early };
        db.restore(&early, &early_model);
        third.iter().for_each(|step| db.step(step));
        db.restore(&late, &late_model);
        third.iter().for_each(|step| db.step(step));
        check(&early, &if apart { stored(&early_model) } else { early_model });
        check(&late, &late_model);
    }

    #[test]
    fn another_databases_state_comes_in_whatever_its_component_numbers(
        first in steps(12), other in steps(12), then in steps(6)
    ) {
        let mut db = Database::new();
        first.iter().for_each(|step| db.step(step));
        let mut source = Database::new();
        source.world.register::<Cache>().unwrap();
        source.world.register::<Score>().unwrap();
        source.world.register::<Name>().unwrap();
        source.world.register::<Tag>().unwrap();
        other.iter().for_each(|step| source.step(step));
        db.restore(&source.world.view(), &source.model);
        then.iter().for_each(|step| db.step(step));
        source.restore(&db.world.view(), &db.model);
    }
}

fn commit<T>(world: &mut World, f: impl FnOnce(&mut ecsdb_core::Transaction<'_>) -> T) -> T {
    let lsn = world.lsn().next();
    let mut open = world.begin();
    let result = f(open.transaction());
    open.prepare().unwrap().commit(lsn);
    result
}

#[test]
fn what_is_equal_costs_nothing_and_a_changed_column_little_more_than_its_bytes() {
    let mut world = World::new();
    let ids =
        commit(&mut world, |tx| tx.spawn_batch((0..50_000).map(|x| (Pos { x, y: 0 }, Name(format!("{x}"))))));
    let target = world.view();
    let apart = rebuild(&target).view();
    assert!(world.restore(&target).unwrap().change_set().is_empty());
    assert!(world.restore(&apart).unwrap().change_set().is_empty());

    commit(&mut world, |tx| tx.get_mut::<Pos>(ids[30_000]).unwrap().y = 1);
    for target in [&target, &apart] {
        let restore = world.restore(target).unwrap();
        let len = restore.change_set().inline.len();
        assert!(len < 100, "{len}");
    }
    commit(&mut world, |tx| tx.query::<&mut Pos>().for_each(|pos| pos.x += 1));
    for target in [&target, &apart] {
        let len = world.restore(target).unwrap().change_set().inline.len();
        assert!((400_000..402_000).contains(&len), "{len}");
    }
    // Nor does moving rows together cost anything.
    commit(&mut world, |tx| {
        ids.iter().for_each(|id| {
            if id.index() % 8 != 0 {
                tx.despawn(*id).unwrap()
            }
        })
    });
    let sparse = world.view();
    while world.compact_chunks(1_000).more {}
    assert!(world.view().sparsity() < sparse.sparsity());
    assert!(world.restore(&sparse).unwrap().change_set().is_empty());
    let restore = world.restore(&target).unwrap();
    restore.commit(Lsn(9));
    assert_eq!(world.view().digest().unwrap(), target.digest().unwrap());
    assert_eq!(world.lsn(), Lsn(9));
}

#[test]
fn slots_that_are_free_in_both_keep_the_higher_generation() {
    let mut world = World::new();
    let old = commit(&mut world, |tx| tx.spawn(Hp(1)));
    let mut other = World::new();
    let mut given_out = Vec::new();
    for _ in 0..5 {
        let id = commit(&mut other, |tx| tx.spawn(Hp(2)));
        commit(&mut other, |tx| tx.despawn(id).unwrap());
        given_out.push(id);
    }
    let kept = commit(&mut other, |tx| [tx.spawn(Hp(3)), tx.spawn(Hp(4))])[1];
    let target = other.view();
    let restore = world.restore(&target).unwrap();
    restore.commit(Lsn(2));
    world.register_linked().unwrap();
    assert_eq!(world.view().get::<Hp>(kept).unwrap().0, 4);

    // Slot 0 is free from here on, there with a generation that this world has not reached.
    let six = Entity::from_bits((6 << 32) | u64::from(old.index())).unwrap();
    commit(&mut other, |tx| tx.despawn(six).unwrap());
    let mut world = World::new();
    commit(&mut world, |tx| tx.spawn(Hp(1)));
    world.restore(&other.view()).unwrap().commit(Lsn(2));
    let next = commit(&mut world, |tx| tx.spawn(Hp(5)));
    assert!(next.generation() > 6, "{next}");
    assert!(!given_out.contains(&next));
}

#[test]
fn components_that_are_stored_in_another_layout_are_refused() {
    #[derive(Component, Clone, Copy)]
    #[component(name = "shape", plain)]
    #[repr(C)]
    struct Round(u32);

    #[derive(Component, Clone, Copy)]
    #[component(name = "shape", version = 2, plain)]
    #[repr(C)]
    struct Square(u32, u32);

    let (mut world, mut other) = (World::new(), World::new());
    let id = commit(&mut world, |tx| tx.spawn(Round(1)));
    commit(&mut other, |tx| tx.spawn(Square(1, 2)));
    let refused = world.restore(&other.view()).map(drop);
    assert!(
        matches!(&refused, Err(Error::SchemaMismatch { difference, .. }) if difference.contains("fields")),
        "{refused:?}"
    );
    assert_eq!(world.view().get::<Round>(id).unwrap().0, 1);
}

#[test]
fn a_restore_that_fails_half_way_leaves_the_world_as_it_was() {
    // A name that no `String` can be made of, in a world that does not know the type.
    let mut other = World::new();
    let mut open = other.begin();
    open.transaction().spawn((Pos { x: 1, y: 1 }, Name("longer than what fits in place".into())));
    let mut bytes = open.prepare().unwrap().change_set().to_vec();
    *bytes.last_mut().unwrap() ^= 0x40;
    let mut spoiled = World::new();
    spoiled.apply(Lsn(1), &bytes).unwrap();

    let mut world = World::new();
    let ids = commit(&mut world, |tx| tx.spawn_batch((0..300).map(|x| (Pos { x, y: 0 }, Name("a".into())))));
    commit(&mut world, |tx| tx.despawn(ids[7]).unwrap());
    world.begin().transaction().spawn(Hp(1));
    let before = (world.view().digest().unwrap(), free_list(&world), world.lsn());
    let refused = world.restore(&spoiled.view()).map(drop);
    assert!(matches!(refused, Err(Error::Codec { .. })), "{refused:?}");
    assert_eq!(before, (world.view().digest().unwrap(), free_list(&world), world.lsn()));
    let id = commit(&mut world, |tx| tx.spawn((Pos { x: 0, y: 0 }, Name("b".into()))));
    assert_eq!((id.index(), world.view().len()), (ids[7].index(), 300));
}
