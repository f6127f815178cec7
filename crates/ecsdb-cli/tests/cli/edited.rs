//! Dumps that somebody edited, or that were spoilt on the way: nothing of them is dropped in silence, and every error is short and has its line.

use std::collections::BTreeSet;

use ecsdb::prelude::*;
use serde_json::{Value as Json, json};

use crate::fixture::{Fixture, Health, Position};

struct Dump {
    fixture: Fixture,
    text: String,
}

impl Dump {
    fn new() -> Dump {
        let fixture = Fixture::new();
        let text = fixture.ok(&["dump", "world"]);
        Dump { fixture, text }
    }

    fn load(&self, text: &str) -> (i32, String, String) {
        std::fs::write(self.fixture.path("edited"), text).unwrap();
        self.fixture.run(&["load", "new", "edited", "--dry-run"])
    }

    /// The number and the text of the first line with this in it.
    fn line(&self, has: &str) -> (usize, &str) {
        let mut lines = self.text.lines().enumerate();
        lines.find(|(_, line)| line.contains(has)).map(|(i, line)| (i + 1, line)).unwrap()
    }

    fn refused(&self, text: &str, line: usize, what: &str) {
        let (code, out, error) = self.load(text);
        let place = format!("line {line}: ");
        assert!(code == 2 && error.contains(&place) && error.contains(what), "{what}: {code} {out}{error}");
        assert!(error.len() < 1024, "{} bytes", error.len());
    }
}

#[test]
fn a_key_that_stands_twice_is_refused_wherever_it_is() {
    let dump = Dump::new();
    let health = "\"game.health\":{\"now\":7,\"max\":100}";
    for (line, from, to, key) in [
        ("\"0v1\"", health, format!("{health},\"game.health\":{{\"now\":8,\"max\":100}}"), "game.health"),
        ("\"0v1\"", "\"now\":7", "\"now\":7,\"now\":8".into(), "now"),
        ("\"0v1\"", "{\"entity\":\"0v1\"", "{\"entity\":\"0v1\",\"entity\":\"0v1\"".into(), "entity"),
        ("\"0v1\"", "{\"entity\":\"0v1\"", "{\"components\":{},\"entity\":\"0v1\"".into(), "components"),
        ("\"item 00\"", "\"item 00\":", "\"item 00\":1,\"item\\u002000\":".into(), "item 00"),
        ("\"item 00\"", "\"stored\":{", "\"stored\":{\"game.bag\":\"\",".into(), "game.bag"),
        ("ecsdb_dump", "\"slots\":", "\"slots\":9,\"slots\":".into(), "slots"),
        ("\"game.health\"", "\"kind\":", "\"kind\":\"plain\",\"kind\":".into(), "kind"),
        ("{\"end\"", "{\"end\":", "{\"end\":null,\"end\":".into(), "end"),
        ("{\"end\"", "\"digest\":", "\"digest\":\"\",\"digest\":".into(), "digest"),
    ] {
        let (number, found) = dump.line(line);
        let edited = found.replacen(from, &to, 1);
        assert_ne!(edited, found, "{from}");
        dump.refused(&dump.text.replacen(found, &edited, 1), number, &format!("\"{key}\" stands twice"));
    }
}

/// Every key that has to be there is missed, and of every key nothing but its own type is taken.
#[test]
fn what_has_to_be_there_is_missed_and_no_other_type_is_taken_for_it() {
    let dump = Dump::new();
    let mut tried = 0;
    for (has, within, keys) in [
        ("ecsdb_dump", "", &["database", "lsn", "time", "slots", "floor", "free"][..]),
        (
            "{\"component\":\"game.health\"",
            "",
            &["kind", "version", "size", "type", "description", "component"],
        ),
        ("{\"resource\"", "", &["value", "resource"]),
        ("\"0v1\"", "", &["components", "entity"]),
        ("{\"end\"", "", &["end"]),
        ("{\"end\"", "/end", &["entities", "digest"]),
    ] {
        let (number, line) = dump.line(has);
        for key in keys {
            let line_has = line.parse::<Json>().unwrap();
            let was = &line_has.pointer(within).unwrap()[key];
            let others =
                [Json::Null, json!(true), json!(-1), json!(1.5), json!("x"), json!([1]), json!({"a": 1})];
            for other in others.iter().map(Some).chain([None]) {
                // Null is the time that is not known, and what the type is called is for people.
                let is_fine = (*key == "time" && other == Some(&Json::Null))
                    || (*key == "type" && other.is_some_and(Json::is_string));
                // What a line is, is told by its keys.
                if is_fine
                    || (other.is_none() && was.is_string() && line.starts_with(&format!("{{\"{key}\"")))
                {
                    continue;
                }
                let mut edited = line_has.clone();
                let object = edited.pointer_mut(within).unwrap().as_object_mut().unwrap();
                match other {
                    Some(other) => drop(object.insert((*key).into(), other.clone())),
                    None => drop(object.remove(*key)),
                }
                let (code, out, error) = dump.load(&dump.text.replacen(line, &edited.to_string(), 1));
                let what = format!("{key}, {other:?}: {code} {out}{error}");
                assert!(code == 2 && error.contains("line ") && error.len() < 1024, "{what}");
                assert!(
                    error.contains(&format!("line {number}: ")) || *key == "component" || *key == "end",
                    "{what}"
                );
                tried += 1;
            }
        }
    }
    assert!(tried > 120, "{tried}");
}

