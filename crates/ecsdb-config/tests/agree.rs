//! What the schema takes is what the program takes: of values at random.

#![allow(
    clippy::disallowed_methods,
    clippy::result_large_err,
    clippy::unwrap_used,
    reason = "a test, and figment's signatures"
)]

use ecsdb_config::{Error, PersistenceConfig, Setting, Unit, schema, settings};
use figment::Jail;
use regex::Regex;
use serde_json::{Value as Json, json};

/// What of JSON Schema is used.
fn schema_takes(schema: &Json, value: &Json) -> bool {
    let is_whole = value.as_f64().is_some_and(|n| n.fract() == 0.0);
    let is = |kind: &str| match kind {
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => is_whole,
        "number" => value.is_number(),
        other => panic!("{other}"),
    };
    let types = match &schema["type"] {
        Json::Array(types) => types.clone(),
        one => vec![one.clone()],
    };
    let within = |limit: &str, holds: fn(f64, f64) -> bool| match (value.as_f64(), schema[limit].as_f64()) {
        (Some(n), Some(limit)) => holds(n, limit),
        _ => true,
    };
    let text = |holds: &dyn Fn(&str) -> bool| value.as_str().is_none_or(holds);
    types.iter().any(|kind| is(kind.as_str().unwrap()))
        && schema["enum"].as_array().is_none_or(|words| words.contains(value))
        && within("minimum", |n, limit| n >= limit)
        && within("maximum", |n, limit| n <= limit)
        && text(&|text| schema["minLength"].as_u64().is_none_or(|least| text.len() as u64 >= least))
        && text(&|text| {
            schema["pattern"].as_str().is_none_or(|pattern| Regex::new(pattern).unwrap().is_match(text))
        })
}

/// Whether a file takes it; `false` for what it says is wrong with this setting.
fn program_takes(jail: &mut Jail, setting: &Setting, value: &Json) -> bool {
    jail.create_file("c.toml", &format!("{} = {value}\n", setting.key)).unwrap();
    match PersistenceConfig::from_file("c.toml") {
        Ok(_) => true,
        // A rule that binds several: the value itself is one.
        Err(Error::Invalid(problems)) => problems.iter().all(|problem| {
            ["must be at least", "a directory of its own"].iter().any(|rule| problem.text.contains(rule))
        }),
        Err(other) => panic!("{other}"),
    }
}

fn text(random: &mut fastrand::Rng) -> String {
    const PARTS: [&str; 35] = [
        "0", "1", "7", "64", "5000", ".", ".5", "0.25", " ", "  ", "-", "e3", "B", "b", "k", "K", "Ki",
        "MiB", "MIB", "mb", "T", "i", "ns", "us", "µs", "ms", "s", "sec", "m", "M", "month", "days",
        "strict", "\n", "\0",
    ];
    (0..random.usize(0..5)).map(|_| PARTS[random.usize(0..PARTS.len())]).collect()
}

fn value(random: &mut fastrand::Rng) -> Json {
    let numbers = [-1.0, 0.0, 0.5, 1.0, 1.5, 22.0, 23.0, 1024.0, 1025.0, 65536.0, 1e6, 1e12, 1.2e18];
    let n = numbers[random.usize(0..numbers.len())];
    match random.u8(0..8) {
        0 => json!(random.bool()),
        1 => json!(n),
        2 if random.u8(..8) == 0 => json!((1_u64 << 60) + random.u64(0..2) * 256),
        2 => json!(n as i64),
        _ => json!(text(random)),
    }
}

#[test]
fn the_schema_and_the_program_take_the_same() {
    let cases: u32 = std::env::var("ECSDB_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(3_000);
    let schema: Json = serde_json::from_str(&schema()).unwrap();
    let mut random = fastrand::Rng::with_seed(7);
    let (mut taken, mut refused) = (0, 0);
    Jail::expect_with(|jail| {
        jail.clear_env();
        for _ in 0..cases {
            let setting = &settings()[random.usize(0..settings().len())];
            let value = value(&mut random);
            let of_schema = match setting.key.split_once('.') {
                Some((section, name)) => &schema["properties"][section]["properties"][name],
                None => &schema["properties"][&setting.key],
            };
            let (by_schema, by_program) =
                (schema_takes(of_schema, &value), program_takes(jail, setting, &value));
            // The limits of what is written as text are more than a pattern can say: there they stand as texts.
            let unlimited = match setting.unit {
                Unit::Size | Unit::Rate => "retention.bytes_max",
                Unit::Time => "retention.age_max",
                _ => &setting.key,
            };
            let unlimited = settings().iter().find(|it| it.key == unlimited).unwrap();
            let is_limited = value.is_string() && by_schema && !by_program && unlimited.key != setting.key;
            let same = by_schema == by_program || (is_limited && program_takes(jail, unlimited, &value));
            assert!(same, "{} = {value}: schema {by_schema}, program {by_program}", setting.key);
            *if by_program { &mut taken } else { &mut refused } += 1;
        }
        Ok(())
    });
    assert!(taken > cases / 20 && refused > cases / 20, "{taken} {refused}");
}
