//! What is dumped and loaded again is the same, to the last bit.

use ecsdb::prelude::*;

use crate::fixture::{Bag, Clock, Fixture, Health, Name, bag};

#[test]
fn what_is_dumped_and_loaded_is_the_same_and_opens_with_the_same_types() {
    let fixture = Fixture::new();
    fixture.ok(&["dump", "world", "--output", "world.jsonl"]);
    let loaded = fixture.json(&["load", "loaded", "world.jsonl"]);
    assert_eq!((&loaded["as_dumped"], &loaded["entities"]), (&true.into(), &4.into()));
    assert_eq!(fixture.json(&["hash", "loaded"])["digest"], fixture.json(&["hash", "world"])["digest"]);
    assert!(fixture.ok(&["diff", "world", "loaded"]).contains("the same"));
    assert_eq!(fixture.ok(&["verify", "loaded"]).lines().last(), Some("everything verifies"));

    let (world, loaded) =
        (Database::open(fixture.path("world")).unwrap(), Database::open(fixture.path("loaded")).unwrap());
    assert_eq!(world.view().unwrap().digest().unwrap(), loaded.view().unwrap().digest().unwrap());
    let view = loaded.view().unwrap();
    let ship: Entity = "0v1".parse().unwrap();
    assert_eq!(view.get::<Name>(ship).unwrap().0, "ship");
    assert_eq!(view.get::<Health>(ship).unwrap(), &Health { now: 7, max: 100 });
    assert_eq!(view.resource::<Clock>().unwrap(), &Clock(u64::MAX));
    let found = view.get::<Bag>("1v2".parse().unwrap()).unwrap();
    let expected = bag(ship);
    let bits = |floats: &[f64]| floats.iter().map(|float| float.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&found.floats), bits(&expected.floats));
    let bits = |floats: &[f32]| floats.iter().map(|float| float.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&found.narrow), bits(&expected.narrow));
    assert_eq!((&found.items, &found.odds, &found.data), (&expected.items, &expected.odds, &expected.data));
    assert_eq!(
        (found.numbers, &found.orders, found.maybe),
        (expected.numbers, &expected.orders, expected.maybe)
    );
    // Ids go on in both as they would have.
    let next = |db: &Database| db.write(|tx| Ok((tx.spawn(()), tx.spawn(())))).unwrap();
    assert_eq!(next(&world), next(&loaded));
}

#[cfg(target_os = "linux")]
#[test]
fn a_dump_has_its_name_for_good_when_it_is_done() {
    let fixture = Fixture::new();
    std::fs::create_dir(fixture.path("to")).unwrap();
    let Some(calls) = crate::export::calls(&fixture, &["dump", "world", "--output", "to/dumped"]) else {
        return;
    };
    let named = calls.iter().position(|line| line.contains("to/dumped")).unwrap();
    let is_synced = |line: &String| line.contains("fsync") && line.contains("/to>");
    assert!(calls[named..].iter().any(is_synced), "{}", calls.join("\n"));
}

#[test]
fn only_what_has_no_order_needs_its_bytes_beside_its_value() {
    let fixture = Fixture::new();
    let dump = fixture.ok(&["dump", "world"]);
    let lines: Vec<serde_json::Value> =
        dump.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let entity = |id: &str| lines.iter().find(|line| line["entity"] == id).unwrap();
    assert!(entity("0v1").get("stored").is_none());
    assert_eq!(entity("0v1")["components"]["game.name"], "ship");
    assert!(entity("1v2")["stored"]["game.bag"].is_string(), "since it has a hash map");
    assert_eq!(lines.last().unwrap()["end"]["entities"], 4);
}