#[test]
fn numbers_that_leave_no_ids_are_refused_and_of_the_rest_no_more_is_said_than_was_compared() {
    let dump = Dump::new();
    for floor in [u32::MAX, u32::MAX - 1, u32::MAX - 300] {
        let edited = dump.text.replacen("\"floor\":0", &format!("\"floor\":{floor}"), 1);
        assert_ne!(edited, dump.text);
        dump.refused(&edited, 1, "leaves no ids for new entities");
    }
    let said = dump.load(&dump.text).1;
    assert!(said.contains("the values would be as they were dumped"), "{said}");
    // No dump has an entity, or a free slot with an entity in it, that its number of slots has no room for.
    for (from, to) in [("\"slots\":4", "\"slots\":3"), ("\"free\":[]", "\"free\":[\"0v9\"]")] {
        let edited = dump.text.replacen(from, to, 1);
        assert_ne!(edited, dump.text);
        let (code, said, error) = dump.load(&edited);
        assert!(code == 0 && said.contains("not as they were dumped"), "{code} {said}{error}");
    }
}

/// Any value, and any key, of a megabyte, in any place of a line.
#[test]
fn no_error_is_as_long_as_what_is_wrong() {
    let dump = Dump::new();
    let lines: Vec<&str> = dump.text.lines().collect();
    let mut random = fastrand::Rng::with_seed(11);
    let mut refused = 0;
    for _ in 0..60 {
        let at = random.usize(..lines.len());
        let mut line: Json = lines[at].parse().unwrap();
        let bytes = 1 << 20;
        let huge = match random.u8(..5) {
            0 => Json::from("x".repeat(bytes)),
            1 => Json::from("\u{1F980}".repeat(bytes / 4)),
            2 => Json::from(vec![0; bytes / 2]),
            3 => json!({ "k".repeat(bytes): 1 }),
            _ => (0..bytes / 10).map(|i| (i.to_string(), Json::Null)).collect(),
        };
        // Down to some place, and there it is a value or a key.
        let mut place = &mut line;
        loop {
            let within = match &*place {
                Json::Object(object) => object.len(),
                Json::Array(list) => list.len(),
                _ => 0,
            };
            if within == 0 || random.u8(..4) == 0 {
                break;
            }
            let n = random.usize(..within);
            place = match place {
                Json::Object(object) => object.values_mut().nth(n).unwrap(),
                Json::Array(list) => &mut list[n],
                _ => unreachable!("it has none"),
            };
        }
        match (place, random.bool()) {
            (Json::Object(object), true) => {
                let key = huge.as_str().map_or_else(|| "k".repeat(bytes), String::from);
                object.insert(key, json!([]));
            }
            (place, _) => *place = huge,
        }
        let text = line.to_string();
        let edited: Vec<&str> =
            lines.iter().enumerate().map(|(i, line)| if i == at { &text } else { *line }).collect();
        let (code, out, error) = dump.load(&edited.join("\n"));
        assert!(code == 0 || code == 2, "{code} {out} {:.2000}", error);
        assert!(error.len() < 1024, "{} bytes: {error:.2000}", error.len());
        refused += usize::from(code == 2);
    }
    assert!(refused > 40, "{refused}");
}

#[test]
fn lines_that_end_otherwise_or_were_cut_are_told_as_such() {
    let dump = Dump::new();
    assert_eq!(dump.load(&dump.text.replace('\n', "\r\n")).0, 0);
    dump.refused(
        &dump.text.replace('\n', "\r"),
        1,
        "after a carriage return: lines of a dump end with a line feed",
    );
    let (number, line) = dump.line("\"0v1\"");
    for at in [2, 9, 14, line.len() / 2, line.len() - 1] {
        for end in ["\n", "\r\n"] {
            let broken = format!("{}{end}{}", &line[..at], &line[at..]);
            dump.refused(&dump.text.replacen(line, &broken, 1), number, "the line ends in its middle");
        }
    }
}

