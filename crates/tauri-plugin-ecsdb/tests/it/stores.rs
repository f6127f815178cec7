//! The stores.

use std::collections::BTreeMap;
use std::path::Path;

use ecsdb::ErrorKind;
use serde_json::{Value as Json, json};
use tauri::test::MockRuntime;
use tauri::{App, WebviewWindow};
use tauri_plugin_ecsdb::{Builder, EcsdbExt, Options, StoreName};
use tauri_plugin_ecsdb_tests::{channel, heard, window};

const NAME: &str = "settings.json";

fn app(dir: &Path) -> App<MockRuntime> {
    tauri_plugin_ecsdb_tests::app(Builder::new().data_dir(dir).without_world()).unwrap()
}

fn call(page: &WebviewWindow<MockRuntime>, command: &str, arguments: Json) -> Json {
    let mut all = json!({ "store": NAME });
    all.as_object_mut().unwrap().extend(arguments.as_object().unwrap().clone());
    tauri_plugin_ecsdb_tests::call(page, &format!("store_{command}"), all).unwrap()
}

/// Of which changes the page was told through its channel 1.
fn told_of(page: &WebviewWindow<MockRuntime>) -> Vec<Json> {
    heard(page, 1).iter().map(|text| serde_json::from_str(text.as_str().unwrap()).unwrap()).collect()
}

fn entries(page: &WebviewWindow<MockRuntime>) -> Json {
    call(page, "entries", json!({}))
}

/// A file as the store plugin writes it.
#[expect(clippy::disallowed_methods, reason = "a file of somebody else's")]
fn older_file(dir: &Path, text: &str) {
    std::fs::write(dir.join(NAME), text).unwrap();
}

#[test]
fn every_call_does_what_it_says() {
    let dir = tempfile::tempdir().unwrap();
    let app = app(dir.path());
    let page = window(&app, "settings");
    assert_eq!(call(&page, "is_known", json!({})), false);
    assert_eq!(call(&page, "load", json!({})), json!({ "isNew": true, "imported": null, "refused": null }));
    assert_eq!(call(&page, "is_known", json!({})), true);
    for (key, value) in
        [("b", json!({ "z": 1, "a": [0.1, -0.0, 1e300, "x"] })), ("a", Json::Null), ("", json!(""))]
    {
        assert_eq!(call(&page, "set", json!({ "key": key, "value": value })), Json::Null);
        assert_eq!(call(&page, "get", json!({ "key": key })), json!({ "exists": true, "value": value }));
        assert_eq!(call(&page, "has", json!({ "key": key })), true);
    }
    assert_eq!(call(&page, "get", json!({ "key": "c" })), json!({ "exists": false, "value": null }));
    assert_eq!(call(&page, "keys", json!({})), json!(["", "a", "b"]));
    assert_eq!(call(&page, "length", json!({})), 3);
    // The order of the fields of a value stays, too.
    assert_eq!(
        call(&page, "values", json!({})).to_string(),
        r#"["",null,{"z":1,"a":[0.1,-0.0,1e+300,"x"]}]"#
    );
    assert_eq!(call(&page, "delete", json!({ "key": "b" })), true);
    assert_eq!(call(&page, "delete", json!({ "key": "b" })), false);
    assert_eq!(call(&page, "save", json!({})), Json::Null);
    assert_eq!(entries(&page), json!([["", ""], ["a", null]]));
    call(&page, "clear", json!({}));
    assert_eq!(entries(&page), json!([]));
}

#[test]
fn defaults_are_filled_in_and_gone_back_to() {
    let dir = tempfile::tempdir().unwrap();
    let defaults = json!({ "options": { "defaults": { "theme": "light", "size": 1 } } });
    let first = app(dir.path());
    let page = window(&first, "settings");
    call(&page, "set", json!({ "key": "theme", "value": "dark" }));
    call(&page, "load", defaults.clone());
    assert_eq!(entries(&page), json!([["size", 1], ["theme", "dark"]]));
    call(&page, "set", json!({ "key": "other", "value": true }));
    call(&page, "delete", json!({ "key": "size" }));
    call(&page, "load", defaults.clone());
    assert_eq!(entries(&page), json!([["other", true], ["theme", "dark"]]), "it was loaded before");
    call(&page, "reset", json!({}));
    assert_eq!(entries(&page), json!([["size", 1], ["theme", "light"]]));
    call(&page, "delete", json!({ "key": "size" }));
    first.ecsdb().close();
    // The next process.
    let next = app(dir.path());
    let page = window(&next, "settings");
    assert_eq!(call(&page, "is_known", json!({})), false, "it is to be loaded, with its defaults");
    let reset = json!({ "store": NAME });
    let refused = tauri_plugin_ecsdb_tests::call(&page, "store_reset", reset).unwrap_err();
    assert!(
        refused["kind"] == "call" && refused["message"].as_str().unwrap().contains("is not loaded"),
        "{refused}"
    );
    assert_eq!(entries(&page), json!([["theme", "light"]]), "nobody knows what to go back to");
    let own = json!({ "options": { "defaults": { "size": 9 }, "overrideDefaults": true } });
    assert_eq!(call(&page, "load", own)["isNew"], false);
    assert_eq!(entries(&page), json!([["theme", "light"]]), "what is there is taken without the defaults");
    let new = json!({ "options": { "defaults": { "size": 9 }, "createNew": true } });
    call(&page, "load", new);
    assert_eq!(entries(&page), json!([["size", 9]]));
}

