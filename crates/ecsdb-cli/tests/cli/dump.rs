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
        ("\"slots\":4", "\"slots\":-1", "slots is -1, but has to be a whole number"),
        ("\"free\":[]", "\"free\":[\"9v5\",\"9v5\"]", "a slot is listed as free twice"),
        ("\"free\":[]", "\"free\":[\"9v5\"]", "the number of entity slots does not fit"),
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
