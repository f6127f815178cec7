//! Queries against a naive filter, over random worlds: all terms, prepared and not, by chunk and by row, whole and from the middle on.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::*;
use ecsdb_core::{
    Entity, Error, Has, Or, Prepared, Query, ReadQuery, Transaction, View, With, Without, World,
};
use proptest::prelude::*;

type Steps = Vec<(Vec<Op>, End)>;

fn steps() -> impl Strategy<Value = Steps> {
    proptest::collection::vec(transaction().prop_map(|(ops, end, _)| (ops, end)), 1..6)
}

/// Runs a step and keeps the model.
fn step(world: &mut World, model: &mut Model, (ops, end): &(Vec<Op>, End)) {
    let (lsn, mut next) = (world.lsn().next(), model.clone());
    let mut open = world.begin();
    ops.iter().for_each(|op| run(op, open.transaction(), &mut next));
    if matches!(end, End::Commit) {
        open.prepare().unwrap().commit(lsn);
        *model = next;
    }
}

/// What a query gives, in the order of the ids.
fn sorted<T: Ord>(results: impl Iterator<Item = T>) -> Vec<T> {
    let mut results: Vec<T> = results.collect();
    results.sort();
    results
}

/// A query in all the ways in which it can be read, against what it should give.
fn read<Q: ReadQuery, T: Ord + std::fmt::Debug>(
    view: &View,
    prepared: &mut Prepared<Q>,
    expected: Vec<T>,
    show: impl Fn(Q::Item<'_>) -> T,
) {
    assert_eq!(view.query::<Q>().unwrap().len(), expected.len());
    assert_eq!(sorted(view.query::<Q>().unwrap().map(&show)), expected);
    assert_eq!(prepared.view(view).unwrap().len(), expected.len());
    assert_eq!(sorted(prepared.view(view).unwrap().map(&show)), expected);
    // From the middle on: what was not given yet is what is left, by row and by chunk.
    for n in [1, expected.len() / 2, expected.len()] {
        let mut query = view.query::<Q>().unwrap();
        let mut given: Vec<T> = query.by_ref().take(n).map(&show).collect();
        assert_eq!(query.len(), expected.len() - given.len());
        for slices in query.chunks() {
            given.extend(<Q as Rows>::of(slices).map(&show));
        }
        given.sort();
        assert_eq!(given, expected);
    }
}

/// The rows of a chunk's slices, through the public interface: a query's rows are what zipping its slices gives.
trait Rows: Query {
    fn of<'a>(slices: Self::Slices<'a>) -> impl Iterator<Item = Self::Item<'a>>;
}

impl<Q: Query> Rows for Q {
    fn of<'a>(slices: Q::Slices<'a>) -> impl Iterator<Item = Q::Item<'a>> {
        Q::rows(slices)
    }
}

type All = (Entity, (&'static Pos, Option<&'static Name>), Has<Tag>, Without<Hp>);
type Either = (Entity, Or<(With<Hp>, With<Tag>, Without<Pos>)>, Option<&'static Pos>);

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn queries_give_what_a_naive_filter_gives(first in steps(), second in steps(), restore: bool) {
        let (mut all, mut either) = (Prepared::<All>::new(), Prepared::<Either>::new());
        let mut moving = Prepared::<(Entity, &mut Pos, Option<&mut Name>)>::new();
        // Two worlds take turns, so that what a prepared query knows is of the other one, or of an older state.
        let (mut one, mut other) = ((World::new(), Model::default()), (World::new(), Model::default()));
        let mut old = Vec::new();
        for (a, b) in first.iter().zip(second.iter().cycle()) {
            step(&mut one.0, &mut one.1, a);
            step(&mut other.0, &mut other.1, b);
            old.push((one.0.view(), one.1.clone()));
            if restore {
                drop(one.0.restore(&other.0.view()).unwrap());
            }
            for (world, model) in [&mut one, &mut other] {
                check_views(&world.view(), model, &mut all, &mut either);
                let mut open = world.begin();
                check_writing(open.transaction(), model, &mut moving);
            }
        }
        for (view, model) in &old {
            check_views(view, model, &mut all, &mut either);
        }
    }
}