#[test]
fn an_older_file_is_taken_over_once_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let text = r#"{ "theme": "dark", "recent": ["a", "b"], "size": 3 }"#;
    older_file(dir.path(), text);
    let first = app(dir.path());
    let page = window(&first, "settings");
    call(&page, "set", json!({ "key": "size", "value": 4 }));
    let loaded = call(&page, "load", json!({ "options": { "defaults": { "theme": "light", "new": 1 } } }));
    assert_eq!(loaded, json!({ "isNew": true, "imported": 2, "refused": null }));
    let taken = json!([["new", 1], ["recent", ["a", "b"]], ["size", 4], ["theme", "dark"]]);
    assert_eq!(entries(&page), taken);
    call(&page, "delete", json!({ "key": "recent" }));
    first.ecsdb().close();
    let next = app(dir.path());
    let page = window(&next, "settings");
    assert_eq!(call(&page, "load", json!({}))["imported"], Json::Null);
    assert_eq!(call(&page, "keys", json!({})), json!(["new", "size", "theme"]));
    #[expect(clippy::disallowed_methods, reason = "a file of somebody else's")]
    let left = std::fs::read(dir.path().join(NAME)).unwrap();
    assert_eq!(left, text.as_bytes());
}

#[test]
fn what_is_no_such_file_is_said_and_not_taken() {
    for text in ["[1, 2]", "{ \"torn", "", "\0\0\0\0"] {
        let dir = tempfile::tempdir().unwrap();
        older_file(dir.path(), text);
        let app = app(dir.path());
        let page = window(&app, "settings");
        let loaded = call(&page, "load", json!({ "options": { "defaults": { "a": 1 } } }));
        assert!(loaded["refused"].is_string(), "{text:?} {loaded}");
        assert_eq!(entries(&page), json!([["a", 1]]));
    }
}

