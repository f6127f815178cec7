//! What is stored is read as nothing else (TX-5), and nothing is committed that cannot be read back (TX-2).

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::collections::{BTreeMap, HashMap, HashSet};

use common::{rebuild, try_commit as commit};
use ecsdb_core::{CodecError, Component, Describe, Description, Entity, Error, Lsn, Transaction, World};
use proptest::prelude::*;

/// Types of one program, and what became of them in another.
macro_rules! versions {
    ($($module:ident { $($item:item)* })*) => {$(
        mod $module {
            #![allow(dead_code, reason = "only described")]
            use ecsdb_core::{Component, Describe};
            $($item)*
        }
    )*};
}

versions! {
    first {
        pub(crate) type Amount = u32;
        #[derive(Describe, Clone, Copy)]
        #[describe(plain)]
        #[repr(C)]
        pub(crate) struct Vec2 { pub(crate) x: f32, pub(crate) y: f32 }
        #[derive(Describe, Clone, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
        pub(crate) enum Order { Hold, Attack(u32) }
        #[derive(Component, Clone, Copy)]
        #[component(name = "d.money", plain)]
        #[repr(C)]
        pub(crate) struct Money { pub(crate) amount: Amount }
        #[derive(Component, Clone, Copy)]
        #[component(name = "d.place", plain)]
        #[repr(C)]
        pub(crate) struct Place { pub(crate) at: [Vec2; 2] }
        #[derive(Component, Clone, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
        #[component(name = "d.orders", archived)]
        pub(crate) struct Orders(pub(crate) Vec<Option<Order>>);
    }
    second {
        pub(crate) type Amount = f32;
        #[derive(Describe, Clone, Copy)]
        #[describe(plain)]
        #[repr(C)]
        pub(crate) struct Vec2 { pub(crate) y: f32, pub(crate) x: f32 }
        #[derive(Describe, Clone, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
        pub(crate) enum Order { Hold, Flee, Attack(u32) }
        #[derive(Component, Clone, Copy)]
        #[component(name = "d.money", plain)]
        #[repr(C)]
        pub(crate) struct Money { pub(crate) amount: Amount }
        #[derive(Component, Clone, Copy)]
        #[component(name = "d.place", plain)]
        #[repr(C)]
        pub(crate) struct Place { pub(crate) at: [Vec2; 2] }
        #[derive(Component, Clone, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
        #[component(name = "d.orders", archived)]
        pub(crate) struct Orders(pub(crate) Vec<Option<Order>>);
    }
    renamed {
        #[derive(Describe, Clone, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
        pub(crate) enum Command { Hold, Attack(u32) }
        #[derive(Component, Clone, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
        #[component(name = "d.orders", archived)]
        pub(crate) struct Commands(pub(crate) Vec<Option<Command>>);
    }
}

fn mismatch<Old: Component, New: Component>(value: Old) -> Option<String> {
    let mut world = World::new();
    commit(&mut world, |tx| tx.spawn(value)).unwrap();
    let mut reopened = rebuild_without_types(&world);
    match reopened.register::<New>() {
        Err(Error::SchemaMismatch { difference, .. }) => Some(difference),
        Err(e) => panic!("{e}"),
        Ok(_) => None,
    }
}

/// What a program opens that does not have the world's types.
fn rebuild_without_types(world: &World) -> World {
    let view = world.view();
    let mut builder = ecsdb_core::parts::WorldBuilder::new();
    builder.schema(&view.schema()).unwrap();
    let loader = builder.columns();
    for chunk in view.chunks() {
        let components: Vec<_> = chunk.components().collect();
        let columns = chunk.columns().map(|column| {
            let mut bytes = Vec::new();
            column.encode(&mut bytes).unwrap();
            loader.load(column.component, chunk.rows(), column.changed, &bytes).unwrap()
        });
        builder.chunk(chunk.uid(), chunk.rows_log2(), &components, columns.collect()).unwrap();
    }
    builder.finish(view.lsn(), &view.allocators()).unwrap()
}

