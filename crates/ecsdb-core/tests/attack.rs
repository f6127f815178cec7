//! Random transactions over a few hundred rows of one archetype, so that columns are saved row by row and then as a whole: values of
//! every kind of component, clones that panic, pictures of transactions, and prepared queries over two worlds.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use common::{Cache, Name, Pos, Tag};
use ecsdb_core::{
    Component, ComponentId, Entity, Error, Has, Lsn, Or, Prepared, Query, Transaction, View, With, Without,
    World,
};
use proptest::prelude::*;

thread_local! {
    /// Values of [`Live`] that there are.
    static LIVE: Cell<i64> = const { Cell::new(0) };
    /// Clones of [`Live`] until one panics.
    static CLONES_LEFT: Cell<u32> = const { Cell::new(u32::MAX) };
}

#[derive(Debug, PartialEq, Component)]
#[component(name = "live", transient)]
struct Live(u8);

impl Live {
    fn new(n: u8) -> Live {
        LIVE.set(LIVE.get() + 1);
        Live(n)
    }
}

impl Clone for Live {
    fn clone(&self) -> Live {
        let left = CLONES_LEFT.get();
        if left == 0 {
            std::panic::panic_any("meant");
        }
        if left != u32::MAX {
            CLONES_LEFT.set(left - 1);
        }
        Live::new(self.0)
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        LIVE.set(LIVE.get() - 1);
    }
}

/// No bytes, archived.
#[derive(Component, Clone, Debug, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
#[component(name = "nothing", archived)]
struct Nothing;

/// No bytes, in memory only.
#[derive(Component, Clone, Debug, PartialEq)]
#[component(name = "ghost", transient)]
struct Ghost;

/// A size without a loop of its own.
#[derive(Component, Clone, Copy, Debug, PartialEq)]
#[component(name = "odd", plain)]
#[repr(C)]
struct Odd([u8; 5]);

/// So wide that a chunk has 64 rows.
#[derive(Component, Clone, Copy, Debug, PartialEq)]
#[component(name = "big", plain)]
#[repr(C)]
struct Big([u64; 64]);

#[derive(Clone, Debug, Default, PartialEq)]
struct Row {
    big: Option<u8>,
    pos: Option<u8>,
    odd: Option<u8>,
    name: Option<u8>,
    cache: Option<u8>,
    live: Option<u8>,
    tag: bool,
    nothing: bool,
    ghost: bool,
}

type Model = BTreeMap<Entity, Row>;

trait Valued: Component {
    fn make(n: u8) -> Self;
    fn value(&self) -> u8;
    fn slot(row: &mut Row) -> &mut Option<u8>;
    fn set(&mut self, n: u8) {
        *self = Self::make(n);
    }
}

macro_rules! valued {
    ($ty:ident $field:ident |$n:ident| $make:expr, |$v:ident| $value:expr) => {
        impl Valued for $ty {
            fn make($n: u8) -> Self {
                $make
            }
            fn value(&self) -> u8 {
                let $v = self;
                $value
            }
            fn slot(row: &mut Row) -> &mut Option<u8> {
                &mut row.$field
            }
        }
    };
}

valued!(Pos pos |n| Pos { x: n.into(), y: 7 }, |v| v.x as u8);
valued!(Big big |n| Big([n.into(); 64]), |v| v.0[63] as u8);
valued!(Odd odd |n| Odd([n, 1, 2, 3, n]), |v| v.0[4]);
valued!(Name name |n| Name("n".repeat(n.into())), |v| v.0.len() as u8);
valued!(Cache cache |n| Cache(vec![n]), |v| v.0[0]);
valued!(Live live |n| Live::new(n), |v| v.0);

#[derive(Clone, Copy, Debug)]
enum Kind {
    Big,
    Pos,
    Odd,
    Name,
    Cache,
    Live,
}

macro_rules! of_kind {
    ($kind:expr, $f:ident ($($arg:expr),*)) => {
        match $kind {
            Kind::Big => $f::<Big>($($arg),*),
            Kind::Pos => $f::<Pos>($($arg),*),
            Kind::Odd => $f::<Odd>($($arg),*),
            Kind::Name => $f::<Name>($($arg),*),
            Kind::Cache => $f::<Cache>($($arg),*),
            Kind::Live => $f::<Live>($($arg),*),
        }
    };
}

/// Some of the entities alive: one in `step`, from `first` on, so many at most.
#[derive(Clone, Copy, Debug)]
struct Part {
    first: u16,
    step: u8,
    most: u16,
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Spawn(u16, u8, u8),
    Despawn(Part),
    Set(Kind, Part, u8),
    SetMany(Kind, [u16; 3], u8),
    EntityMut(Part, u8),
    Query(Kind, u16, u8),
    Chunks(Kind, u16, u16, u8),
    Both(u16, u8),
    Insert(Kind, Part, u8),
    Remove(Kind, Part),
    Take(Kind, Part),
    Flags(Part, u8),
    Unflag(Part),
    Exchange(Part, u8),
    View,
    Errors(u16),
}

