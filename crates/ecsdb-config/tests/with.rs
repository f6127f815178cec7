//! Settings that a program is given as values: what is taken, and what a wrong one is told.

#![allow(clippy::unwrap_used, reason = "a test")]

use ecsdb_config::{ByteSize, Error, Origin, PersistenceConfig, Unit, settings};
use serde_json::{Value as Json, json};

fn one(key: &str, value: Json) -> Json {
    match key.split_once('.') {
        Some((section, name)) => json!({ section: { name: value } }),
        None => json!({ key: value }),
    }
}

/// The keys and the text of what is refused.
fn refused(said: &Json) -> (Vec<String>, String) {
    let error = PersistenceConfig::new("w").with(said).unwrap_err();
    let text = error.to_string();
    let Error::Invalid(problems) = error else { panic!("{text}") };
    assert!(problems.iter().all(|problem| problem.origin == Origin::Given));
    (problems.into_iter().map(|problem| problem.key).collect(), text)
}

/// Those that may be left open, by which it is as it was.
const OPTIONAL: [&str; 4] = ["wal.dir", "snapshot.dir", "archive.dir", "archive.enabled"];

/// `null` leaves open what was said; and no other setting, of which nobody knows what it would be then.
#[test]
fn what_was_said_is_taken_back() {
    let config = PersistenceConfig::new("w");
    for key in OPTIONAL {
        let value = if key == "archive.enabled" { json!(false) } else { json!("elsewhere") };
        let said = config.with(one(key, value)).unwrap();
        assert_ne!(said, config, "{key}");
        assert_eq!(said.with(one(key, json!(null))).unwrap(), config, "{key}");
        assert_eq!(config.with(one(key, json!(null))).unwrap(), config, "{key}");
        // Beside others, one of which is wrong.
        let mut beside = one("wal", json!({ "segment_bytes_max": "1 KiB" }));
        let (section, name) = key.split_once('.').unwrap();
        beside[section][name] = json!(null);
        assert_eq!(refused(&beside).0, ["wal.segment_bytes_max"], "{key}");
    }
}

/// Of two settings that do not go together the one that was given is wrong, whatever was said of the other one before.
#[test]
fn what_is_given_is_wrong_rather_than_what_was_there() {
    let mut config = PersistenceConfig::new("w");
    config.wal.segment_bytes_first = ByteSize(1 << 20);
    config.wal.dir = Some("one".into());
    config.snapshot.dir = Some("two".into());
    config.archive.dir = Some("three".into());
    for (key, value, other) in [
        ("wal.segment_bytes_first", "1 GiB", "wal.segment_bytes_max"),
        ("wal.segment_bytes_max", "64 KiB", "wal.segment_bytes_first"),
        ("wal.dir", "two", "snapshot.dir"),
        ("wal.dir", "three", "archive.dir"),
        ("wal.dir", "w", "dir"),
        ("snapshot.dir", "one", "wal.dir"),
        ("archive.dir", "two", "snapshot.dir"),
        ("dir", "two", "snapshot.dir"),
    ] {
        let text = config.with(one(key, json!(value))).unwrap_err().to_string();
        let is_blamed = text.lines().count() == 1 && text.starts_with(&format!("{key} is {value}, "));
        assert!(is_blamed && text.contains(&format!(" {other},")), "{key} beside {other}: {text}");
    }
}

#[test]
fn every_setting_takes_what_it_may_be_and_names_itself_otherwise() {
    let config = PersistenceConfig::new("w");
    for setting in settings() {
        let key = &*setting.key;
        let example: toml_edit::Value = setting.example.parse().unwrap();
        let example = match &example {
            toml_edit::Value::String(text) => json!(text.value()),
            toml_edit::Value::Integer(n) => json!(n.value()),
            toml_edit::Value::Float(n) => json!(n.value()),
            toml_edit::Value::Boolean(flag) => json!(flag.value()),
            other => panic!("{other}"),
        };
        let with = config.with(one(key, example.clone())).unwrap_or_else(|e| panic!("{key} {example}: {e}"));
        drop(with);
        let is_optional = OPTIONAL.contains(&key);
        for wrong in [
            if is_optional { json!([null]) } else { json!(null) },
            json!([]),
            json!([1]),
            json!({}),
            json!({ "a": 1 }),
            json!(-1),
            json!("\0"),
            json!(-0.5),
            json!(true),
        ] {
            if wrong == json!(true) && setting.unit == Unit::Flag {
                continue;
            }
            let (keys, text) = refused(&one(key, wrong.clone()));
            assert_eq!(keys, [key], "{wrong}: {text}");
            assert!(text.contains(key) && text.contains(", but has to be "), "{wrong}: {text}");
        }
    }
}