#[test]
fn an_edited_dump_is_loaded_and_a_broken_one_refused_with_its_line() {
    let fixture = Fixture::new();
    let dump = fixture.ok(&["dump", "world"]);
    let load = |text: &str, to: &str| {
        std::fs::write(fixture.path("edited.jsonl"), text).unwrap();
        fixture.run(&["load", to, "edited.jsonl", "--json"])
    };
    // One value changed, one entity taken out, one added in a slot of its own.
    let mut lines: Vec<String> = dump.lines().map(|line| line.replace("\"now\":7,", "\"now\":8,")).collect();
    lines.retain(|line| !line.contains("\"entity\":\"3v1\""));
    // Another one in its place, so that the number stays the same.
    let new = r#"{"entity":"9v1","components":{"game.name":"new"}}"#;
    lines.insert(lines.len() - 1, new.to_string());
    let (code, out, error) = load(&lines.join("\n"), "edited");
    assert_eq!(code, 0, "{error}");
    assert_eq!(serde_json::from_str::<serde_json::Value>(&out).unwrap()["as_dumped"], false);
    let db = Database::open(fixture.path("edited")).unwrap();
    let view = db.view().unwrap();
    assert_eq!(view.get::<Health>("0v1".parse().unwrap()).unwrap().now, 8);
    assert_eq!(view.get::<Name>("9v1".parse().unwrap()).unwrap().0, "new");
    assert!(!view.contains("3v1".parse().unwrap()));
    db.write(|tx| Ok(tx.spawn_batch((0..20).map(|i| Name(i.to_string()))).len())).unwrap();

    for (from, to, what) in [
        ("\"now\":7,", "\"now\":\"seven\",", "game.health: now: expected an integer, found \"seven\""),
        ("\"now\":7,", "", "the field `now` is missing"),
        ("\"now\":7,", "\"now\":4294967296,", "it is no integer of its range"),
        ("\"game.name\":\"ship\"", "\"game.nam\":\"ship\"", "did you mean game.name?"),
        ("{\"end\"", "", "line "),
        ("\"entity\":\"0v1\"", "\"entity\":\"4294967295v1\"", "one of index 4294967295 is too far away"),
        ("\"slots\":4", "\"slots\":4294967039", "it has 4294967039 slots, and says of 4 what is in them"),
        ("\"slots\":4", "\"slotz\":4", "line 1: the first line: there is no key slotz: did you mean slots?"),
        ("\"free\":[]", "\"free\":\"x\"", "free is \"x\", but has to be a list"),
        ("\"version\":1", "\"version\":\"abc\"", "version is \"abc\", but has to be a whole number"),
        ("\"components\":{", "\"components_\":{", "there is no key components_: did you mean components?"),
        ("{\"entity\":\"0v1\"", "{\"entitty\":\"0v1\"", "there is no key entitty: did you mean entity?"),
        ("\"entities\":4", "\"entities\":1", "the end of the dump says 1 entity, and it has 4"),
        ("\"entities\":4", "\"entities\":99", "the end of the dump says 99 entities, and it has 4"),
        ("\"slots\":4", "\"slots\":-1", "slots is -1, but has to be a whole number"),
        ("\"free\":[]", "\"free\":[\"9v5\",\"9v5\"]", "line 1: free has 9v5, which is none of 4 slots"),
        (
            "\"slots\":4,\"floor\":0,\"free\":[]",
            "\"slots\":10,\"floor\":0,\"free\":[\"9v5\",\"9v6\"]",
            "line 1: free has the slot of 9v6 twice",
        ),
        ("\"free\":[]", "\"free\":[\"9v5\"]", "line 1: free has 9v5, which is none of 4 slots"),
        ("\"lsn\":5", "\"lsn\":18446744073709551615", "which no database comes to"),
        ("\"lsn\":5", "\"lsn\":5.5", "lsn is 5.5"),
        ("\"lsn\":5,", "\"lsn\":5 5,", "line 1: expected `,` or `}` at character "),
    ] {
        let (code, _, error) = load(&dump.replacen(from, to, 1), "refused");
        assert!(code == 2 && error.contains(&what.replace('"', "\\\"")), "{from} -> {to}: {code} {error}");
        assert!(!fixture.path("refused").exists());
    }
    let (code, _, error) = load(&dump.replacen("{\"ecsdb_dump\":1,", "{\"ecsdb_dump\":2,", 1), "refused");
    assert!(code == 7 && error.contains("line 1: it is a dump of format 2"), "{error}");
    let cut: Vec<&str> = dump.lines().collect();
    let (code, _, error) = load(&cut[..cut.len() - 1].join("\n"), "refused");
    assert!(code == 2 && error.contains("its last line is missing"), "{error}");
    let (code, out, _) = fixture.run(&["load", "dry", "edited.jsonl", "--dry-run"]);
    assert!(code == 2 && out.is_empty() && !fixture.path("dry").exists());
}

