//! What is archived in different forms has different descriptions, what a loader's stack does not hold is not committed, and
//! types that claim one name are told from one another.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::num::{NonZeroI64, NonZeroU8, NonZeroU128};

use common::try_commit as commit;
use ecsdb_core::{Component, Describe, Description, Entity, Error, Lsn, World};
use proptest::prelude::*;

fn replayed(change_set: &[u8]) -> World {
    let mut world = World::new();
    world.apply(Lsn(1), change_set).unwrap();
    world
}

/// Components written by a macro of the user's, of a type that its caller gives: the derive's own names must not depend on either.
macro_rules! archived {
    ($($name:ident = $stable:literal: $ty:ty;)*) => {$(
        #[derive(Component, Clone, Debug, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
        #[component(name = $stable, archived)]
        struct $name {
            part: $ty,
        }
    )*};
}

archived! {
    InVec = "a.list": Vec<u32>;
    InSlice = "a.list": Box<[u32]>;
    InOrderedSet = "a.list": BTreeSet<u32>;
    InSet = "a.list": HashSet<u32>;
    InText = "a.text": String;
    InBoxedText = "a.text": Box<str>;
    InMap = "a.map": BTreeMap<u32, u32>;
    InHashMap = "a.map": HashMap<u32, u32>;
}

#[test]
fn containers_with_different_archives_are_never_read_as_one_another() {
    let containers = [
        InVec::description(),
        InSlice::description(),
        InOrderedSet::description(),
        InSet::description(),
        InText::description(),
        InBoxedText::description(),
        InMap::description(),
        InHashMap::description(),
    ];
    for (i, a) in containers.iter().enumerate() {
        for (k, b) in containers.iter().enumerate() {
            assert_eq!(a.difference(b).is_none(), i == k, "{a} and {b}");
        }
    }
    // A set of 1, 2, 3 once came back as the vector 0, 1, 2.
    let (_, bytes) =
        commit(&mut World::new(), |tx| tx.spawn(InOrderedSet { part: [1, 2, 3].into() })).unwrap();
    let e = replayed(&bytes).register::<InVec>().unwrap_err();
    assert!(
        matches!(&e, Error::SchemaMismatch { difference, .. }
            if difference == "`part`: BTreeSet<u32> in the database, Vec<u32> in the program"),
        "{e}"
    );
    let _ = (InSlice { part: [].into() }, InSet { part: [].into() }, InHashMap { part: [].into() });
    let _ = (InText { part: "".into() }, InBoxedText { part: "".into() }, InMap { part: [].into() });
}

/// Parts of 40 KiB, one in another: each below the limit of one.
mod layers {
    #![allow(dead_code, reason = "only their sizes matter")]
    use ecsdb_core::{Component, Describe};

    macro_rules! layers {
        ($($outer:ident($inner:ty))*) => {$(
            #[derive(Describe, Clone, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
            pub(crate) struct $outer(pub(crate) $inner);
        )*};
    }
    layers! { One([u8; 40 << 10]) Two(One) Three(Two) }

    #[derive(Component, Clone, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
    #[component(name = "a.layers", archived)]
    pub(crate) struct Few(pub(crate) Vec<Two>);

    #[derive(Component, Clone, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
    #[component(name = "a.many_layers", archived)]
    pub(crate) struct Many(pub(crate) Vec<Three>);

    #[derive(Component, Clone, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
    #[component(name = "a.boxed", archived)]
    pub(crate) struct Boxed(pub(crate) Option<Box<[u8; 3 << 20]>>);
}