fn op() -> impl Strategy<Value = Op> {
    let kind = || {
        prop_oneof![
            Just(Kind::Big),
            Just(Kind::Pos),
            Just(Kind::Odd),
            Just(Kind::Name),
            Just(Kind::Cache),
            Just(Kind::Live)
        ]
    };
    let some = || {
        let most = prop_oneof![3 => 1u16..4, 2 => 15u16..40, 1 => 1u16..300];
        (any::<u16>(), 1u8..4, most).prop_map(|(first, step, most)| Part { first, step, most })
    };
    let n = || 0u8..3;
    let part = || prop_oneof![1u16..5, 0u16..70, 0u16..400];
    prop_oneof![
        2 => (prop_oneof![4 => 1u16..4, 1 => 1u16..120], 0u8..4, n()).prop_map(|(k, s, n)| Op::Spawn(k, s, n)),
        2 => some().prop_map(Op::Despawn),
        7 => (kind(), some(), n()).prop_map(|(k, s, n)| Op::Set(k, s, n)),
        2 => (kind(), any::<[u16; 3]>(), n()).prop_map(|(k, s, n)| Op::SetMany(k, s, n)),
        2 => (some(), n()).prop_map(|(s, n)| Op::EntityMut(s, n)),
        4 => (kind(), part(), n()).prop_map(|(k, p, n)| Op::Query(k, p, n)),
        2 => (kind(), part(), part(), n()).prop_map(|(k, p, q, n)| Op::Chunks(k, p, q, n)),
        2 => (part(), n()).prop_map(|(p, n)| Op::Both(p, n)),
        3 => (kind(), some(), n()).prop_map(|(k, s, n)| Op::Insert(k, s, n)),
        3 => (kind(), some()).prop_map(|(k, s)| Op::Remove(k, s)),
        1 => (kind(), some()).prop_map(|(k, s)| Op::Take(k, s)),
        2 => (some(), 0u8..8).prop_map(|(s, n)| Op::Flags(s, n)),
        2 => some().prop_map(Op::Unflag),
        2 => (some(), n()).prop_map(|(s, n)| Op::Exchange(s, n)),
        2 => Just(Op::View),
        1 => any::<u16>().prop_map(Op::Errors),
    ]
}

fn pick(model: &Model, some: Part) -> Vec<Entity> {
    if model.is_empty() {
        return Vec::new();
    }
    let first = some.first as usize % model.len();
    model.keys().copied().skip(first).step_by(some.step.into()).take(some.most.into()).collect()
}

fn one(model: &Model, i: u16) -> Option<Entity> {
    model.keys().nth((i as usize).checked_rem(model.len())?).copied()
}

fn set<T: Valued>(tx: &mut Transaction<'_>, model: &mut Model, some: Part, n: u8) {
    for e in pick(model, some) {
        let slot = T::slot(model.get_mut(&e).unwrap());
        match (tx.get_mut::<T>(e), slot) {
            (Ok(value), Some(slot)) => {
                assert_eq!(value.value(), *slot);
                value.set(n);
                *slot = n;
            }
            (Err(Error::MissingComponent { .. }), None) => {}
            (found, slot) => panic!("{:?} {slot:?}", found.map(|v| v.value())),
        }
    }
}

fn set_many<T: Valued>(tx: &mut Transaction<'_>, model: &mut Model, at: [u16; 3], n: u8) {
    let at = at.map(|i| one(model, i));
    let [Some(a), Some(b), Some(c)] = at else { return };
    let ids = [a, b, c];
    let twice = a == b || b == c || a == c;
    let all = ids.iter().all(|e| T::slot(model.get_mut(e).unwrap()).is_some());
    match tx.get_many_mut::<T, 3>(ids) {
        Ok(values) => {
            assert!(!twice && all);
            for (i, (value, e)) in values.into_iter().zip(ids).enumerate() {
                let slot = T::slot(model.get_mut(&e).unwrap());
                assert_eq!(Some(value.value()), *slot);
                value.set(n + i as u8);
                *slot = Some(n + i as u8);
            }
        }
        Err(_) => assert!(twice || !all),
    }
}

fn query<T: Valued>(tx: &mut Transaction<'_>, model: &mut Model, part: u16, n: u8) {
    let have = model.values_mut().filter_map(|row| *T::slot(row)).count();
    let mut query = tx.query::<(Entity, &mut T)>();
    assert_eq!(query.len(), have);
    for (e, value) in query.by_ref().take(part.into()) {
        let slot = T::slot(model.get_mut(&e).unwrap());
        assert_eq!(Some(value.value()), *slot);
        value.set(n);
        *slot = Some(n);
    }
    assert_eq!(query.len(), have.saturating_sub(part.into()));
}

fn chunks<T: Valued>(tx: &mut Transaction<'_>, model: &mut Model, part: u16, then: u16, n: u8) {
    let mut query = tx.query::<(Entity, &mut T, Has<Name>)>();
    for (e, value, _) in query.by_ref().take(part.into()) {
        value.set(n);
        *T::slot(model.get_mut(&e).unwrap()) = Some(n);
    }
    for (ids, values, _) in query.chunks().take(usize::from(then) / 64 + 1) {
        assert_eq!(ids.len(), values.len());
        for (e, value) in ids.iter().zip(values).take(then.into()) {
            value.set(n + 1);
            *T::slot(model.get_mut(e).unwrap()) = Some(n + 1);
        }
    }
}