#[test]
fn a_type_that_changed_anywhere_is_refused_and_the_part_is_named() {
    let money = mismatch::<_, second::Money>(first::Money { amount: 7 }).unwrap();
    assert_eq!(money, "`amount`: u32 in the database, f32 in the program");
    let place = first::Place { at: [first::Vec2 { x: 1.0, y: 2.0 }; 2] };
    assert_eq!(
        mismatch::<_, second::Place>(place).unwrap(),
        "`at.[]`: field `x` in the database, `y` in the program"
    );
    let orders = first::Orders(vec![Some(first::Order::Attack(3)), None, Some(first::Order::Hold)]);
    assert_eq!(
        mismatch::<_, second::Orders>(orders.clone()).unwrap(),
        "`0.[].[]`: variant `Attack` = 1 in the database, `Flee` = 1 in the program"
    );
    assert_eq!(mismatch::<_, renamed::Commands>(orders), None, "names of types do not count");
}

#[derive(Describe, Clone, Copy, Debug, PartialEq)]
#[describe(plain)]
#[repr(u8)]
enum Mood {
    Calm = 1,
    Angry = 7,
}

#[derive(Describe, Clone, Copy, Debug, PartialEq)]
#[describe(plain)]
#[repr(C)]
struct Flags {
    mood: Mood,
    on: [bool; 3],
}

#[derive(Component, Clone, Copy, Debug, PartialEq)]
#[component(name = "d.mixed", plain)]
#[repr(C)]
struct Mixed {
    target: Option<Entity>,
    owner: Entity,
    letter: char,
    flags: Flags,
    table: [u16; 100],
}

#[derive(Component, Clone, Debug, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
#[component(name = "d.squad", archived)]
struct Squad {
    leader: Option<Entity>,
    members: Vec<Entity>,
    ranks: BTreeMap<Entity, u8>,
}

#[test]
fn ids_and_types_that_are_not_numbers_are_stored_in_plain_and_archived_components() {
    let mut world = World::new();
    let flags = Flags { mood: Mood::Angry, on: [true, false, true] };
    let mixed = |owner, target| Mixed { target, owner, letter: 'ß', flags, table: [7; 100] };
    let squad = |id| Squad { leader: Some(id), members: vec![id; 3], ranks: [(id, 1)].into() };
    let ((a, b), bytes) = commit(&mut world, |tx| {
        let a = tx.spawn(());
        let b = tx.spawn((mixed(a, None), squad(a)));
        tx.insert(a, (mixed(b, Some(a)), squad(b))).unwrap();
        (a, b)
    })
    .unwrap();
    let mut replayed = World::new();
    replayed.apply(Lsn(1), &bytes).unwrap();
    let mut late = rebuild_without_types(&world);
    for world in [&mut replayed, &mut late] {
        world.register_linked().unwrap();
    }
    for world in [&world, &replayed, &late, &rebuild(&world.view())] {
        let view = world.view();
        assert_eq!(view.get::<Mixed>(a).unwrap(), &mixed(b, Some(a)));
        assert_eq!(view.get::<Mixed>(b).unwrap(), &mixed(a, None));
        assert_eq!(view.get::<Squad>(a).unwrap(), &squad(b));
    }
}

proptest! {
    /// Whatever stands in a file, a plain value is one of its type.
    #[test]
    fn bytes_that_are_no_value_are_refused_wherever_they_come_in(at in 0usize..24, byte in 0u8..10) {
        let mut world = World::new();
        let (id, bytes) = commit(&mut world, |tx| {
            let owner = tx.spawn(());
            let flags = Flags { mood: Mood::Calm, on: [false; 3] };
            tx.spawn(Mixed { target: None, owner, letter: 'a', flags, table: [0; 100] })
        }).unwrap();
        let column = bytes.len() - size_of::<Mixed>();
        let mut spoiled = bytes.clone();
        spoiled[column + at] = byte;
        let mut replayed = World::new();
        // The type is known when the bytes come, or after.
        let early = {
            let mut world = World::new();
            world.register::<Mixed>().unwrap();
            world.apply(Lsn(1), &spoiled).map(|_| world)
        };
        replayed.apply(Lsn(1), &spoiled).unwrap();
        let late = replayed.register::<Mixed>();
        prop_assert_eq!(early.is_ok(), late.is_ok());
        match early {
            Ok(world) => {
                let view = world.view();
                let value = view.get::<Mixed>(id).unwrap();
                prop_assert!(value.owner.generation() > 0 && value.target.is_none_or(|id| id.generation() > 0));
                prop_assert!(matches!(value.flags.mood, Mood::Calm | Mood::Angry));
            }
            Err(e) => prop_assert!(matches!(e, Error::Codec { cause: CodecError::Invalid, .. }), "{}", e),
        }
    }
}

