//! A naive model of a world, and random transactions that are run on both.

#![allow(clippy::unwrap_used, dead_code, reason = "tests, of which each uses a part")]

use std::collections::BTreeMap;

use ecsdb_core::parts::WorldBuilder;
use ecsdb_core::{Component, ComponentId, Entity, Error, Transaction, View, With, Without, World};
use proptest::prelude::*;

#[derive(Component, Clone, Copy, Debug, PartialEq)]
#[component(name = "pos", plain)]
#[repr(C)]
pub(crate) struct Pos {
    pub(crate) x: i32,
    pub(crate) y: i32,
}

#[derive(Component, Clone, Copy, Debug, PartialEq)]
#[component(name = "hp", plain)]
#[repr(transparent)]
pub(crate) struct Hp(pub(crate) u64);

#[derive(Component, Clone, Copy, Debug, PartialEq)]
#[component(name = "tag", plain)]
#[repr(C)]
pub(crate) struct Tag;

#[derive(Component, Clone, Debug, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
#[component(name = "name", archived)]
pub(crate) struct Name(pub(crate) String);

#[derive(Component, Clone, Debug, PartialEq)]
#[component(name = "cache", transient)]
pub(crate) struct Cache(pub(crate) Vec<u8>);

#[derive(Component, Clone, Debug, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
#[component(name = "score", archived)]
pub(crate) struct Score(pub(crate) Vec<u32>);

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Row {
    pub(crate) pos: Option<Pos>,
    pub(crate) hp: Option<Hp>,
    pub(crate) tag: bool,
    pub(crate) name: Option<Name>,
    pub(crate) cache: Option<Cache>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Model {
    pub(crate) rows: BTreeMap<Entity, Row>,
    pub(crate) score: Option<Score>,
}

#[derive(Clone, Debug)]
pub(crate) enum Op {
    SpawnPos(i32),
    SpawnAll(u8),
    SpawnEmpty,
    SpawnBatch(u8, i32),
    SpawnAndDespawn(i32),
    Despawn(prop::sample::Index),
    InsertPosHp(prop::sample::Index, i32),
    InsertName(prop::sample::Index, u8),
    InsertCache(prop::sample::Index, u8),
    InsertTag(prop::sample::Index),
    ReinsertPos(prop::sample::Index, i32),
    ExchangePosForName(prop::sample::Index, u8),
    RemovePos(prop::sample::Index),
    RemoveNameCache(prop::sample::Index),
    SetPos(prop::sample::Index, i32),
    /// One by one, so many that the rest is kept as a whole.
    SetMany(i32, u32),
    SetName(prop::sample::Index, u8),
    MoveAll(i32),
    MoveSome(i32, u64),
    RenameAll(u8),
    /// Hands everything out and changes nothing.
    TouchAll,
    PutScore(u8),
    PushScore(u32),
    RemoveScore,
}

#[derive(Clone, Debug)]
pub(crate) enum End {
    Commit,
    Fail,
    Panic,
}

pub(crate) fn op() -> impl Strategy<Value = Op> {
    use Op::*;
    let i = any::<prop::sample::Index>;
    // Few values, so that what is set is often what was there before.
    let (x, n) = (|| 0..3i32, || 0..3u8);
    prop_oneof![
        3 => x().prop_map(SpawnPos),
        3 => n().prop_map(SpawnAll),
        1 => Just(SpawnEmpty),
        1 => (prop_oneof![4 => 0u8..4, 1 => any::<u8>()], x()).prop_map(|(n, x)| SpawnBatch(n, x)),
        2 => x().prop_map(SpawnAndDespawn),
        4 => i().prop_map(Despawn),
        3 => (i(), x()).prop_map(|(i, x)| InsertPosHp(i, x)),
        3 => (i(), n()).prop_map(|(i, x)| InsertName(i, x)),
        2 => (i(), n()).prop_map(|(i, x)| InsertCache(i, x)),
        2 => (i(), x()).prop_map(|(i, x)| ReinsertPos(i, x)),
        2 => (i(), n()).prop_map(|(i, x)| ExchangePosForName(i, x)),
        2 => i().prop_map(InsertTag),
        3 => i().prop_map(RemovePos),
        2 => i().prop_map(RemoveNameCache),
        5 => (i(), x()).prop_map(|(i, x)| SetPos(i, x)),
        2 => (x(), 1u32..4).prop_map(|(x, k)| SetMany(x, k)),
        4 => (i(), n()).prop_map(|(i, x)| SetName(i, x)),
        3 => x().prop_map(MoveAll),
        3 => (x(), 1u64..5).prop_map(|(x, k)| MoveSome(x, k)),
        2 => n().prop_map(RenameAll),
        2 => Just(TouchAll),
        1 => n().prop_map(PutScore),
        2 => (0u32..2).prop_map(PushScore),
        1 => Just(RemoveScore),
    ]
}

pub(crate) fn transaction() -> impl Strategy<Value = (Vec<Op>, End, bool)> {
    let end = prop_oneof![4 => Just(End::Commit), 1 => Just(End::Fail), 1 => Just(End::Panic)];
    (proptest::collection::vec(op(), 0..12), end, any::<bool>())
}

pub(crate) fn name(n: u8) -> Name {
    Name("x".repeat(n as usize % 40))
}

pub(crate) fn pick(model: &Model, index: &prop::sample::Index) -> Option<Entity> {
    (!model.rows.is_empty()).then(|| *model.rows.keys().nth(index.index(model.rows.len())).unwrap())
}

/// Does one operation to both, and compares what they say.
pub(crate) fn run(op: &Op, tx: &mut Transaction<'_>, model: &mut Model) {
    match op {
        Op::SpawnPos(x) => {
            let pos = Pos { x: *x, y: 0 };
            let entity = tx.spawn(pos);
            assert!(model.rows.insert(entity, Row { pos: Some(pos), ..Row::default() }).is_none());
        }
        Op::SpawnAll(n) => {
            let row = Row {
                pos: Some(Pos { x: 1, y: i32::from(*n) }),
                hp: Some(Hp(u64::from(*n))),
                tag: true,
                name: Some(name(*n)),
                cache: Some(Cache(vec![*n; 3])),
            };
            let Row { pos, hp, name, cache, .. } = row.clone();
            let bundle = (name.unwrap(), (cache.unwrap(), Tag), pos.unwrap(), hp.unwrap());
            assert!(model.rows.insert(tx.spawn(bundle), row).is_none());
        }
        Op::SpawnEmpty => assert!(model.rows.insert(tx.spawn(()), Row::default()).is_none()),
        Op::SpawnBatch(n, x) => {
            let rows: Vec<_> = (0..*n).map(|i| (Pos { x: *x, y: i.into() }, name(i))).collect();
            let ids = tx.spawn_batch(rows.clone());
            assert_eq!(ids.len(), rows.len());
            for (id, (pos, name)) in ids.into_iter().zip(rows) {
                let row = Row { pos: Some(pos), name: Some(name), ..Row::default() };
                assert!(model.rows.insert(id, row).is_none());
            }
        }
        Op::Despawn(i) => {
            let Some(e) = pick(model, i) else { return };
            model.rows.remove(&e);
            tx.despawn(e).unwrap();
            assert!(tx.despawn(e).is_err() && tx.get_mut::<Pos>(e).is_err() && !tx.contains(e));
        }
        Op::InsertPosHp(i, x) => {
            let Some(e) = pick(model, i) else { return };
            let (pos, hp) = (Pos { x: *x, y: 9 }, Hp(*x as u64));
            tx.insert(e, (hp, pos)).unwrap();
            let row = model.rows.get_mut(&e).unwrap();
            (row.pos, row.hp) = (Some(pos), Some(hp));
        }
        Op::InsertName(i, n) => {
            let Some(e) = pick(model, i) else { return };
            tx.insert(e, name(*n)).unwrap();
            model.rows.get_mut(&e).unwrap().name = Some(name(*n));
        }
        Op::InsertCache(i, n) => {
            let Some(e) = pick(model, i) else { return };
            tx.insert(e, Cache(vec![*n])).unwrap();
            model.rows.get_mut(&e).unwrap().cache = Some(Cache(vec![*n]));
        }
        Op::InsertTag(i) => {
            let Some(e) = pick(model, i) else { return };
            tx.insert(e, Tag).unwrap();
            model.rows.get_mut(&e).unwrap().tag = true;
        }
        Op::RemovePos(i) => {
            let Some(e) = pick(model, i) else { return };
            assert_eq!(tx.remove::<Pos>(e).unwrap(), model.rows.get_mut(&e).unwrap().pos.take());
        }
        Op::RemoveNameCache(i) => {
            let Some(e) = pick(model, i) else { return };
            let row = model.rows.get_mut(&e).unwrap();
            let had = (row.name.take(), row.cache.take());
            assert_eq!(tx.remove::<(Name, Cache)>(e).unwrap(), had);
        }
        Op::ReinsertPos(i, x) => {
            let Some(e) = pick(model, i) else { return };
            let pos = Pos { x: *x, y: 0 };
            let row = model.rows.get_mut(&e).unwrap();
            assert_eq!(tx.take::<Pos>(e).ok(), row.pos.take());
            tx.insert(e, pos).unwrap();
            row.pos = Some(pos);
        }
        Op::ExchangePosForName(i, n) => {
            let Some(e) = pick(model, i) else { return };
            let row = model.rows.get_mut(&e).unwrap();
            assert_eq!(tx.exchange::<(Pos, Tag), _>(e, name(*n)).unwrap().0, row.pos.take());
            (row.tag, row.name) = (false, Some(name(*n)));
        }
        Op::SpawnAndDespawn(x) => {
            let e = tx.spawn((Pos { x: *x, y: 0 }, name(1)));
            tx.get_mut::<Pos>(e).unwrap().y = *x;
            tx.insert(e, Tag).unwrap();
            tx.despawn(e).unwrap();
            assert!(!tx.contains(e) && !model.rows.contains_key(&e));
        }
        Op::TouchAll => {
            tx.query::<(&mut Pos, Option<&Hp>)>().for_each(drop);
            tx.query::<&mut Name>().for_each(drop);
            tx.query::<&mut Cache>().for_each(drop);
            tx.query::<&mut Hp>().for_each(drop);
        }
        Op::SetPos(i, x) => {
            let Some(e) = pick(model, i) else { return };
            match (&mut model.rows.get_mut(&e).unwrap().pos, tx.get_mut::<Pos>(e)) {
                (Some(model), Ok(pos)) => {
                    assert_eq!(pos, model);
                    (model.y, pos.y) = (*x, *x);
                }
                (None, Err(_)) => {}
                other => panic!("{other:?}"),
            }
        }
        Op::SetMany(x, k) => {
            for (&e, row) in model.rows.iter_mut().filter(|(e, _)| e.index() % k == 0) {
                if let Some(pos) = &mut row.pos {
                    pos.y = *x;
                    tx.get_mut::<Pos>(e).unwrap().y = *x;
                }
            }
        }
        Op::SetName(i, n) => {
            let Some(e) = pick(model, i) else { return };
            if let Some(model) = &mut model.rows.get_mut(&e).unwrap().name {
                *model = name(*n);
                *tx.get_mut::<Name>(e).unwrap() = name(*n);
                assert_eq!(tx.get::<Name>(e).unwrap(), model);
            }
        }
        Op::MoveAll(x) => {
            for (pos, hp) in tx.query::<(&mut Pos, Option<&Hp>)>() {
                pos.x = pos.x.wrapping_add(*x).wrapping_add(hp.map_or(0, |hp| hp.0 as i32));
            }
            for row in model.rows.values_mut() {
                let hp = row.hp.map_or(0, |hp| hp.0 as i32);
                if let Some(pos) = &mut row.pos {
                    pos.x = pos.x.wrapping_add(*x).wrapping_add(hp);
                }
            }
        }
        Op::MoveSome(x, k) => {
            let chosen = |e: Entity| u64::from(e.index()) % k == 0;
            for (entities, positions, _) in tx.query::<(Entity, &mut Pos, Without<Tag>)>().chunks() {
                for (entity, pos) in entities.iter().zip(positions) {
                    if chosen(*entity) {
                        pos.y = *x;
                    }
                }
            }
            for (&entity, row) in &mut model.rows {
                if let (Some(pos), false, true) = (&mut row.pos, row.tag, chosen(entity)) {
                    pos.y = *x;
                }
            }
        }
        Op::RenameAll(n) => {
            tx.query::<(With<Hp>, &mut Name)>().for_each(|((), to)| *to = name(*n));
            for row in model.rows.values_mut().filter(|row| row.hp.is_some()) {
                if let Some(to) = &mut row.name {
                    *to = name(*n);
                }
            }
        }
        Op::PutScore(n) => {
            tx.insert_resource(Score(vec![(*n).into()]));
            model.score = Some(Score(vec![(*n).into()]));
        }
        Op::PushScore(n) => match (&mut model.score, tx.resource_mut::<Score>()) {
            (Some(model), Ok(score)) => {
                model.0.push(*n);
                score.0.push(*n);
            }
            (None, Err(_)) => {}
            other => panic!("{other:?}"),
        },
        Op::RemoveScore => assert_eq!(tx.remove_resource::<Score>().unwrap(), model.score.take().is_some()),
    }
}

pub(crate) fn check(view: &View, model: &Model) {
    assert_eq!(view.len(), model.rows.len());
    for (&e, row) in &model.rows {
        let found = Row {
            pos: view.get::<Pos>(e).ok().copied(),
            hp: view.get::<Hp>(e).ok().copied(),
            tag: view.get::<Tag>(e).is_ok(),
            name: view.get::<Name>(e).ok().cloned(),
            cache: view.get::<Cache>(e).ok().cloned(),
        };
        assert_eq!(&found, row, "{e}");
    }
    let mut seen: Vec<_> = view.query::<(Entity, &Pos)>().unwrap().map(|(e, pos)| (e, *pos)).collect();
    seen.sort_by_key(|(e, _)| *e);
    assert!(model.rows.iter().filter_map(|(&e, row)| Some((e, row.pos?))).eq(seen));
    assert_eq!(view.resource::<Score>().ok(), model.score.as_ref());
}

pub(crate) fn stored(model: &Model) -> Model {
    let mut model = model.clone();
    model.rows.values_mut().for_each(|row| row.cache = None);
    model
}

/// Runs a transaction and commits it as a log would have it: under the next LSN, if there is something to log. Returns what the
/// closure gave, and the change set.
pub(crate) fn try_commit<T>(
    world: &mut World,
    f: impl FnOnce(&mut Transaction<'_>) -> T,
) -> Result<(T, Vec<u8>), Error> {
    let last = world.lsn();
    let mut open = world.begin();
    let result = f(open.transaction());
    let prepared = open.prepare()?;
    let bytes = prepared.change_set().to_vec();
    prepared.commit(if bytes.is_empty() { last } else { last.next() });
    Ok((result, bytes))
}

/// Takes a view apart and puts it together again.
pub(crate) fn rebuild(view: &View) -> World {
    let mut builder = WorldBuilder::new();
    builder.schema(&view.schema()).unwrap();
    builder.register_linked().unwrap();
    let loader = builder.columns();
    for chunk in view.chunks() {
        let components: Vec<ComponentId> = chunk.components().collect();
        let columns = chunk
            .columns()
            .map(|column| {
                let mut bytes = Vec::new();
                column.encode(&mut bytes).unwrap();
                loader.load(column.component, chunk.rows(), column.changed, &bytes).unwrap()
            })
            .collect();
        builder.chunk(chunk.uid(), chunk.rows_log2(), &components, columns).unwrap();
    }
    for resource in view.resources() {
        let mut bytes = Vec::new();
        resource.encode(&mut bytes).unwrap();
        builder.resource(resource.component.unwrap(), resource.changed, &bytes).unwrap();
    }
    builder.finish(view.lsn(), &view.allocators()).unwrap()
}
