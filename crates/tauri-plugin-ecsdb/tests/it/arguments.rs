//! Any arguments: an answer or a typed error, and never a panic.

use std::sync::mpsc;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Map, Value as Json, json};
use tauri::WebviewWindow;
use tauri::ipc::{InvokeBody, InvokeResponse};
use tauri::test::MockRuntime;
use tauri_plugin_ecsdb::Builder;
use tauri_plugin_ecsdb_tests::{app, request, window};

const COMMANDS: &[&str] = &include!("../../commands.in");

const NAMES: [&str; 19] = [
    "store",
    "key",
    "value",
    "options",
    "defaults",
    "createNew",
    "overrideDefaults",
    "onProgress",
    "onEvent",
    "onChange",
    "number",
    "id",
    "settings",
    "with",
    "without",
    "where",
    "select",
    "limit",
    "nothing",
];

const TEXTS: [&str; 16] = [
    "",
    "a",
    "s.json",
    "../s.json",
    "__CHANNEL__:1",
    "__CHANNEL__:",
    "__CHANNEL__:99999999999",
    "tauri.store",
    "x = 1",
    "x.y <",
    "'",
    " and ",
    "\0",
    "ü = \"ß",
    "=",
    "wal",
];

fn json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        prop_oneof![Just(0u64), Just(1), Just(u64::MAX), 0u64..100].prop_map(Json::from),
        prop_oneof![Just(-1.0f64), Just(1e308), Just(0.5)].prop_map(Json::from),
        proptest::sample::select(&TEXTS[..]).prop_map(Json::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(Json::from),
            proptest::collection::vec((proptest::sample::select(&NAMES[..]), inner), 0..4).prop_map(object),
        ]
    })
}

fn object(fields: Vec<(&'static str, Json)>) -> Json {
    Json::Object(fields.into_iter().map(|(name, value)| (name.to_string(), value)).collect::<Map<_, _>>())
}

fn fields() -> impl Strategy<Value = Json> {
    proptest::collection::vec((proptest::sample::select(&NAMES[..]), json()), 0..4).prop_map(object)
}

fn body() -> impl Strategy<Value = InvokeBody> {
    // Most have what is asked for, so that what comes after the reading is reached, too.
    let near = (fields(), proptest::sample::select(&TEXTS[1..3])).prop_map(|(mut fields, store)| {
        fields.as_object_mut().unwrap().insert("store".into(), store.into());
        fields
    });
    prop_oneof![
        4 => near.prop_map(InvokeBody::Json),
        3 => fields().prop_map(InvokeBody::Json),
        2 => json().prop_map(InvokeBody::Json),
        1 => proptest::collection::vec(any::<u8>(), 0..8).prop_map(InvokeBody::Raw),
    ]
}

/// The error of a call, if it is one; and never a wait without end.
fn error(page: &WebviewWindow<MockRuntime>, command: &str, body: impl Into<InvokeBody>) -> Option<Json> {
    let (tell, told) = mpsc::channel();
    page.as_ref()
        .clone()
        .on_message(request(command, body), Box::new(move |_, _, response, _, _| drop(tell.send(response))));
    match told.recv_timeout(Duration::from_secs(60)).expect("an answer, or else it hangs or has panicked") {
        InvokeResponse::Ok(_) => None,
        InvokeResponse::Err(error) => Some(error.0),
    }
}

fn config() -> ProptestConfig {
    ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() }
}

#[test]
fn whatever_a_page_sends_is_answered_or_refused_with_its_kind() {
    let dir = tempfile::tempdir().unwrap();
    let app = app(Builder::new().data_dir(dir.path())).unwrap();
    let page = window(&app, "manager");
    proptest!(config(), |(command in proptest::sample::select(COMMANDS), body in body())| {
        if let Some(error) = error(&page, command, body) {
            prop_assert!(error["kind"].is_string() && error["message"].is_string(), "{} {}", command, error);
            prop_assert_ne!(&error["kind"], "bug");
        }
    });
}

/// What an argument may be.
#[derive(Clone, Copy)]
enum Kind {
    Name,
    Text,
    Any,
    Options,
    Number,
    Channel,
    Components,
    Conditions,
    Settings,
}

use Kind::*;

type Arguments = &'static [(&'static str, Kind)];

/// The arguments of a command that it needs, and those that it does not.
fn arguments(command: &str) -> (Arguments, Arguments) {
    match command {
        "create_snapshot" | "compact" | "verify" => (&[], &[("onProgress", Channel)]),
        "list_snapshots" | "stats" => (&[], &[]),
        "restore_snapshot" => (&[], &[("number", Number), ("onProgress", Channel)]),
        "query" => (
            &[],
            &[
                ("with", Components),
                ("without", Components),
                ("where", Conditions),
                ("select", Components),
                ("limit", Number),
            ],
        ),
        "reconfigure" => (&[("settings", Settings)], &[]),
        "subscribe" => (&[("onEvent", Channel)], &[]),
        "unsubscribe" | "store_unwatch" => (&[("id", Number)], &[]),
        "store_load" => (&[("store", Name)], &[("options", Options)]),
        "store_get" | "store_has" | "store_delete" => (&[("store", Name), ("key", Text)], &[]),
        "store_set" => (&[("store", Name), ("key", Text), ("value", Any)], &[]),
        "store_watch" => (&[("store", Name), ("onChange", Channel)], &[]),
        _ => (&[("store", Name)], &[]),
    }
}

fn right(kind: Kind) -> Json {
    match kind {
        Name => json!("s.json"),
        Text | Any => json!("k"),
        Options | Settings => json!({}),
        Number => json!(1),
        Channel => json!("__CHANNEL__:1"),
        Components | Conditions => json!([]),
    }
}