#[derive(Component, Clone, Copy)]
#[component(name = "d.huge", plain)]
#[repr(C)]
struct Huge([u8; (1 << 20) + 1]);

#[derive(Component, Clone, Copy)]
#[component(name = "d.large", plain)]
#[repr(C)]
struct Large([u64; 1 << 17]);

#[derive(Describe, Clone, Copy, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
#[rkyv(attr(repr(align(128))))]
#[repr(align(128))]
struct Strict(u8);

#[derive(Component, Clone, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
#[component(name = "d.strict", archived)]
struct StrictOnes(Vec<Strict>);

#[derive(Component, Clone, Default)]
#[component(name = "d.strict_cache", transient)]
#[repr(align(128))]
struct StrictCache(#[allow(dead_code, reason = "it is dropped")] Vec<u8>);

#[derive(Component, Clone, Default)]
#[component(name = "d.aligned_cache", transient)]
#[repr(align(64))]
struct AlignedCache(#[allow(dead_code, reason = "it is dropped")] Vec<u8>);

#[derive(Component, Clone, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
#[component(name = "d.list", archived)]
#[rkyv(serialize_bounds(__S: rkyv::ser::Writer, __S::Error: rkyv::rancor::Source))]
#[rkyv(deserialize_bounds(__D::Error: rkyv::rancor::Source))]
#[rkyv(bytecheck(bounds(__C: rkyv::validation::ArchiveContext, __C::Error: rkyv::rancor::Source)))]
struct List {
    #[rkyv(omit_bounds)]
    next: Option<Box<List>>,
}

fn list(depth: usize) -> List {
    (0..depth).fold(List { next: None }, |next, _| List { next: Some(Box::new(next)) })
}

#[derive(Component, Clone, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
#[component(name = "d.blob", archived)]
struct Blob(Vec<u8>);

/// Values of a megabyte pass over the stack of whoever spawns them, but not of whoever reads them back.
fn on_a_stack_of(bytes: usize, run: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(bytes).spawn_scoped(scope, run).unwrap();
        thread.join().unwrap();
    });
}

#[test]
fn what_could_not_be_read_back_is_refused_with_its_limit_and_the_rest_goes_on() {
    on_a_stack_of(64 << 20, refuse_and_go_on);
}