macro_rules! lists {
    ($($name:ident = $stable:literal, $bytes:literal;)*) => {$(
        /// A value of this type on the stack for every level: the most that a level can need.
        #[derive(Component, Clone, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
        #[component(name = $stable, archived)]
        #[rkyv(serialize_bounds(__S: rkyv::ser::Writer, __S::Error: rkyv::rancor::Source))]
        #[rkyv(deserialize_bounds(__D::Error: rkyv::rancor::Source))]
        #[rkyv(bytecheck(bounds(__C: rkyv::validation::ArchiveContext, __C::Error: rkyv::rancor::Source)))]
        #[allow(clippy::large_enum_variant, reason = "to be large on the stack")]
        enum $name {
            End,
            More([u8; $bytes], #[rkyv(omit_bounds)] Box<$name>),
        }

        impl $name {
            fn of(depth: usize) -> Self {
                (0..depth).fold($name::End, |next, _| $name::More([3; $bytes], Box::new(next)))
            }
        }
    )*};
}

lists! {
    Wide = "a.wide", 1016;
    TooWide = "a.too_wide", 1017;
}

macro_rules! choice {
    ($($variant:ident)*) => {
        /// A level of it has the same number of bytes, but many variants.
        #[derive(Component, Clone, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
        #[component(name = "a.choice", archived)]
        #[rkyv(serialize_bounds(__S: rkyv::ser::Writer, __S::Error: rkyv::rancor::Source))]
        #[rkyv(deserialize_bounds(__D::Error: rkyv::rancor::Source))]
        #[rkyv(bytecheck(bounds(__C: rkyv::validation::ArchiveContext, __C::Error: rkyv::rancor::Source)))]
        #[allow(dead_code, reason = "one is enough")]
        enum Choice {
            End,
            $($variant([u8; 56], #[rkyv(omit_bounds)] Box<Choice>),)*
        }
    };
}

choice! { A B C D E F G H I J K L M N O P }

/// As threads are that nobody gives a size.
fn on_a_usual_stack<T: Send>(run: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        std::thread::Builder::new().stack_size(2 << 20).spawn_scoped(scope, run).unwrap().join().unwrap()
    })
}

#[test]
fn what_reading_would_hold_on_a_stack_is_bounded_and_what_is_within_the_bound_is_read() {
    let refused = |result: Result<((), Vec<u8>), Error>| match result.map(drop).unwrap_err() {
        Error::Limit { what, max: 131_072, found, .. } if what.contains("one within another") => {
            assert!(found > 131_072);
        }
        e => panic!("{e}"),
    };
    refused(commit(&mut World::new(), |tx| drop(tx.spawn_batch([layers::Many(vec![])]))));
    refused(commit(&mut World::new(), |tx| drop(tx.spawn_batch([layers::Boxed(None)]))));
    refused(commit(&mut World::new(), |tx| drop(tx.spawn_batch([TooWide::of(1)]))));

    // As deep as is allowed.
    let deep = on_a_usual_stack(|| commit(&mut World::new(), |tx| tx.spawn(Wide::of(128))).unwrap());
    let choice = on_a_usual_stack(|| {
        let value = (0..128).fold(Choice::End, |next, _| Choice::K([3; 56], Box::new(next)));
        commit(&mut World::new(), |tx| tx.spawn(value)).unwrap()
    });
    let layers = on_a_usual_stack(|| {
        let layer = layers::Two(layers::One([7; 40 << 10]));
        commit(&mut World::new(), |tx| tx.spawn(layers::Few(vec![layer]))).unwrap()
    });
    on_a_usual_stack(|| {
        let mut world = replayed(&deep.1);
        world.register_linked().unwrap();
        assert!(matches!(world.view().get::<Wide>(deep.0).unwrap(), Wide::More(bytes, _) if bytes[9] == 3));
        let mut world = replayed(&choice.1);
        world.register_linked().unwrap();
        assert!(
            matches!(world.view().get::<Choice>(choice.0).unwrap(), Choice::K(bytes, _) if bytes[9] == 3)
        );
        let mut world = replayed(&layers.1);
        world.register_linked().unwrap();
        assert_eq!(world.view().get::<layers::Few>(layers.0).unwrap().0[0].0.0[9], 7);
    });
    let e = commit(&mut World::new(), |tx| drop(tx.spawn_batch([Wide::of(129)]))).unwrap_err();
    assert!(e.to_string().contains("more than 128 levels"), "{e}");
}

/// A description of one's own, of as many types as wanted.
#[derive(Clone, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct Parts<const N: usize>(u8);

impl<const N: usize> Describe for Parts<N> {
    fn shape(types: &mut ecsdb_core::describe::Types) -> ecsdb_core::describe::Shape {
        let name = |i: usize| format!("part {i} {}", "x".repeat(300));
        let field = |i| types.opaque_field::<u8>(&name(i), 0, ("part", 1), (1, 1));
        ecsdb_core::describe::Shape::Struct((0..N).map(field).collect())
    }
    fn layout(_: ecsdb_core::__private::Stored) -> (usize, usize) {
        (1, 1)
    }
    fn visit(&self, _: &mut ecsdb_core::describe::Visitor) -> Result<(), ecsdb_core::describe::TooDeep> {
        Ok(())
    }
}

#[test]
fn a_description_that_would_not_be_read_is_not_written() {
    #[derive(Component, Clone, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
    #[component(name = "a.many_parts", archived)]
    struct ManyParts(Parts<4096>);
    #[derive(Component, Clone, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
    #[component(name = "a.long_parts", archived)]
    struct LongParts(Parts<4000>);
    #[derive(Component, Clone, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
    #[component(name = "a.some_parts", archived)]
    struct SomeParts(Parts<3000>);

    let refused = |result: Result<_, Error>| match result.map(drop).unwrap_err() {
        Error::Limit { what, max, .. } => (what, max),
        e => panic!("{e}"),
    };
    let many = World::new().register::<ManyParts>();
    assert_eq!(refused(many), ("types in its description", 4096));
    let long = World::new().register::<LongParts>();
    assert_eq!(refused(long), ("bytes of its description", 1 << 20));
    let (id, bytes) = commit(&mut World::new(), |tx| tx.spawn(SomeParts(Parts(5)))).unwrap();
    let mut world = replayed(&bytes);
    world.register_linked().unwrap();
    assert_eq!(world.view().get::<SomeParts>(id).unwrap().0.0, 5);
    // Its text, and that of a difference, ends all the same.
    assert!(SomeParts::description().to_string().len() < 10_000);
    let _ = (ManyParts(Parts(0)), LongParts(Parts(0)));
}

mod claims {
    use ecsdb_core::Component;

    macro_rules! claim {
        ($($module:ident: $stable:literal, $ty:ty;)*) => {$(
            pub(crate) mod $module {
                use super::Component;
                #[derive(Component, Clone, Copy, Debug, PartialEq)]
                #[component(name = $stable, plain)]
                #[repr(C)]
                pub(crate) struct Health(pub(crate) $ty);
            }
        )*};
    }
    claim! {
        integer: "a.health", u32;
        float: "a.health", f32;
        first: "a.shared", u32;
        second: "a.shared", u32;
        left: "a.lost", i16;
        right: "a.lost", i8;
        gone: "a.lost_before", u64;
    }
}

#[test]
fn of_two_types_with_one_name_that_is_registered_which_the_values_are_of() {
    for (float, bytes) in [
        (false, commit(&mut World::new(), |tx| tx.spawn(claims::integer::Health(7))).unwrap().1),
        (true, commit(&mut World::new(), |tx| tx.spawn(claims::float::Health(7.0))).unwrap().1),
    ] {
        let mut world = replayed(&bytes);
        world.register_linked().unwrap();
        let view = world.view();
        let integers = view.query::<&claims::integer::Health>().map(|q| q.count());
        let floats = view.query::<&claims::float::Health>().map(|q| q.count());
        let (own, other) = if float { (floats, integers) } else { (integers, floats) };
        assert_eq!(own.unwrap(), 1);
        assert!(matches!(other, Err(Error::NameTaken { .. })), "{other:?}");
    }
}

#[test]
fn where_two_types_fit_one_name_neither_gets_it_until_one_is_used() {
    use claims::{first, second};
    let (id, bytes) = commit(&mut World::new(), |tx| tx.spawn(first::Health(7))).unwrap();
    for second_wins in [false, true] {
        let mut world = replayed(&bytes);
        world.register_linked().unwrap();
        let named = |e: Error| match e {
            Error::NameTaken { name, first, second } => {
                assert_eq!(name, "a.shared");
                assert!(first != second && [first, second].iter().all(|ty| ty.ends_with("::Health")));
            }
            e => panic!("{e}"),
        };
        named(world.view().get::<first::Health>(id).map(drop).unwrap_err());
        named(world.view().get::<second::Health>(id).map(drop).unwrap_err());
        let winner = if second_wins {
            commit(&mut world, |tx| tx.get_mut::<second::Health>(id).map(|health| health.0 += 1)).unwrap().0
        } else {
            commit(&mut world, |tx| tx.get_mut::<first::Health>(id).map(|health| health.0 += 1)).unwrap().0
        };
        winner.unwrap();
        let view = world.view();
        let (a, b) = (
            view.get::<first::Health>(id).map(|health| health.0),
            view.get::<second::Health>(id).map(|health| health.0),
        );
        let (own, other) = if second_wins { (b, a) } else { (a, b) };
        assert_eq!(own.unwrap(), 8);
        named(other.map(drop).unwrap_err());
    }
}

#[test]
fn a_type_that_the_values_are_not_of_is_told_how_it_differs_though_others_have_its_name() {
    let (_, mut bytes) = commit(&mut World::new(), |tx| tx.spawn(claims::gone::Health(7))).unwrap();
    // The program that wrote it called it by the name that two types of this one have.
    let at = bytes.windows(13).position(|name| name == b"a.lost_before").unwrap();
    bytes[at - 1] = 6;
    bytes.drain(at + 6..at + 13);
    let mut world = replayed(&bytes);
    world.register_linked().unwrap();
    let e = world.view().query::<&claims::left::Health>().map(drop).unwrap_err();
    assert!(
        matches!(&e, Error::SchemaMismatch { difference, .. }
        if difference.contains("u64 in the database, i16 in the program")),
        "{e}"
    );
    let _ = claims::right::Health(0);
}

type Twelve = (u8, u16, u32, u64, i8, i16, i32, i64, f32, f64, bool, char);

archived! {
    Wealth = "a.wealth": Twelve;
    Numbers = "a.numbers": (NonZeroU8, NonZeroI64, Option<NonZeroU128>);
    Owner = "a.owner": Entity;
}

#[derive(Component, Clone, Copy, Debug, PartialEq)]
#[component(name = "a.plain_numbers", plain)]
#[repr(C)]
struct PlainNumbers {
    wide: NonZeroU128,
    signed: NonZeroI64,
    small: [NonZeroU8; 8],
}

proptest! {
    #[test]
    fn long_tuples_and_numbers_that_are_not_zero_come_back(
        small: NonZeroU8, signed: NonZeroI64, wide: NonZeroU128, letter: char, some: bool,
    ) {
        let numbers = Numbers { part: (small, signed, some.then_some(wide)) };
        let twelve = Wealth { part: (1, 2, 3, 4, -1, -2, -3, -4, 0.5, 0.25, some, letter) };
        let plain = PlainNumbers { wide, signed, small: [small; 8] };
        let bundle = (numbers.clone(), twelve.clone(), plain);
        let (id, bytes) = commit(&mut World::new(), |tx| tx.spawn(bundle)).unwrap();
        let mut world = replayed(&bytes);
        world.register_linked().unwrap();
        let view = world.view();
        prop_assert_eq!(view.get::<Numbers>(id).unwrap(), &numbers);
        prop_assert_eq!(view.get::<Wealth>(id).unwrap(), &twelve);
        prop_assert_eq!(view.get::<PlainNumbers>(id).unwrap(), &plain);
    }

    /// Whatever bits an archive has where an id stands, what is read is an id.
    #[test]
    fn archived_bits_that_are_no_id_are_refused(index in 0u32..3, generation in 0u32..3) {
        let (id, bytes) = commit(&mut World::new(), |tx| {
            let owner = tx.spawn(());
            tx.spawn(Owner { part: owner })
        }).unwrap();
        let mut spoiled = bytes.clone();
        let at = bytes.len() - 8;
        spoiled[at..].copy_from_slice(&(u64::from(generation) << 32 | u64::from(index)).to_le_bytes());
        let mut world = World::new();
        world.register::<Owner>().unwrap();
        match world.apply(Lsn(1), &spoiled) {
            Ok(_) => {
                let view = world.view();
                let owner = view.get::<Owner>(id).unwrap().part;
                prop_assert!(generation > 0);
                prop_assert_eq!((owner.index(), owner.generation()), (index, generation));
            }
            Err(e) => prop_assert!(generation == 0 && matches!(e, Error::Codec { .. }), "{}", e),
        }
    }
}

#[test]
fn a_type_with_parameters_describes_what_it_is_of() {
    #[derive(Describe, Clone, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
    struct Pair<T> {
        a: T,
        b: Vec<T>,
    }
    let (numbers, texts) = (Description::archive::<Pair<u32>>(), Description::archive::<Pair<String>>());
    assert_eq!(numbers.to_string(), "{ a: u32, b: Vec<u32> }");
    assert_eq!(numbers.difference(&texts).unwrap(), "`a`: u32 in the database, String in the program");
    let _ = Pair { a: 1, b: vec![2] };
}