fn insert<T: Valued>(tx: &mut Transaction<'_>, model: &mut Model, some: Part, n: u8) {
    for e in pick(model, some) {
        tx.insert(e, T::make(n)).unwrap();
        *T::slot(model.get_mut(&e).unwrap()) = Some(n);
    }
}

fn remove<T: Valued>(tx: &mut Transaction<'_>, model: &mut Model, some: Part) {
    for e in pick(model, some) {
        let removed = tx.remove::<T>(e).unwrap();
        assert_eq!(removed.map(|v| v.value()), T::slot(model.get_mut(&e).unwrap()).take());
    }
}

fn take<T: Valued>(tx: &mut Transaction<'_>, model: &mut Model, some: Part) {
    for e in pick(model, some) {
        let taken = tx.take::<T>(e).ok();
        assert_eq!(taken.map(|v| v.value()), T::slot(model.get_mut(&e).unwrap()).take());
    }
}

fn spawn(tx: &mut Transaction<'_>, model: &mut Model, k: u16, shape: u8, n: u8) {
    let n_of = |i: u16| (n + i as u8) % 3;
    let k16 = 0..k;
    let mut row = Row { pos: Some(0), name: Some(0), live: Some(0), tag: true, ..Row::default() };
    let ids = match shape {
        0 => {
            row.big = Some(0);
            tx.spawn_batch(k16.map(|i| {
                (Pos::make(n_of(i)), Big::make(n_of(i)), Name::make(n_of(i)), (Live::make(n_of(i)), Tag))
            }))
        }
        1 => tx.spawn_batch(k16.map(|i| (Pos::make(n_of(i)), Name::make(n_of(i)), Live::make(n_of(i)), Tag))),
        2 => {
            row = Row { odd: Some(0), nothing: true, cache: Some(0), ghost: true, ..Row::default() };
            tx.spawn_batch(k16.map(|i| (Odd::make(n_of(i)), Nothing, Cache::make(n_of(i)), Ghost)))
        }
        _ => {
            row = Row::default();
            k16.map(|_| tx.spawn(())).collect()
        }
    };
    for (i, e) in ids.into_iter().enumerate() {
        let n = n_of(i as u16);
        let mut row = row.clone();
        for slot in [&mut row.big, &mut row.pos, &mut row.odd, &mut row.name, &mut row.cache, &mut row.live] {
            *slot = slot.map(|_| n);
        }
        assert!(model.insert(e, row).is_none());
    }
}