fn refuse_and_go_on() {
    let mut world = World::new();
    let refused =
        |world: &mut World, spawn: &dyn Fn(&mut Transaction<'_>)| commit(world, |tx| spawn(tx)).unwrap_err();
    let huge = [Huge([0; (1 << 20) + 1])];
    let e = refused(&mut world, &|tx| drop(tx.spawn_batch(huge.iter().copied())));
    assert!(matches!(e, Error::Limit { max: 1_048_576, found: 1_048_577, .. }), "{e}");
    let e = refused(&mut world, &|tx| drop(tx.spawn_batch([StrictOnes(vec![Strict(1)])])));
    assert!(matches!(e, Error::Limit { max: 64, found: 128, .. }), "{e}");
    // Transient values lie where the others do, until they are dropped.
    let e = refused(&mut world, &|tx| {
        let ids = tx.spawn_batch((0..9).map(|_| StrictCache(vec![1])));
        ids.into_iter().for_each(|id| drop(tx.despawn(id)));
    });
    assert!(matches!(e, Error::Limit { max: 64, found: 128, .. }), "{e}");
    let e = refused(&mut world, &|tx| tx.insert_resource(StrictCache::default()));
    assert!(matches!(e, Error::Limit { max: 64, found: 128, .. }), "{e}");
    assert!(world.register::<StrictCache>().is_err());
    let aligned = commit(&mut World::new(), |tx| {
        let ids = tx.spawn_batch((0..9).map(|_| AlignedCache(vec![1])));
        ids.into_iter().for_each(|id| tx.despawn(id).unwrap());
    });
    assert!(aligned.is_ok());
    for depth in [200, 2_000] {
        let e = refused(&mut world, &|tx| drop(tx.spawn_batch([list(depth)])));
        assert!(matches!(e, Error::Codec { cause: CodecError::TooDeep(128), .. }), "{e}");
    }
    let e = refused(&mut world, &|tx| drop(tx.spawn_batch([Blob(vec![1; (256 << 20) + 1])])));
    assert!(e.to_string().contains("at most 268435456"), "{e}");
    assert_eq!(world.lsn(), Lsn::ZERO);

    let large = vec![Large([7; 1 << 17]); 3];
    let (ids, bytes) = commit(&mut world, |tx| tx.spawn_batch(large.iter().copied())).unwrap();
    let (deep, more) = commit(&mut world, |tx| tx.spawn(list(40))).unwrap();
    let (_, rest) = commit(&mut world, |tx| tx.spawn_batch(large.iter().copied())).unwrap();
    on_a_stack_of(256 << 10, || {
        let mut replayed = World::new();
        for (lsn, bytes) in [(1, &bytes), (2, &more), (3, &rest)] {
            replayed.apply(Lsn(lsn), bytes).unwrap();
            // What comes after is read as the type.
            replayed.register_linked().unwrap();
        }
        for world in [&replayed, &rebuild(&world.view())] {
            assert_eq!(world.view().get::<Large>(ids[2]).unwrap().0[9], 7);
            assert!(world.view().get::<List>(deep).unwrap().next.is_some());
        }
    });
}

#[derive(Component, Clone, Debug, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
#[component(name = "d.bag", archived)]
struct Bag {
    items: HashMap<String, Vec<u32>>,
    tags: HashSet<u8>,
}

#[test]
fn equal_values_have_one_digest_whatever_the_order_of_their_hash_containers() {
    let bag = |order: &mut dyn Iterator<Item = u8>| {
        let order: Vec<u8> = order.collect();
        let items = order.iter().map(|&i| (format!("item {i}"), vec![u32::from(i); 3])).collect();
        Bag { items, tags: order.into_iter().collect() }
    };
    let (mut world, mut other) = (World::new(), World::new());
    let (_, bytes) = commit(&mut world, |tx| tx.spawn(bag(&mut (0..50)))).unwrap();
    commit(&mut other, |tx| tx.spawn(bag(&mut (0..50).rev()))).unwrap();
    let digest = world.view().digest().unwrap();
    assert_eq!(digest, other.view().digest().unwrap());
    let mut replayed = World::new();
    replayed.apply(Lsn(1), &bytes).unwrap();
    assert_eq!(digest, replayed.view().digest().unwrap(), "without the Rust type, too");
    replayed.register_linked().unwrap();
    assert_eq!(digest, replayed.view().digest().unwrap());
    commit(&mut other, |tx| tx.query::<&mut Bag>().for_each(|bag| drop(bag.items.remove("item 7")))).unwrap();
    assert_ne!(digest, other.view().digest().unwrap());
}

#[test]
fn a_part_that_is_not_described_goes_by_its_version() {
    mod theirs {
        #[derive(Clone, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
        pub(crate) struct Foreign(pub(crate) u8);
    }
    #[derive(Component, Clone, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
    #[component(name = "d.opaque", archived)]
    struct One {
        #[describe(opaque = "theirs.foreign", version = 1)]
        part: theirs::Foreign,
    }
    #[derive(Component, Clone, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
    #[component(name = "d.opaque", archived)]
    struct Two {
        #[describe(opaque = "theirs.foreign", version = 2)]
        part: theirs::Foreign,
    }
    assert_eq!(
        mismatch::<_, Two>(One { part: theirs::Foreign(1) }).unwrap(),
        "`part`: opaque theirs.foreign version 1 in the database, opaque theirs.foreign version 2 in the program"
    );
    let _ = Two { part: theirs::Foreign(1) };
}

#[test]
fn a_description_is_read_back_and_shows_what_it_is_of() {
    let description = Squad::description();
    assert_eq!(&Description::from_bytes(&description.to_bytes()).unwrap(), description);
    assert_eq!(
        description.to_string(),
        "{ leader: Option<Entity>, members: Vec<Entity>, ranks: BTreeMap<Entity, u8> }"
    );
    assert_eq!(List::description().to_string(), "{ next: Option<Box<…>> }");
}