#[cfg(unix)]
#[test]
fn a_link_leads_nowhere() {
    let (dir, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    older_file(outside.path(), r#"{ "secret": 1 }"#);
    std::os::unix::fs::symlink(outside.path().join(NAME), dir.path().join(NAME)).unwrap();
    let app = app(dir.path());
    let page = window(&app, "settings");
    let loaded = call(&page, "load", json!({}));
    assert!(loaded["refused"].is_string(), "{loaded}");
    assert_eq!(entries(&page), json!([]));
}

#[test]
fn names_are_plain_file_names() {
    let dir = tempfile::tempdir().unwrap();
    let app = app(dir.path());
    let page = window(&app, "settings");
    let long = "n".repeat(256);
    for name in ["", ".", "..", "...", "a/b", "/etc/passwd", "..\\x", "C:x", "a\0b", "a\nb", &long] {
        for command in ["store_load", "store_keys", "store_clear", "store_is_known"] {
            let refused =
                tauri_plugin_ecsdb_tests::call(&page, command, json!({ "store": name })).unwrap_err();
            assert_eq!(refused["kind"], "call", "{name:?} {refused}");
        }
    }
}

#[test]
fn several_windows_write_and_each_is_told_in_order() {
    const WINDOWS: usize = 4;
    const WRITES: usize = 60;
    let dir = tempfile::tempdir().unwrap();
    let first = app(dir.path());
    let pages: Vec<_> = (0..WINDOWS).map(|i| window(&first, &format!("settings{i}"))).collect();
    for page in &pages {
        call(page, "load", json!({}));
        call(page, "watch", json!({ "onChange": channel(1) }));
    }
    std::thread::scope(|scope| {
        for (i, page) in pages.iter().enumerate() {
            scope.spawn(move || {
                for n in 0..WRITES {
                    // One key of its own, one of all.
                    call(page, "set", json!({ "key": format!("own{i}"), "value": n }));
                    match n % 5 {
                        0 => drop(call(page, "delete", json!({ "key": "shared" }))),
                        _ => drop(call(page, "set", json!({ "key": "shared", "value": [i, n] }))),
                    }
                }
            });
        }
    });
    let end = entries(&pages[0]);
    let told = told_of(&pages[0]);
    for page in &pages {
        assert_eq!(told_of(page), told, "all are told the same, in the same order");
    }
    let mut played = BTreeMap::new();
    for change in &told {
        let key = change["key"].as_str().unwrap().to_string();
        match change["exists"].as_bool() {
            Some(true) => drop(played.insert(key, change["value"].clone())),
            _ => drop(played.remove(&key)),
        }
    }
    let played: Json = played.into_iter().map(|(key, value)| json!([key, value])).collect();
    assert_eq!(played, end, "what was told leads to what there is");
    first.ecsdb().close();
    assert_eq!(entries(&window(&app(dir.path()), "settings")), end);
}

#[test]
fn whoever_unwatches_is_told_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let app = app(dir.path());
    let page = window(&app, "settings");
    let id = call(&page, "watch", json!({ "onChange": channel(1) }));
    call(&page, "set", json!({ "key": "a", "value": 1 }));
    assert_eq!(told_of(&page), [json!({ "key": "a", "value": 1, "exists": true })]);
    let unwatch =
        |id: &Json| tauri_plugin_ecsdb_tests::call(&page, "store_unwatch", json!({ "id": id })).unwrap();
    assert_eq!((unwatch(&id), unwatch(&id)), (json!(true), json!(false)));
    call(&page, "clear", json!({}));
    assert_eq!(heard(&page, 1).len(), 1);
}

/// As an object it would be evaluated, and lose the field.
#[test]
fn a_change_is_told_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let app = app(dir.path());
    let page = window(&app, "settings");
    call(&page, "watch", json!({ "onChange": channel(1) }));
    let value = json!({ "__proto__": { "a": -0.0 }, "constructor": [null] });
    call(&page, "set", json!({ "key": "__proto__", "value": value }));
    assert_eq!(told_of(&page), [json!({ "key": "__proto__", "value": value, "exists": true })]);
    assert_eq!(entries(&page), json!([["__proto__", value]]));
}

#[test]
fn what_is_taken_can_be_read() {
    let nested = |depth: usize| {
        (0..depth).fold(json!(1), |inner, i| if i % 2 == 0 { json!([inner]) } else { json!({ "a": inner }) })
    };
    let dir = tempfile::tempdir().unwrap();
    let app = app(dir.path());
    let (stores, name) = (app.ecsdb().stores(), StoreName::new(NAME).unwrap());
    for depth in [0, 1, 126, 127] {
        stores.set(&name, "deep", nested(depth)).unwrap();
        assert_eq!(stores.get(&name, "deep").unwrap(), Some(nested(depth)));
    }
    for depth in [128, 129, 1000] {
        let refused = stores.set(&name, "deep", nested(depth)).unwrap_err();
        assert!(refused.kind == ErrorKind::Call && refused.message.contains("\"deep\""), "{refused}");
        let defaults = json!({ "deep": nested(depth) }).as_object().cloned();
        let mut options = Options::default();
        options.defaults = defaults;
        assert_eq!(
            stores.load(&StoreName::new("other").unwrap(), options).unwrap_err().kind,
            ErrorKind::Call
        );
    }
    assert_eq!(stores.get(&name, "deep").unwrap(), Some(nested(127)));
}

/// Whatever lies at the name of an older store's file: an answer at once, and the store can be used.
#[cfg(unix)]
#[test]
fn what_is_no_file_is_not_waited_for() {
    for what in ["a pipe", "a directory", "a socket", "a link to a device", "a link to itself"] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(NAME);
        match what {
            "a pipe" => rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RWXU).unwrap(),
            "a directory" => std::fs::create_dir(&path).unwrap(),
            "a socket" => drop(std::os::unix::net::UnixListener::bind(&path).unwrap()),
            "a link to a device" => std::os::unix::fs::symlink("/dev/zero", &path).unwrap(),
            _ => std::os::unix::fs::symlink(NAME, &path).unwrap(),
        }
        let app = app(dir.path());
        let page = window(&app, "settings");
        let loaded = call(&page, "load", json!({ "options": { "defaults": { "a": 1 } } }));
        let why = loaded["refused"].as_str();
        assert!(why.is_some_and(|why| why.contains(NAME)), "{what}: {loaded}");
        assert_eq!(entries(&page), json!([["a", 1]]), "{what}");
    }
}