fn wrong(kind: Kind) -> Vec<Json> {
    let others = || vec![json!(5), json!(true), json!("x"), json!(["x"]), json!([["x"]])];
    let texts = |texts: &[&str]| texts.iter().map(|text| json!(text)).collect::<Vec<_>>();
    let lists = |texts: &[&str]| texts.iter().map(|text| json!([text])).collect::<Vec<_>>();
    let no_text = vec![json!(null), json!(5), json!([]), json!({ "k": "k" })];
    match kind {
        Name => {
            [no_text, texts(&["", "..", "../s.json", "/etc/passwd", "a\\b", "C:a", "a\0b", "\n"])].concat()
        }
        Text => no_text,
        Any => vec![],
        Options => vec![
            json!(5),
            json!("x"),
            json!(null),
            json!({ "defaults": 5 }),
            json!({ "createNew": null }),
            json!({ "overrideDefaults": "yes" }),
            json!({ "nothing": 1 }),
        ],
        Number => vec![
            json!(null),
            json!(-1),
            json!(0.5),
            json!(1e300),
            json!("1"),
            json!([1]),
            json!({}),
            json!(true),
        ],
        Channel => {
            let ends = ["", "x", "__CHANNEL__", "__CHANNEL__:", "__CHANNEL__:-1", "__CHANNEL__:99999999999"];
            [texts(&ends), vec![json!(null), json!(5), json!([]), json!({})]].concat()
        }
        Components => {
            [vec![json!(5), json!("x"), json!([5]), json!({})], lists(&["", "no.such", "x.", "\0"])].concat()
        }
        Conditions => [
            vec![json!(5), json!("x"), json!([5]), json!({})],
            lists(&["", "no.such = 1", "x <", "and", "'"]),
        ]
        .concat(),
        Settings => {
            let values = [json!(null), json!(-1), json!([]), json!({}), json!("\0"), json!(0.3)];
            let values = values.into_iter().map(|value| json!({ "wal": { "flush_interval": value } }));
            let dirs = [json!({ "dir": "/tmp" }), json!({ "archive": { "dir": "/tmp" } })];
            let names =
                [json!({ "no_such": {} }), json!({ "wal": { "no_such": 1 } }), json!({ "wal.dir": "x" })];
            [others(), values.collect(), dirs.into(), names.into()].concat()
        }
    }
}

/// One thing is wrong with a call that is right otherwise; the name that the error has to have.
fn one_wrong() -> impl Strategy<Value = (&'static str, Json, String)> {
    (proptest::sample::select(COMMANDS), any::<proptest::sample::Index>()).prop_map(|(command, what)| {
        let (needed, others) = arguments(command);
        let mut all: Map<String, Json> =
            needed.iter().chain(others).map(|(name, kind)| (name.to_string(), right(*kind))).collect();
        let mut ways: Vec<(String, Option<Json>)> = vec![("nothing".into(), Some(json!(1)))];
        ways.extend(needed.iter().map(|(name, _)| (name.to_string(), None)));
        for (name, kind) in needed.iter().chain(others) {
            ways.extend(wrong(*kind).into_iter().map(|value| (name.to_string(), Some(value))));
        }
        let (name, value) = what.get(&ways).clone();
        match value {
            Some(value) => drop(all.insert(name.clone(), value)),
            None => drop(all.remove(&name)),
        }
        (command, Json::Object(all), name)
    })
}

#[test]
fn an_error_is_not_as_long_as_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let app = app(Builder::new().data_dir(dir.path())).unwrap();
    let page = window(&app, "manager");
    let long = "ü".repeat(1 << 20);
    for (command, arguments) in [
        ("store_get", json!({ "store": long, "key": "k" })),
        ("stats", json!({ &long: 1 })),
        ("query", json!({ "where": [long] })),
        ("query", json!({ "select": [long] })),
        ("reconfigure", json!({ "settings": { &long: { &long: long } } })),
        ("reconfigure", json!({ "settings": { "wal": { "flush_interval": long } } })),
    ] {
        let error = error(&page, command, arguments).unwrap();
        assert!(error["message"].as_str().unwrap().len() < 20_000, "{command}");
    }
}

#[test]
fn an_error_names_the_argument_that_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let app = app(Builder::new().data_dir(dir.path())).unwrap();
    let page = window(&app, "manager");
    error(&page, "create_snapshot", json!({}));
    for command in COMMANDS {
        let (needed, others) = arguments(command);
        let all = needed.iter().chain(others).map(|(name, kind)| (name.to_string(), right(*kind)));
        // Not that it is wrong by itself: only there is nothing of the name to act upon.
        let answer = error(&page, command, Json::Object(all.collect()));
        assert!(
            answer.as_ref().is_none_or(|e| e["kind"] == "call" && *command == "store_reset"),
            "{command} {answer:?}"
        );
    }
    proptest!(config(), |((command, all, name) in one_wrong())| {
        let error = error(&page, command, all.clone());
        let Some(error) = error else { return Err(TestCaseError::fail(format!("{command} {all} is answered"))) };
        let message = error["message"].as_str().unwrap_or_default();
        // A setting is named as it is written in a file.
        let setting = || all["settings"].as_object().and_then(|sections| {
            let (section, settings) = sections.iter().next()?;
            Some(settings.as_object().and_then(|all| all.keys().next()).map_or(section.clone(), |name| format!("{section}.{name}")))
        });
        let name = if error["kind"] == "config" { setting().unwrap_or_default() } else { name };
        prop_assert!(message.contains(&name), "{} {} lacks {}: {}", command, all, name, error);
        prop_assert!(error["kind"] == "call" || error["kind"] == "config", "{} {}: {}", command, all, error);
    });
}
