//! Compaction in memory against a model: ids, values and digests stay, views keep their picture, and memory comes back.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;

use ecsdb_core::{Compacted, Component, Digest, Entity, View, World};
use proptest::prelude::*;

/// Wide, so that a chunk has 64 rows only.
#[derive(Component, Clone, Copy, Debug, PartialEq)]
#[component(name = "wide", plain)]
#[repr(C)]
struct Wide([u64; 64]);

#[derive(Component, Clone, Debug, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
#[component(name = "name", archived)]
struct Name(String);

#[derive(Component, Clone, Debug, PartialEq)]
#[component(name = "cache", transient)]
struct Cache(Box<u64>);

type Model = BTreeMap<Entity, (u64, Option<String>)>;

#[derive(Clone, Debug)]
enum Op {
    Spawn(u8, bool),
    /// Despawns all but each `k`-th, from an offset on.
    Thin(u64, u64),
    Touch(prop::sample::Index, u64),
    /// As above, and then fails.
    RollBack(u8, u64),
    Compact(usize),
    CompactAll,
    View,
}

fn op() -> impl Strategy<Value = Op> {
    use Op::*;
    prop_oneof![
        4 => (1..200u8, any::<bool>()).prop_map(|(n, named)| Spawn(n, named)),
        4 => (2..20u64, 0..40u64).prop_map(|(k, from)| Thin(k, from)),
        2 => (any::<prop::sample::Index>(), any::<u64>()).prop_map(|(i, x)| Touch(i, x)),
        2 => (1..100u8, 2..9u64).prop_map(|(n, k)| RollBack(n, k)),
        4 => (1..150usize).prop_map(Compact),
        1 => Just(CompactAll),
        2 => Just(View),
    ]
}

fn commit<T>(world: &mut World, f: impl FnOnce(&mut ecsdb_core::Transaction<'_>) -> T) -> T {
    let lsn = world.lsn().next();
    let mut open = world.begin();
    let result = f(open.transaction());
    open.prepare().unwrap().commit(lsn);
    result
}

fn spawn(tx: &mut ecsdb_core::Transaction<'_>, x: u64, named: bool) -> (Entity, (u64, Option<String>)) {
    let name = named.then(|| format!("number {x}"));
    let id = match &name {
        Some(name) => tx.spawn((Wide([x; 64]), Name(name.clone()), Cache(Box::new(x)))),
        None => tx.spawn(Wide([x; 64])),
    };
    (id, (x, name))
}

fn thin(tx: &mut ecsdb_core::Transaction<'_>, ids: Vec<Entity>, k: u64, from: u64) -> Vec<Entity> {
    let gone = |id: &Entity| u64::from(id.index()) >= from && u64::from(id.index()) % k != 0;
    let gone: Vec<_> = ids.into_iter().filter(gone).collect();
    gone.iter().for_each(|&id| tx.despawn(id).unwrap());
    gone
}

fn compact_all(world: &mut World, rows_max: usize) -> Compacted {
    let mut all = Compacted::default();
    loop {
        let done = world.compact_chunks(rows_max);
        assert!(done.rows_moved <= rows_max as u64);
        all.rows_moved += done.rows_moved;
        all.chunks_emptied += done.chunks_emptied;
        if !done.more {
            return all;
        }
    }
}

fn check(view: &View, model: &Model) {
    assert_eq!(view.len(), model.len());
    for (&id, (x, name)) in model {
        assert_eq!(view.get::<Wide>(id).unwrap().0, [*x; 64]);
        assert_eq!(view.get::<Name>(id).ok().map(|name| &name.0), name.as_ref());
        assert_eq!(view.get::<Cache>(id).ok().map(|cache| *cache.0), name.as_ref().map(|_| *x));
    }
    let seen: BTreeMap<_, _> = view.query::<(Entity, &Wide)>().unwrap().map(|(e, w)| (e, w.0[9])).collect();
    assert!(seen.into_iter().eq(model.iter().map(|(&id, (x, _))| (id, *x))));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn compaction_changes_neither_ids_nor_values_nor_views(ops in proptest::collection::vec(op(), 1..40)) {
        let mut world = World::new();
        let mut model = Model::new();
        let mut views: Vec<(View, Model, Digest)> = Vec::new();
        for op in ops {
            let before = world.view().digest().unwrap();
            match op {
                Op::Spawn(n, named) => commit(&mut world, |tx| {
                    model.extend((0..n).map(|x| spawn(tx, x.into(), named)));
                }),
                Op::Thin(k, from) => commit(&mut world, |tx| {
                    for gone in thin(tx, model.keys().copied().collect(), k, from) {
                        model.remove(&gone);
                    }
                }),
                Op::Touch(i, x) => commit(&mut world, |tx| {
                    if !model.is_empty() {
                        let n = i.index(model.len());
                        let (&id, value) = model.iter_mut().nth(n).unwrap();
                        value.0 = x;
                        tx.get_mut::<Wide>(id).unwrap().0 = [x; 64];
                        if let Ok(cache) = tx.get_mut::<Cache>(id) {
                            *cache.0 = x;
                        }
                    }
                }),
                Op::RollBack(n, k) => {
                    let mut open = world.begin();
                    let tx = open.transaction();
                    (0..n).for_each(|x| drop(spawn(tx, x.into(), true)));
                    thin(tx, model.keys().copied().collect(), k, 0);
                    tx.query::<&mut Wide>().for_each(|wide| wide.0[9] = 7);
                }
                Op::Compact(rows) => {
                    let done = world.compact_chunks(rows);
                    prop_assert!(done.rows_moved <= rows as u64);
                    prop_assert_eq!(world.view().digest().unwrap(), before);
                }
                Op::CompactAll => {
                    // To the end of the pass under way, and once more over everything.
                    compact_all(&mut world, 1000);
                    compact_all(&mut world, 77);
                    prop_assert_eq!(world.view().sparsity(), 0.0);
                    let again = compact_all(&mut world, 50);
                    prop_assert_eq!(again, Compacted::default(), "it does not begin again at once");
                    prop_assert_eq!(world.view().digest().unwrap(), before);
                }
                Op::View => views.push((world.view(), model.clone(), before)),
            }
            check(&world.view(), &model);
        }
        for (view, model, digest) in &views {
            check(view, model);
            prop_assert_eq!(view.digest().unwrap(), *digest);
        }
    }
}