/// Whatever is taken out of a dump, and however often its slot was used: no id that it had comes to mean another entity.
#[test]
fn the_id_of_an_entity_that_was_taken_out_is_given_to_none_again() {
    let mut random = fastrand::Rng::with_seed(19);
    for case in 0..12 {
        let fixture = Fixture { dir: tempfile::tempdir().unwrap() };
        let db = Database::create_new(fixture.path("world")).unwrap();
        let mut live: Vec<Entity> = Vec::new();
        let mut ever: BTreeSet<Entity> = BTreeSet::new();
        for _ in 0..random.usize(1..5) {
            live.extend(db.write(|tx| Ok(tx.spawn_batch((0..6).map(|now| Health { now, max: 9 })))).unwrap());
            ever.extend(live.iter().copied());
            random.shuffle(&mut live);
            let gone = live.split_off(random.usize(1..live.len()));
            db.write(|tx| Ok(gone.iter().try_for_each(|&entity| tx.despawn(entity))?)).unwrap();
        }
        db.close().unwrap();
        let dump = fixture.ok(&["dump", "world"]);
        random.shuffle(&mut live);
        let (out, kept) = live.split_at(random.usize(..=live.len()));
        let is_out = |line: &str| out.iter().any(|entity| line.contains(&format!("\"entity\":\"{entity}\"")));
        let end = format!("\"entities\":{}", kept.len());
        let text: Vec<String> = dump
            .lines()
            .filter(|line| !is_out(line))
            .map(|line| line.replace(&format!("\"entities\":{}", live.len()), &end))
            .collect();
        std::fs::write(fixture.path("edited"), text.join("\n")).unwrap();
        fixture.ok(&["load", "new", "edited"]);
        // Dumped and loaded again, it is the same.
        std::fs::write(fixture.path("again"), fixture.ok(&["dump", "new"])).unwrap();
        fixture.ok(&["load", "newer", "again"]);
        for name in ["new", "newer"] {
            let db = Database::open(fixture.path(name)).unwrap();
            let new =
                db.write(|tx| Ok(tx.spawn_batch((0..40).map(|_| Position { x: 0.0, y: 0.0 })))).unwrap();
            assert!(new.iter().all(|entity| !ever.contains(entity)), "{case}: {new:?} of {ever:?}");
        }
    }
}

/// A slot of which nothing is said may be any that somebody refers to.
#[test]
fn a_slot_of_which_a_dump_says_nothing_is_given_to_none() {
    let dump = Dump::new();
    let text = dump.text.replacen("\"slots\":4", "\"slots\":7", 1);
    std::fs::write(dump.fixture.path("edited"), &text).unwrap();
    dump.fixture.ok(&["load", "new", "edited"]);
    let db = Database::open(dump.fixture.path("new")).unwrap();
    assert_eq!(db.write(|tx| Ok(tx.spawn(()))).unwrap().to_string(), "7v1");
}

#[test]
fn a_value_beside_stored_bytes_that_are_another_is_refused() {
    let dump = Dump::new();
    let (number, line) = dump.line("\"item 00\"");
    let mut tried = 0;
    for (from, to) in [
        ("\"item 00\":18446744073709551615", "\"item 00\":5"),
        ("\"item 00\":18446744073709551615,", ""),
        ("\"maybe\":{\"some\":null}", "\"maybe\":null"),
        ("\"owner\":\"0v1\"", "\"owner\":\"0v2\""),
        ("\"narrow\":[\"NaN\"", "\"narrow\":[\"NaN:7fc00001\""),
        ("\"odd 3\"", "\"odd three\""),
    ] {
        let edited = line.replacen(from, to, 1);
        assert_ne!(edited, line, "{from}");
        dump.refused(
            &dump.text.replacen(line, &edited, 1),
            number,
            "game.bag: value and stored bytes are not the same",
        );
        tried += 1;
    }
    assert_eq!(tried, 6);
    // The same value, of which only the keys stand in another order.
    let edited = line.replacen("\"item 00\":18446744073709551615,", "", 1);
    let edited = edited.replacen("\"item 01\"", "\"item 00\":18446744073709551615,\"item 01\"", 1);
    assert_eq!(dump.load(&dump.text.replacen(line, &edited, 1)).0, 0);
    // Bytes alone, that are no value: no digest can be made of them.
    let mut edited: Json = line.parse().unwrap();
    edited["components"] = json!({});
    edited["stored"]["game.bag"] = json!("00");
    dump.refused(&dump.text.replacen(line, &edited.to_string(), 1), number, "game.bag: ");
    let (number, line) = dump.line("{\"resource\"");
    let edited = line.replacen("\"value\"", "\"stored\":\"0100000000000000\",\"value\"", 1);
    dump.refused(
        &dump.text.replacen(line, &edited, 1),
        number,
        "game.clock: value and stored bytes are not the same",
    );
}

#[test]
fn numbers_and_ids_have_one_form() {
    let dump = Dump::new();
    for (has, from, to) in [
        ("\"0v1\"", "\"max\":100", "\"max\":\"+100\""),
        ("\"0v1\"", "\"max\":100", "\"max\":\"0100\""),
        ("\"0v1\"", "\"entity\":\"0v1\"", "\"entity\":\"0v01\""),
        ("\"0v1\"", "\"entity\":\"0v1\"", "\"entity\":\"00v1\""),
        ("ecsdb_dump", "\"free\":[]", "\"free\":[\"3v01\"]"),
    ] {
        let (number, line) = dump.line(has);
        let edited = line.replacen(from, to, 1);
        assert_ne!(edited, line, "{from}");
        dump.refused(&dump.text.replacen(line, &edited, 1), number, "");
    }
}
