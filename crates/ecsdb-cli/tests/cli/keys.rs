//! Keys of trees in dumps that somebody edited: a program that reads them makes its own tree of them, and would drop what stands twice.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use ecsdb::prelude::*;

use crate::fixture::Fixture;

/// A key whose order is its own affair.
#[derive(Describe, Clone, Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct Falling(u32);

#[derive(Describe, Clone, Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct Named {
    by: u32,
}

macro_rules! falls {
    ($($ty:ty: $field:tt),*) => {$(
        impl Ord for $ty {
            fn cmp(&self, other: &Self) -> Ordering {
                u32::from(other.$field).cmp(&u32::from(self.$field))
            }
        }
        impl PartialOrd for $ty {
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }
        impl PartialEq for $ty {
            fn eq(&self, other: &Self) -> bool {
                self.$field == other.$field
            }
        }
        impl Eq for $ty {}
    )*};
}

falls!(Falling: 0, ArchivedFalling: 0, Named: by, ArchivedNamed: by);

#[derive(Component, Clone, Debug, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
#[component(name = "game.trees", archived)]
struct Trees {
    names: BTreeMap<String, u64>,
    numbers: BTreeMap<u32, String>,
    set: BTreeSet<i32>,
    places: BTreeSet<(u8, i8)>,
    own: BTreeSet<Named>,
}

#[derive(Component, Clone, Debug, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
#[component(name = "game.falling", archived)]
struct Fall(BTreeSet<Falling>);

fn trees() -> Trees {
    Trees {
        names: [("a", 1), ("b", 2)].map(|(name, n)| (name.to_string(), n)).into(),
        numbers: [(1, "x"), (20, "y")].map(|(n, text)| (n, text.to_string())).into(),
        set: [-3, 1, 3].into(),
        places: [(1, -1), (1, 1), (2, 0)].into(),
        own: [1, 2, 3].map(|by| Named { by }).into(),
    }
}

fn dumped(trees: Trees) -> (Fixture, String) {
    let fixture = Fixture { dir: tempfile::tempdir().unwrap() };
    let db = Database::create_new(fixture.path("world")).unwrap();
    db.write(|tx| Ok(tx.spawn((trees, Fall([1, 2].map(Falling).into()))))).unwrap();
    db.close().unwrap();
    let dump = fixture.ok(&["dump", "world"]);
    (fixture, dump)
}

#[test]
fn keys_of_an_edited_dump_are_put_in_order() {
    let (fixture, dump) = dumped(trees());
    for (from, to) in [
        (r#"{"a":1,"b":2}"#, r#"{"b":2,"a":1}"#),
        (r#"[[1,"x"],[20,"y"]]"#, r#"[[20,"y"],[1,"x"]]"#),
        ("[-3,1,3]", "[3,-3,1]"),
        ("[[1,-1],[1,1],[2,0]]", "[[2,0],[1,1],[1,-1]]"),
    ] {
        let edited = dump.replacen(from, to, 1);
        assert_ne!(edited, dump, "{from}");
        std::fs::write(fixture.path("edited"), edited).unwrap();
        assert_eq!(fixture.json(&["load", "new", "edited"])["as_dumped"], true, "{to}");
        assert!(fixture.ok(&["diff", "world", "new"]).contains("the same"), "{to}");
        std::fs::remove_dir_all(fixture.path("new")).unwrap();
    }
}

#[test]
fn a_key_that_stands_twice_is_refused_in_every_tree() {
    let (fixture, dump) = dumped(trees());
    for (from, to, key, at) in [
        (r#"[20,"y"]]"#, r#"[1,"y"]]"#, "1", "numbers"),
        ("[-3,1,3]", "[3,1,3]", "3", "set"),
        ("[[1,-1],[1,1],[2,0]]", "[[1,1],[2,0],[1,1]]", "[1,1]", "places"),
        (r#"[{"by":3},{"by":2},{"by":1}]"#, r#"[{"by":3},{"by":2},{"by":3}]"#, r#"{"by":3}"#, "own"),
    ] {
        let edited = dump.replacen(from, to, 1);
        assert_ne!(edited, dump, "{from}");
        std::fs::write(fixture.path("edited"), edited).unwrap();
        let (code, out, error) = fixture.run(&["load", "new", "edited"]);
        let told = format!("game.trees: {at}: {key} stands twice");
        assert!(code == 2 && error.contains(&told) && error.contains("line "), "{to}: {code} {out}{error}");
        assert!(!fixture.path("new").exists());
    }
}

/// An order that nobody but the type knows is that of the dump.
#[test]
fn what_is_in_an_order_of_its_own_is_loaded_as_it_was() {
    let (fixture, dump) = dumped(trees());
    assert!(dump.contains(r#"[{"by":3},{"by":2},{"by":1}]"#), "{dump}");
    // The order of a struct without names is taken for that of a tuple: its bytes say that it is another.
    assert!(dump.contains(r#""stored":{"game.falling":"#), "{dump}");
    std::fs::write(fixture.path("same"), &dump).unwrap();
    assert_eq!(fixture.json(&["load", "new", "same"])["as_dumped"], true);
    let db = Database::open(fixture.path("new")).unwrap();
    let entity = "0v1".parse().unwrap();
    let world = db.view().unwrap();
    assert_eq!(*world.get::<Trees>(entity).unwrap(), trees());
    assert_eq!(*world.get::<Fall>(entity).unwrap(), Fall([2, 1].map(Falling).into()));
}