#[test]
fn a_dump_goes_through_a_pipe_and_of_an_earlier_moment() {
    let fixture = Fixture::new();
    let dump = fixture.ok(&["dump", "world", "--lsn", "2"]);
    let mut load =
        fixture.command(&["load", "loaded", "-"]).stdin(std::process::Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut load.stdin.take().unwrap(), dump.as_bytes()).unwrap();
    assert!(load.wait().unwrap().success());
    let diff = fixture.ok(&["diff", "world@2", "loaded"]);
    assert!(diff.contains("the same"), "{diff}");
}

#[test]
fn an_empty_database_and_a_large_one_are_loaded() {
    let fixture = Fixture { dir: tempfile::tempdir().unwrap() };
    fixture.ok(&["init", "empty"]);
    fixture.ok(&["dump", "empty", "--output", "empty.jsonl"]);
    fixture.ok(&["load", "again", "empty.jsonl"]);
    assert_eq!(fixture.json(&["hash", "again"])["digest"], fixture.json(&["hash", "empty"])["digest"]);
    let db = Database::open(fixture.path("large")).unwrap();
    // More than a chunk of each of two archetypes, in slots that were used before.
    db.write(|tx| {
        let all = tx.spawn_batch((0..9000u32).map(|i| Health { now: i, max: i }));
        for entity in all.iter().step_by(2) {
            tx.insert(*entity, Name(entity.to_string()))?;
        }
        for entity in all.iter().step_by(3) {
            tx.despawn(*entity)?;
        }
        Ok(tx.spawn_batch((0..500u32).map(|i| Health { now: i, max: 0 })).len())
    })
    .unwrap();
    db.close().unwrap();
    fixture.ok(&["dump", "large", "--output", "large.jsonl"]);
    assert_eq!(fixture.json(&["load", "copy", "large.jsonl"])["as_dumped"], true);
    let (large, copy) =
        (Database::open(fixture.path("large")).unwrap(), Database::open(fixture.path("copy")).unwrap());
    let next = |db: &Database| {
        db.write(|tx| Ok(tx.spawn_batch((0..3000u32).map(|i| Health { now: i, max: 1 })))).unwrap()
    };
    assert_eq!(next(&large), next(&copy));
    assert_eq!(large.view().unwrap().digest().unwrap(), copy.view().unwrap().digest().unwrap());
}

#[derive(Component, Clone, Debug, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
#[component(name = "game.nested", archived)]
#[rkyv(serialize_bounds(__S: rkyv::ser::Writer + rkyv::ser::Allocator, __S::Error: rkyv::rancor::Source))]
#[rkyv(deserialize_bounds(__D::Error: rkyv::rancor::Source))]
#[rkyv(bytecheck(bounds(__C: rkyv::validation::ArchiveContext, __C::Error: rkyv::rancor::Source)))]
enum Nested {
    Leaf,
    Node {
        name: u8,
        #[rkyv(omit_bounds)]
        within: Box<Nested>,
    },
}

