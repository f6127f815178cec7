//! Any arguments: an answer or a typed error, and never a panic.

use proptest::prelude::*;
use serde_json::{Map, Value as Json};
use tauri::ipc::InvokeBody;
use tauri::test::get_ipc_response;
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

#[test]
fn whatever_a_page_sends_is_answered_or_refused_with_its_kind() {
    let dir = tempfile::tempdir().unwrap();
    let app = app(Builder::new().data_dir(dir.path())).unwrap();
    let page = window(&app, "manager");
    let config = ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(command in proptest::sample::select(COMMANDS), body in body())| {
        if let Err(error) = get_ipc_response(&page, request(command, body)) {
            prop_assert!(error["kind"].is_string() && error["message"].is_string(), "{} {}", command, error);
            prop_assert_ne!(&error["kind"], "bug");
        }
    });
}