#[test]
fn everything_that_is_wrong_is_told_at_once() {
    let (keys, text) = refused(&json!({
        "wal": { "flush_interval": 5, "no_such": 1, "a.b": 1 },
        "snapshots": { "interval": "1h" },
        "retention": 5,
        "snapshot": { "interval": "1h" },
        "": 1,
    }));
    let wanted = ["", "retention", "snapshots.interval", "wal.a.b", "wal.flush_interval", "wal.no_such"];
    assert_eq!(keys, wanted, "{text}");
    for (said, expected) in
        [(json!(5), "sections with settings"), (json!(null), "sections"), (json!([[]]), "sections")]
    {
        let (_, text) = refused(&said);
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn rules_of_several_settings_hold_of_what_is_said_and_what_is_there_together() {
    let (_, text) = refused(&json!({ "wal": { "segment_bytes_max": "64 KiB" } }));
    assert!(
        text.contains("wal.segment_bytes_max is 64 KiB, but must be at least wal.segment_bytes_first"),
        "{text}"
    );
    let (keys, _) = refused(&json!({ "retention": { "unlimited": true, "snapshots_max": 3 } }));
    assert_eq!(keys, ["retention.unlimited"]);
    // No rule goes by what is wrong.
    let (keys, _) = refused(&json!({ "wal": { "segment_bytes_max": "64 KiB", "segment_bytes_first": [] } }));
    assert_eq!(keys, ["wal.segment_bytes_first"]);
}

#[test]
fn what_is_not_said_stays() {
    let mut config = PersistenceConfig::new("w");
    config.snapshot.after_transactions = 77;
    config.archive.dir = Some("elsewhere".into());
    let with = config.with(json!({ "wal": { "flush_interval": "20ms" }, "snapshot": {} })).unwrap();
    assert_eq!(with.wal.flush_interval.as_millis(), 20);
    config.wal.flush_interval = with.wal.flush_interval;
    assert_eq!(with, config);
    let with = config.with(json!({ "archive": { "dir": "other" } })).unwrap();
    assert_eq!(with.archive.dir.as_deref(), Some("other".as_ref()));
}

#[cfg(unix)]
#[test]
fn directories_that_are_no_unicode_stay() {
    use std::os::unix::ffi::OsStringExt;
    let mut config = PersistenceConfig::new(std::ffi::OsString::from_vec(b"w\xff".to_vec()));
    config.snapshot.dir = Some(std::ffi::OsString::from_vec(b"s\xfe".to_vec()).into());
    assert_eq!(config.with(json!({})).unwrap(), config);
}

/// However long a name is, saying that there is none of it takes no longer than reading it.
#[test]
fn a_long_name_is_refused_at_once() {
    let long = "ü".repeat(1 << 20);
    for said in [
        json!({ &long: 1 }),
        json!({ "wal": { &long: 1 } }),
        json!({ &long: { "interval": 1 } }),
        json!({ &long: { &long: {} } }),
    ] {
        let (keys, text) = refused(&said);
        assert!(keys.len() == 1 && text.contains("is no setting"), "{}", keys.len());
    }
}

/// What is wrong with a section is told of each of its settings, with its name: not with one of any length.
#[test]
fn what_is_wrong_is_told_in_proportion_to_what_was_said() {
    let config = PersistenceConfig::new("w");
    for (name, keys) in [("x".repeat(10_000), 1_000), (".x".repeat(5_000), 1_000), ("wal".into(), 10_000)] {
        let section: serde_json::Map<String, Json> = (0..keys).map(|i| (format!("{i}"), json!(1))).collect();
        let told = config.with(json!({ name: section })).unwrap_err().to_string();
        assert!(told.len() < 600 * keys, "{} bytes", told.len());
    }
}