fn check_views(view: &View, model: &Model, all: &mut Prepared<All>, either: &mut Prepared<Either>) {
    let rows = || model.rows.iter();
    let expected = rows()
        .filter(|(_, row)| row.hp.is_none())
        .filter_map(|(&id, row)| Some((id, row.pos?.x, row.name.as_ref().map(|name| name.0.len()), row.tag)));
    read::<All, _>(view, all, expected.collect(), |(id, (pos, name), tag, ())| {
        (id, pos.x, name.map(|name| name.0.len()), tag)
    });
    let expected = rows()
        .filter(|(_, row)| row.hp.is_some() || row.tag || row.pos.is_none())
        .map(|(&id, row)| (id, row.pos.map(|pos| pos.x)));
    read::<Either, _>(view, either, expected.collect(), |(id, (), pos)| (id, pos.map(|pos| pos.x)));
    for (&id, row) in rows() {
        let entity = view.entity(id).unwrap();
        assert_eq!((entity.has::<Hp>(), entity.has::<Name>()), (row.hp.is_some(), row.name.is_some()));
        match entity.get::<(Option<&Hp>, &Pos)>() {
            Ok((hp, pos)) => assert_eq!((hp.copied(), Some(*pos)), (row.hp, row.pos)),
            Err(e) => assert!(matches!(e, Error::NoMatch(of) if of == id) && row.pos.is_none()),
        }
    }
}

fn check_writing(
    tx: &mut Transaction<'_>,
    model: &Model,
    moving: &mut Prepared<(Entity, &'static mut Pos, Option<&'static mut Name>)>,
) {
    let expected = model.rows.values().filter(|row| row.pos.is_some()).count();
    let query = moving.query(tx);
    assert_eq!(query.len(), expected);
    for (id, pos, name) in query {
        assert_eq!(Some(*pos), model.rows[&id].pos);
        pos.x += 1;
        if let Some(name) = name {
            name.0.push('!');
        }
    }
    // Looking at others while reading, and writing while looking at a picture.
    for (id, pos) in tx.read::<(Entity, &Pos)>().unwrap() {
        assert_eq!(tx.get::<Pos>(id).unwrap(), pos);
        assert_eq!(pos.x, model.rows[&id].pos.unwrap().x + 1);
    }
    let now = tx.view();
    for (id, pos) in now.query::<(Entity, &Pos)>().unwrap() {
        let (own, name) = tx.entity_mut(id).unwrap().get::<(&mut Pos, Option<&mut Name>)>().unwrap();
        own.y = -77;
        if let Some(name) = name {
            name.0.clear();
        }
        assert_ne!(pos.y, -77);
        if id.index() % 3 == 0 {
            tx.despawn(id).unwrap();
        }
    }
    let mut query = tx.query::<&mut Pos>();
    let first = query.next().map(|pos| pos.y);
    assert!(first.is_none_or(|y| y == -77));
    assert!(query.chunks().flatten().all(|pos| pos.y == -77));
    let with_pos: Vec<Entity> = tx.read::<(Entity, With<Pos>)>().unwrap().map(|(id, ())| id).collect();
    if let [a, b, .., c] = with_pos[..] {
        let [x, y, z] = tx.get_many_mut::<Pos, 3>([a, b, c]).unwrap();
        (x.y, y.y, z.y) = (1, 2, 3);
        std::mem::swap(x, z);
        assert_eq!([a, b, c].map(|id| tx.get::<Pos>(id).unwrap().y), [3, 2, 1]);
        assert!(matches!(tx.get_many_mut::<Pos, 2>([a, a]), Err(Error::EntityTwice(id)) if id == a));
    }
}

#[test]
fn a_query_of_ids_alone_is_all_entities() {
    let mut world = World::new();
    let mut open = world.begin();
    let lsn = ecsdb_core::Lsn(1);
    let all = [open.transaction().spawn(()), open.transaction().spawn((Hp(1),))];
    open.prepare().unwrap().commit(lsn);
    let found: Vec<Entity> = world.view().query::<(Entity,)>().unwrap().map(|(entity,)| entity).collect();
    assert_eq!(found, all);
}