fn run(op: Op, tx: &mut Transaction<'_>, model: &mut Model, views: &mut Vec<(View, Model)>) {
    match op {
        Op::Spawn(k, shape, n) => spawn(tx, model, k, shape, n),
        Op::Despawn(some) => {
            for e in pick(model, some) {
                tx.despawn(e).unwrap();
                model.remove(&e);
            }
        }
        Op::Set(kind, some, n) => of_kind!(kind, set(tx, model, some, n)),
        Op::SetMany(kind, at, n) => of_kind!(kind, set_many(tx, model, at, n)),
        Op::EntityMut(some, n) => {
            for e in pick(model, some) {
                let row = model.get_mut(&e).unwrap();
                type All<'a> = (
                    Entity,
                    Option<&'a mut Pos>,
                    Option<&'a mut Name>,
                    Option<&'a mut Live>,
                    Has<Tag>,
                    Option<&'a mut Nothing>,
                );
                let (id, pos, name, live, tag, nothing) = tx.entity_mut(e).unwrap().get::<All<'_>>().unwrap();
                assert_eq!((id, tag, nothing.is_some()), (e, row.tag, row.nothing));
                if let Some(pos) = pos {
                    pos.set(n);
                    row.pos = Some(n);
                }
                if let Some(name) = name {
                    name.set(n);
                    row.name = Some(n);
                }
                if let Some(live) = live {
                    live.set(n);
                    row.live = Some(n);
                }
            }
        }
        Op::Query(kind, part, n) => of_kind!(kind, query(tx, model, part, n)),
        Op::Chunks(kind, part, then, n) => of_kind!(kind, chunks(tx, model, part, then, n)),
        Op::Both(part, n) => {
            type Q<'a> = (
                Entity,
                (Option<&'a mut Pos>, Option<&'a mut Name>),
                Or<(With<Tag>, Without<Odd>)>,
                Option<&'a mut Tag>,
            );
            for (e, (pos, name), (), tag) in tx.query::<Q<'_>>().take(part.into()) {
                let row = model.get_mut(&e).unwrap();
                assert_eq!(tag.is_some(), row.tag);
                assert!(row.tag || row.odd.is_none());
                if let Some(pos) = pos {
                    pos.set(n);
                    row.pos = Some(n);
                }
                if let Some(name) = name {
                    name.set(n);
                    row.name = Some(n);
                }
            }
        }
        Op::Insert(kind, some, n) => of_kind!(kind, insert(tx, model, some, n)),
        Op::Remove(kind, some) => of_kind!(kind, remove(tx, model, some)),
        Op::Take(kind, some) => of_kind!(kind, take(tx, model, some)),
        Op::Flags(some, n) => {
            for e in pick(model, some) {
                let row = model.get_mut(&e).unwrap();
                if n & 1 > 0 {
                    tx.insert(e, (Tag, Nothing)).unwrap();
                    (row.tag, row.nothing) = (true, true);
                }
                if n & 2 > 0 {
                    tx.insert(e, Ghost).unwrap();
                    row.ghost = true;
                }
                if n & 4 > 0 && row.nothing {
                    tx.get_mut::<Nothing>(e).unwrap().clone_from(&Nothing);
                }
            }
        }
        Op::Unflag(some) => {
            for e in pick(model, some) {
                let row = model.get_mut(&e).unwrap();
                let (tag, nothing, ghost) = tx.remove::<(Tag, Nothing, Ghost)>(e).unwrap();
                assert_eq!(
                    (tag.is_some(), nothing.is_some(), ghost.is_some()),
                    (row.tag, row.nothing, row.ghost)
                );
                (row.tag, row.nothing, row.ghost) = (false, false, false);
            }
        }
        Op::Exchange(some, n) => {
            for e in pick(model, some) {
                let row = model.get_mut(&e).unwrap();
                let bundle = (Live::make(n), Odd::make(n));
                let (name, live) = tx.exchange::<(Name, Live), _>(e, bundle).unwrap();
                assert_eq!((name.map(|v| v.value()), live.map(|v| v.value())), (row.name.take(), row.live));
                (row.live, row.odd) = (Some(n), Some(n));
            }
        }
        Op::View => {
            let view = tx.view();
            if view.query::<(&Big, &Odd, &Name, &Tag, &Nothing)>().is_err() || view.query::<&Pos>().is_err() {
                // Not all types are known yet.
                return;
            }
            check(&view, model);
            views.push((view, model.clone()));
        }
        Op::Errors(i) => {
            let dead = Entity::from_bits(1 << 32 | 0xffff).unwrap();
            assert!(
                tx.despawn(dead).is_err()
                    && tx.insert(dead, Tag).is_err()
                    && tx.get_mut::<Pos>(dead).is_err()
            );
            assert!(tx.exchange::<Name, _>(dead, Live::make(1)).is_err() && tx.entity_mut(dead).is_err());
            if let Some(e) = one(model, i) {
                assert!(matches!(
                    tx.insert(e, (Live::make(1), Live::make(2))),
                    Err(Error::DuplicateComponent(_))
                ));
                assert!(
                    tx.get_many_mut::<Pos, 2>([e, e]).is_err()
                        && tx.get_many_mut::<Pos, 2>([e, dead]).is_err()
                );
                let row = &model[&e];
                let had = tx.entity_mut(e).unwrap().get::<(&mut Cache, &mut Name, &Tag)>().is_ok();
                assert_eq!(had, row.cache.is_some() && row.name.is_some() && row.tag);
                let all = row.pos.is_some() && row.cache.is_some() && row.tag;
                if !all {
                    assert!(tx.take::<(Pos, Cache, Tag)>(e).is_err());
                }
            }
        }
    }
}

fn check(view: &View, model: &Model) {
    assert_eq!(view.len(), model.len());
    for (&e, row) in model {
        let found = Row {
            big: view.get::<Big>(e).ok().map(Valued::value),
            pos: view.get::<Pos>(e).ok().map(Valued::value),
            odd: view.get::<Odd>(e).ok().map(Valued::value),
            name: view.get::<Name>(e).ok().map(Valued::value),
            cache: view.get::<Cache>(e).ok().map(Valued::value),
            live: view.get::<Live>(e).ok().map(Valued::value),
            tag: view.get::<Tag>(e).is_ok(),
            nothing: view.get::<Nothing>(e).is_ok(),
            ghost: view.get::<Ghost>(e).is_ok(),
        };
        assert_eq!(&found, row, "{e}");
    }
}

fn stored(model: &Model) -> Model {
    let mut model = model.clone();
    for row in model.values_mut() {
        (row.cache, row.live, row.ghost) = (None, None, false);
    }
    model
}

/// The rows in the order in which they are iterated.
fn order(view: &View) -> Vec<Entity> {
    view.query::<Entity>().unwrap().collect()
}

/// Columns by what an increment knows them by: chunk, component and the LSN of the last change.
type Columns = BTreeMap<(u64, Option<ComponentId>, u64), Vec<u8>>;

/// What an increment takes for unchanged is unchanged.
fn check_increments(view: &View, known: &mut Columns) {
    for chunk in view.chunks() {
        for column in chunk.columns() {
            let mut bytes = Vec::new();
            column.encode(&mut bytes).unwrap();
            let key = (chunk.uid(), column.component, column.changed);
            assert_eq!(known.entry(key).or_insert_with(|| bytes.clone()), &bytes, "{key:?}");
        }
    }
}