#[test]
fn values_of_any_depth_that_is_stored_are_loaded_again() {
    let fixture = Fixture { dir: tempfile::tempdir().unwrap() };
    let db = Database::create_new(fixture.path("deep")).unwrap();
    let mut stored = 0;
    for depth in [1, 40, 41, 42, 47, 48, 60, 100, 126, 127, 128, 129, 200] {
        let value = (0..depth)
            .fold(Nested::Leaf, |within, name| Nested::Node { name: name as u8, within: Box::new(within) });
        stored += usize::from(db.write(|tx| Ok(tx.spawn(value))).is_ok());
    }
    assert!((9..13).contains(&stored), "{stored}");
    db.close().unwrap();
    fixture.ok(&["dump", "deep", "--output", "deep.jsonl"]);
    assert!(!fixture.ok(&["dump", "deep"]).contains("\"stored\":"));
    assert_eq!(fixture.json(&["load", "again", "deep.jsonl"])["as_dumped"], true);
    assert!(fixture.ok(&["diff", "deep", "again"]).contains("the same"));
    fixture.ok(&["inspect", "again", "0v1", "--json"]);
    fixture.ok(&["query", "again", "--where", "game.nested = Node"]);
    let dump = fixture.ok(&["dump", "deep"]);
    let first = dump.lines().next().unwrap();
    for bad in ["[".repeat(1_000_000), "{\"a\":".repeat(1_000_000)] {
        let dump = format!("{first}\n{{\"a\":{bad}");
        std::fs::write(fixture.path("bad"), dump).unwrap();
        let (code, _, error) = fixture.run(&["load", "new", "bad"]);
        assert!(code == 2 && error.contains("line 2: at character ") && error.contains("deep"), "{error}");
    }
}

/// Each value is held against its own component, not the sum of a column.
#[test]
fn bytes_of_another_length_are_refused_with_their_line() {
    let fixture = Fixture::new();
    let dump = fixture.ok(&["dump", "world"]);
    let mut random = fastrand::Rng::with_seed(1);
    for _ in 0..12 {
        let cut = random.usize(0..8);
        let of = |line: &str, bytes: usize| {
            let mut line: serde_json::Value = serde_json::from_str(line).unwrap();
            line["stored"]["game.health"] = "07".repeat(bytes).into();
            line.to_string()
        };
        let mut first = None;
        let mut lines = Vec::new();
        for (i, line) in dump.lines().enumerate() {
            let bytes = match (line.contains("\"entity\":\"2v1\""), line.contains("\"entity\":\"3v1\"")) {
                (true, _) => cut,
                (_, true) => 16 - cut,
                _ => {
                    lines.push(line.to_string());
                    continue;
                }
            };
            first.get_or_insert(i + 1);
            lines.push(of(line, bytes));
        }
        std::fs::write(fixture.path("edited"), lines.join("\n")).unwrap();
        let (code, _, error) = fixture.run(&["load", "new", "edited"]);
        let line = format!("line {}: ", first.unwrap());
        assert!(code == 2 && error.contains(&line) && error.contains("game.health"), "{cut}: {code} {error}");
        assert!(!fixture.path("new").exists());
    }
}

#[test]
fn init_and_load_judge_a_place_alike() {
    let fixture = Fixture { dir: tempfile::tempdir().unwrap() };
    fixture.ok(&["init", "empty"]);
    fixture.ok(&["dump", "empty", "--output", "dump"]);
    std::fs::create_dir(fixture.path("used")).unwrap();
    std::fs::write(fixture.path("used/mine"), "").unwrap();
    for (i, command) in [&["init", "new"][..], &["load", "new", "dump"]].into_iter().enumerate() {
        std::fs::create_dir(fixture.path("new")).unwrap();
        std::fs::write(fixture.path("new/ecsdb.toml"), "").unwrap();
        let mut elsewhere = fixture.command(command);
        let refused = elsewhere.env("ECDB_SNAPSHOT_DIR", fixture.path("used")).output().unwrap();
        assert_eq!(refused.status.code(), Some(6), "{command:?} {refused:?}");
        fixture.ok(command);
        assert_eq!(fixture.run(command).0, 6);
        std::fs::rename(fixture.path("new"), fixture.path(&format!("made-{i}"))).unwrap();
    }
}
