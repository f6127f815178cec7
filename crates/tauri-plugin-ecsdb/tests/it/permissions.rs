//! What a page may do is what its capabilities say.

use serde_json::{Value as Json, json};
use tauri_plugin_ecsdb_tests::{app, call, channel, window};

/// Every command with arguments that are in order, and the sets that have it.
fn commands() -> Vec<(&'static str, Json, &'static [&'static str])> {
    const READ: &[&str] = &["reader", "manager"];
    const STORE_READ: &[&str] = &["reader", "settings", "manager"];
    const STORE: &[&str] = &["settings", "manager"];
    const MANAGE: &[&str] = &["manager"];
    let store = || json!({ "store": "s.json" });
    let key = || json!({ "store": "s.json", "key": "k" });
    vec![
        ("create_snapshot", json!({}), MANAGE),
        ("list_snapshots", json!({}), READ),
        ("restore_snapshot", json!({}), MANAGE),
        ("compact", json!({}), MANAGE),
        ("verify", json!({}), READ),
        ("stats", json!({}), READ),
        ("query", json!({ "limit": 1 }), READ),
        ("reconfigure", json!({ "settings": {} }), MANAGE),
        ("subscribe", json!({ "onEvent": channel(1) }), READ),
        ("unsubscribe", json!({ "id": 1 }), READ),
        ("store_load", store(), STORE),
        ("store_is_known", store(), STORE_READ),
        ("store_get", key(), STORE_READ),
        ("store_has", key(), STORE_READ),
        ("store_keys", store(), STORE_READ),
        ("store_values", store(), STORE_READ),
        ("store_entries", store(), STORE_READ),
        ("store_length", store(), STORE_READ),
        ("store_set", json!({ "store": "s.json", "key": "k", "value": 1 }), STORE),
        ("store_delete", key(), STORE),
        ("store_clear", store(), STORE),
        ("store_reset", store(), STORE),
        ("store_save", store(), STORE_READ),
        ("store_watch", json!({ "store": "s.json", "onChange": channel(2) }), STORE_READ),
        ("store_unwatch", json!({ "id": 1 }), STORE_READ),
    ]
}

#[test]
fn each_command_is_for_those_who_may() {
    let dir = tempfile::tempdir().unwrap();
    let app = app(tauri_plugin_ecsdb::Builder::new().data_dir(dir.path())).unwrap();
    for label in ["manager", "reader", "settings", "stranger"] {
        let window = window(&app, label);
        for (command, arguments, allowed) in commands() {
            let answer = call(&window, command, arguments);
            if allowed.contains(&label) {
                assert!(answer.is_ok(), "{label} {command}: {answer:?}");
            } else {
                let refused = answer.unwrap_err();
                assert!(
                    refused.as_str().is_some_and(|text| text.contains("not allowed")),
                    "{label} {command}: {refused}"
                );
            }
        }
    }
}

#[test]
fn whoever_may_only_read_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let app = app(tauri_plugin_ecsdb::Builder::new().data_dir(dir.path())).unwrap();
    let (manager, reader) = (window(&app, "manager"), window(&app, "reader"));
    call(&manager, "store_set", json!({ "store": "s.json", "key": "k", "value": 1 })).unwrap();
    call(&manager, "create_snapshot", json!({})).unwrap();
    let state = || {
        let entries = call(&manager, "store_entries", json!({ "store": "s.json" })).unwrap();
        (
            entries,
            call(&manager, "list_snapshots", json!({})).unwrap(),
            call(&manager, "stats", json!({})).unwrap()["lsn"].clone(),
        )
    };
    let before = state();
    for (command, arguments, _) in commands() {
        let _answer = call(&reader, command, arguments);
    }
    assert_eq!(state(), before);
}