fn quiet() {
    std::panic::set_hook(Box::new(|info| {
        if info.payload().downcast_ref::<&str>() != Some(&"meant") {
            eprintln!("{info}");
        }
    }));
}

/// As many cases as `ECSDB_CASES` says, for long runs.
fn config(usual: u32) -> ProptestConfig {
    let cases = std::env::var("ECSDB_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(usual);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

#[derive(Clone, Copy, Debug)]
enum End {
    Commit,
    Drop,
    DropPrepared,
    Panic,
}

fn transaction() -> impl Strategy<Value = (Vec<Op>, End, bool)> {
    let end = prop_oneof![
        4 => Just(End::Commit), 3 => Just(End::Drop), 1 => Just(End::DropPrepared), 1 => Just(End::Panic)
    ];
    (proptest::collection::vec(op(), 0..14), end, any::<bool>())
}

fn begin_with(world: &mut World, replica: &mut World, rows: u16, shape: u8) -> Model {
    let mut model = Model::new();
    let mut open = world.begin();
    spawn(open.transaction(), &mut model, rows, shape, 0);
    let prepared = open.prepare().unwrap();
    replica.apply(Lsn(1), &prepared.change_set().to_vec()).unwrap();
    prepared.commit(Lsn(1));
    replica.register_linked().unwrap();
    model
}

proptest! {
    #![proptest_config(config(64))]

    #[test]
    fn many_rows_of_one_archetype_agree_with_the_model(
        rows in prop_oneof![1u16..20, 100u16..300],
        shape in 0u8..3,
        transactions in proptest::collection::vec(transaction(), 1..8),
        compact: bool,
    ) {
        quiet();
        {
            let (mut world, mut replica) = (World::new(), World::new());
            let mut model = begin_with(&mut world, &mut replica, rows, shape);
            let (mut views, mut columns) = (Vec::new(), Columns::new());
            for (ops, end, view) in &transactions {
                check_increments(&world.view(), &mut columns);
                let mut next = model.clone();
                let (before, lsn) = (world.view(), world.lsn());
                let digest = before.digest().unwrap();
                if *view {
                    views.push((before.clone(), model.clone()));
                }
                let rows_before = order(&before);
                if !view {
                    drop(before);
                }
                let committed = catch_unwind(AssertUnwindSafe(|| {
                    let mut open = world.begin();
                    ops.iter().for_each(|&op| run(op, open.transaction(), &mut next, &mut views));
                    match end {
                        End::Drop => return None,
                        End::Panic => std::panic::panic_any("meant"),
                        End::Commit | End::DropPrepared => {}
                    }
                    let prepared = open.prepare().unwrap();
                    let bytes = prepared.change_set().to_vec();
                    if let End::DropPrepared = end {
                        return None;
                    }
                    prepared.commit(if bytes.is_empty() { lsn } else { lsn.next() });
                    Some(bytes)
                }));
                let committed = match committed {
                    Ok(committed) => committed,
                    Err(_) if matches!(end, End::Panic) => None,
                    Err(panic) => std::panic::resume_unwind(panic),
                };
                match committed {
                    Some(bytes) => {
                        model = next;
                        if !bytes.is_empty() {
                            prop_assert_eq!(replica.apply(world.lsn(), &bytes).unwrap().skipped, 0);
                            replica.register_linked().unwrap();
                        }
                    }
                    None => {
                        prop_assert_eq!(world.view().digest().unwrap(), digest);
                        prop_assert_eq!(order(&world.view()), rows_before);
                    }
                }
                check(&world.view(), &model);
                check(&replica.view(), &stored(&model));
                prop_assert_eq!(world.view().digest().unwrap(), replica.view().digest().unwrap());
                check_increments(&world.view(), &mut columns);
                if compact {
                    let mut calls = 0;
                    while world.compact_chunks(50).more && calls < 3 {
                        check_increments(&world.view(), &mut columns);
                        calls += 1;
                    }
                    check(&world.view(), &model);
                }
            }
            for (view, model) in &views {
                check(view, model);
            }
        }
        prop_assert_eq!(LIVE.get(), 0, "values dropped twice or never");
    }
}

/// What is done to one of two worlds.
#[derive(Clone, Debug)]
enum Turn {
    Transact(Vec<Op>, bool),
    /// To the other's state, or to an own earlier one; committed or not.
    Restore(bool, bool),
    /// Taken apart and put together again.
    Replay,
}

fn turn() -> impl Strategy<Value = Turn> {
    prop_oneof![
        4 => (proptest::collection::vec(op(), 0..6), any::<bool>()).prop_map(|(ops, c)| Turn::Transact(ops, c)),
        2 => any::<(bool, bool)>().prop_map(|(other, commit)| Turn::Restore(other, commit)),
        1 => Just(Turn::Replay),
    ]
}

type Loose<'a> = (Entity, Option<&'a mut Live>, (Option<&'a mut Pos>, Has<Tag>), Option<&'a Name>);
type Narrow<'a> =
    (Entity, Or<(With<Cache>, Without<Pos>, Or<(With<Ghost>, Without<Name>)>)>, Option<&'a mut Odd>);
type Strict<'a> = (&'a mut Name, Entity, Without<Nothing>, &'a mut Tag);

#[derive(Default)]
struct Known {
    loose: Prepared<Loose<'static>>,
    narrow: Prepared<Narrow<'static>>,
    strict: Prepared<Strict<'static>>,
    read: Prepared<(Entity, &'static Name, Option<&'static Pos>, Has<Odd>)>,
}

/// A query to be written through, prepared and not, of which some rows are taken one by one, some by chunk: the ids.
fn both_ways<Q: Query>(
    tx: &mut Transaction<'_>,
    prepared: &mut Prepared<Q>,
    expected: Vec<Entity>,
    first: usize,
    id: impl Fn(Q::Item<'_>) -> Entity,
) {
    for is_prepared in [true, false] {
        let mut query = match is_prepared {
            true => prepared.query(tx),
            false => tx.query::<Q>(),
        };
        assert_eq!(query.len(), expected.len());
        let mut ids: Vec<Entity> = Vec::new();
        for left in (0..=expected.len()).rev().take(first) {
            assert_eq!(query.len(), left);
            ids.extend(query.next().map(&id));
        }
        assert_eq!(query.len(), expected.len() - ids.len());
        match first % 3 {
            0 => query.for_each(|item| ids.push(id(item))),
            1 => ids.extend(query.map(&id)),
            _ => query.chunks().for_each(|slices| ids.extend(Q::rows(slices).map(&id))),
        }
        ids.sort();
        assert_eq!(ids, expected);
    }
}

fn check_known(world: &mut World, model: &Model, known: &mut Known, first: usize) {
    let ids = |f: &dyn Fn(&Row) -> bool| -> Vec<Entity> {
        model.iter().filter(|(_, row)| f(row)).map(|(&e, _)| e).collect()
    };
    let mut open = world.begin();
    let tx = open.transaction();
    both_ways(tx, &mut known.loose, ids(&|_| true), first, |(e, live, (pos, tag), name)| {
        let row = &model[&e];
        assert_eq!((live.map(|v| v.0), pos.map(|v| v.value())), (row.live, row.pos));
        assert_eq!((tag, name.map(|v| v.value())), (row.tag, row.name));
        e
    });
    let narrow = |row: &Row| row.cache.is_some() || row.pos.is_none() || row.ghost || row.name.is_none();
    both_ways(tx, &mut known.narrow, ids(&narrow), first, |(e, (), odd)| {
        assert_eq!(odd.map(|v| v.value()), model[&e].odd);
        e
    });
    both_ways(
        tx,
        &mut known.strict,
        ids(&|row| row.name.is_some() && row.tag && !row.nothing),
        first,
        |(n, e, ..)| {
            assert_eq!(Some(n.value()), model[&e].name);
            e
        },
    );
    let view = tx.view();
    let named = ids(&|row| row.name.is_some());
    let query = known.read.view(&view).unwrap();
    assert_eq!(query.len(), named.len());
    let mut read: Vec<_> =
        query.map(|(e, name, pos, odd)| (e, Some(name.value()), pos.map(Valued::value), odd)).collect();
    read.sort();
    let expected = named.iter().map(|e| (*e, model[e].name, model[e].pos, model[e].odd.is_some()));
    assert!(read.into_iter().eq(expected));
}

/// The model after a restore: stored values are the target's, those in memory only stay with the entities that stay.
fn restored(present: &Model, target: &Model) -> Model {
    let mut model = stored(target);
    for (e, row) in &mut model {
        if let Some(old) = present.get(e) {
            (row.cache, row.live, row.ghost) = (old.cache, old.live, old.ghost);
        }
    }
    model
}

proptest! {
    #![proptest_config(config(64))]

    #[test]
    fn prepared_queries_know_what_two_worlds_hold_after_rollbacks_and_restores(
        turns in proptest::collection::vec((any::<bool>(), turn(), 0usize..90), 1..14),
        rows in [1u16..70, 1u16..70],
    ) {
        quiet();
        {
            let mut known = Known::default();
            let mut worlds = [World::new(), World::new()];
            // Components get other numbers in the second world.
            let _ = worlds[1].register::<Odd>();
            let _ = worlds[1].register::<Name>();
            let mut models = [0, 1].map(|i| begin_with(&mut worlds[i], &mut World::new(), rows[i], i as u8));
            let mut views = [0, 1].map(|i| vec![(worlds[i].view(), models[i].clone())]);
            for (which, turn, first) in &turns {
                let i = usize::from(*which);
                let lsn = worlds[i].lsn().next();
                match turn {
                    Turn::Transact(ops, commit) => {
                        let mut next = models[i].clone();
                        let mut open = worlds[i].begin();
                        ops.iter().for_each(|&op| run(op, open.transaction(), &mut next, &mut Vec::new()));
                        if *commit {
                            open.prepare().unwrap().commit(lsn);
                            models[i] = next;
                        }
                    }
                    Turn::Restore(other, commit) => {
                        let from = if *other { 1 - i } else { i };
                        let (view, model) = views[from][first % views[from].len()].clone();
                        let restore = worlds[i].restore(&view).unwrap();
                        if *commit {
                            restore.commit(lsn);
                            models[i] = restored(&models[i], &model);
                            worlds[i].register_linked().unwrap();
                        }
                    }
                    Turn::Replay => {
                        worlds[i] = common::rebuild(&worlds[i].view());
                        worlds[i].register_linked().unwrap();
                        models[i] = stored(&models[i]);
                    }
                }
                let j = usize::from(first % 2 == 0);
                for k in [j, 1 - j] {
                    check(&worlds[k].view(), &models[k]);
                    check_known(&mut worlds[k], &models[k], &mut known, *first);
                    check(&worlds[k].view(), &models[k]);
                }
                views[i].push((worlds[i].view(), models[i].clone()));
            }
        }
        prop_assert_eq!(LIVE.get(), 0, "values dropped twice or never");
    }
}

proptest! {
    #![proptest_config(config(64))]

    /// Compaction and restoring copy what views share; when a clone panics, nothing has happened.
    #[test]
    fn compaction_and_restoring_are_not_left_half_done_by_clones_that_panic(
        rows in 70u16..300,
        shape in 0u8..2,
        gone in proptest::collection::vec(any::<(u16, u8)>(), 0..8),
        ops in proptest::collection::vec(op(), 0..5),
        steps in proptest::collection::vec((any::<bool>(), 0u32..200, 1usize..100), 1..10),
    ) {
        quiet();
        {
            let mut world = World::new();
            let mut model = begin_with(&mut world, &mut World::new(), rows, shape);
            let target = (world.view(), model.clone());
            let mut views = vec![target.clone()];
            let mut open = world.begin();
            for (first, step) in gone {
                let some = Part { first, step: step % 3 + 1, most: 60 };
                for e in pick(&model, some) {
                    open.transaction().despawn(e).unwrap();
                    model.remove(&e);
                }
            }
            ops.iter().for_each(|&op| run(op, open.transaction(), &mut model, &mut Vec::new()));
            open.prepare().unwrap().commit(Lsn(2));
            for (restore, clones, n) in steps {
                views.push((world.view(), model.clone()));
                CLONES_LEFT.set(clones);
                let done = catch_unwind(AssertUnwindSafe(|| match restore {
                    true => drop(world.restore(&target.0).unwrap()),
                    false => drop(world.compact_chunks(n)),
                }));
                CLONES_LEFT.set(u32::MAX);
                prop_assert!(done.is_ok() || clones < u32::MAX);
                check(&world.view(), &model);
                check_known(&mut world, &model, &mut Known::default(), n);
            }
            for (view, model) in &views {
                check(view, model);
            }
            let lsn = world.lsn().next();
            world.restore(&target.0).unwrap().commit(lsn);
            check(&world.view(), &restored(&model, &target.1));
        }
        prop_assert_eq!(LIVE.get(), 0, "values dropped twice or never");
    }
}

proptest! {
    #![proptest_config(config(128))]

    /// A clone panics somewhere in the middle, is caught or not, and clones work again, or do not, when the transaction is rolled back.
    #[test]
    fn clones_that_panic_leave_the_world_as_it_was_or_poisoned(
        rows in 1u16..60,
        shape in 0u8..2,
        ops in proptest::collection::vec((op(), prop_oneof![3 => Just(u32::MAX), 1 => 0u32..80]), 1..10),
        in_rollback: bool,
        old_view: bool,
        caught: bool,
    ) {
        quiet();
        {
            let mut world = World::new();
            let model = begin_with(&mut world, &mut World::new(), rows, shape);
            let digest = world.view().digest().unwrap();
            let rows_before = order(&world.view());
            let view = old_view.then(|| world.view());
            let mut views = Vec::new();
            let mut open = world.begin();
            let mut panicked = false;
            for &(op, clones) in &ops {
                let mut scratch = Model::new();
                for (e, row) in &model {
                    if open.transaction().contains(*e) {
                        let _ = scratch.insert(*e, row.clone());
                    }
                }
                CLONES_LEFT.set(clones);
                let tx = open.transaction();
                // What the operations check is not known once one of them was stopped.
                let result = catch_unwind(AssertUnwindSafe(|| match op {
                    Op::Set(kind, some, n) => {
                        for e in pick(&scratch, some) {
                            match kind {
                                Kind::Live => drop(tx.get_mut::<Live>(e).map(|v| v.set(n))),
                                _ => drop(tx.get_mut::<Pos>(e).map(|v| v.set(n))),
                            }
                        }
                    }
                    Op::Insert(_, some, n) => pick(&scratch, some).into_iter().for_each(|e| {
                        tx.insert(e, (Live::new(n), Tag)).unwrap();
                    }),
                    Op::Remove(_, some) | Op::Take(_, some) | Op::Exchange(some, _) => {
                        pick(&scratch, some).into_iter().for_each(|e| drop(tx.remove::<(Live, Tag)>(e)));
                    }
                    Op::Flags(some, _) => pick(&scratch, some).into_iter().for_each(|e| {
                        tx.insert(e, Ghost).unwrap();
                    }),
                    Op::Unflag(some) => pick(&scratch, some).into_iter().for_each(|e| {
                        tx.remove::<Tag>(e).unwrap();
                    }),
                    Op::Despawn(some) => {
                        pick(&scratch, some).into_iter().for_each(|e| tx.despawn(e).unwrap());
                    }
                    Op::Query(_, part, n) => tx.query::<&mut Live>().take(part.into()).for_each(|v| v.set(n)),
                    Op::Chunks(_, part, _, n) | Op::Both(part, n) => {
                        let mut query = tx.query::<(&mut Live, Option<&mut Name>)>();
                        query.by_ref().take(part.into()).for_each(|(v, _)| v.set(n));
                        query.chunks().for_each(|(values, _)| values.iter_mut().for_each(|v| v.set(n)));
                    }
                    Op::Spawn(k, ..) => {
                        let panicking = (0..k).map(|i| {
                            if clones != u32::MAX && u32::from(i) == clones {
                                std::panic::panic_any("meant");
                            }
                            (Pos::make(1), Name::make(2), Live::new(1), Tag)
                        });
                        drop(tx.spawn_batch(panicking));
                    }
                    Op::EntityMut(some, n) => pick(&scratch, some).into_iter().for_each(|e| {
                        let _ = tx.entity_mut(e).unwrap().get::<(&mut Live, &mut Pos)>().map(|(v, _)| v.set(n));
                    }),
                    Op::SetMany(..) => {
                        let ids: Vec<Entity> = scratch.keys().copied().take(3).collect();
                        if let [a, b, c] = ids[..] {
                            let _ = tx.get_many_mut::<Live, 3>([a, b, c]).map(|v| v.map(|v| v.set(3)));
                        }
                    }
                    Op::View | Op::Errors(_) => views.push(tx.view()),
                }));
                CLONES_LEFT.set(u32::MAX);
                if let Err(panic) = result {
                    prop_assert_eq!(panic.downcast_ref::<&str>(), Some(&"meant"));
                    panicked = true;
                    if !caught {
                        break;
                    }
                }
            }
            let shown: Vec<_> = views.iter().map(|view| view.digest().unwrap()).collect();
            if in_rollback {
                CLONES_LEFT.set(0);
            }
            if panicked && caught {
                prop_assert!(matches!(open.prepare().map(drop), Err(Error::Interrupted)));
            } else {
                drop(open);
            }
            CLONES_LEFT.set(u32::MAX);
            if world.is_poisoned() {
                prop_assert!(in_rollback && !views.is_empty());
                prop_assert!(matches!(world.begin().prepare().map(drop), Err(Error::Poisoned)));
            } else {
                prop_assert_eq!(world.view().digest().unwrap(), digest);
                prop_assert_eq!(order(&world.view()), rows_before);
                check(&world.view(), &model);
                // And it can be written.
                let mut open = world.begin();
                open.transaction().query::<&mut Live>().for_each(|v| v.set(2));
                open.prepare().unwrap().commit(Lsn(2));
            }
            if let Some(view) = view {
                check(&view, &model);
            }
            for (view, shown) in views.iter().zip(shown) {
                prop_assert_eq!(view.digest().unwrap(), shown);
            }
        }
        prop_assert_eq!(LIVE.get(), 0, "values dropped twice or never");
    }
}

proptest! {
    #![proptest_config(config(64))]

    /// The types become known one after the other, in the middle of transactions.
    #[test]
    fn a_world_that_was_replayed_learns_its_types_within_transactions(
        rows in prop_oneof![1u16..20, 100u16..200],
        shape in 0u8..3,
        transactions in proptest::collection::vec(transaction(), 1..5),
    ) {
        quiet();
        let mut log = Vec::new();
        let mut first = World::new();
        let mut model = Model::new();
        let mut open = first.begin();
        spawn(open.transaction(), &mut model, rows, shape, 0);
        let prepared = open.prepare().unwrap();
        log.push(prepared.change_set().to_vec());
        prepared.commit(Lsn(1));
        drop(first);
        for (ops, end, _) in &transactions {
            let mut world = World::new();
            for (i, bytes) in log.iter().enumerate() {
                prop_assert_eq!(world.apply(Lsn(i as u64 + 1), bytes).unwrap().skipped, 0);
            }
            model = stored(&model);
            let (mut next, lsn, digest) = (model.clone(), world.lsn(), world.view().digest().unwrap());
            let before = order(&world.view());
            let mut open = world.begin();
            ops.iter().for_each(|&op| run(op, open.transaction(), &mut next, &mut Vec::new()));
            if let End::Commit = end {
                let prepared = open.prepare().unwrap();
                let bytes = prepared.change_set().to_vec();
                prepared.commit(if bytes.is_empty() { lsn } else { lsn.next() });
                model = next;
                if !bytes.is_empty() {
                    log.push(bytes);
                }
            } else {
                drop(open);
                prop_assert_eq!(world.view().digest().unwrap(), digest);
                prop_assert_eq!(order(&world.view()), before);
            }
            world.register_linked().unwrap();
            check(&world.view(), &model);
        }
        prop_assert_eq!(LIVE.get(), 0, "values dropped twice or never");
    }
}
