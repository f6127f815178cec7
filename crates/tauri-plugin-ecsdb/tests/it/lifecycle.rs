//! The end of the application, and of its pages.

use std::sync::mpsc;
use std::time::Duration;

use ecsdb::Database;
use serde_json::{Value as Json, json};
use tauri::Manager;
use tauri_plugin_ecsdb::{Builder, EcsdbExt};
use tauri_plugin_ecsdb_tests::{app, call, channel, request, window};

#[test]
fn everything_is_closed_when_the_application_ends() {
    let dir = tempfile::tempdir().unwrap();
    let app = app(Builder::new().data_dir(dir.path())).unwrap();
    let page = window(&app, "manager");
    let world = app.ecsdb().world().unwrap().clone();
    call(&page, "store_set", json!({ "store": "s", "key": "k", "value": 1 })).unwrap();
    // The last window goes, and the application with it. Not before it runs, since the mock runtime does not end of that.
    let mut page = Some(page);
    app.run(move |_, event| {
        if let (tauri::RunEvent::Ready, Some(page)) = (event, page.take()) {
            page.destroy().unwrap();
        }
    });
    assert_eq!(world.write(|_| Ok(())).unwrap_err().kind(), ecsdb::ErrorKind::Closed);
    // Whoever comes next gets both, though this process still has handles.
    let again = tauri_plugin_ecsdb_tests::app(Builder::new().data_dir(dir.path())).unwrap();
    let value = call(&window(&again, "manager"), "store_get", json!({ "store": "s", "key": "k" })).unwrap();
    assert_eq!(value["value"], 1);
}

#[test]
fn a_restart_finds_the_directories_released() {
    let dir = tempfile::tempdir().unwrap();
    let app = app(Builder::new().data_dir(dir.path())).unwrap();
    assert!(Database::open(dir.path().join("world")).is_err());
    // All that Tauri does on the main thread before the new process starts.
    app.cleanup_before_exit();
    Database::open(dir.path().join("world")).unwrap();
}

#[test]
fn a_page_that_closes_every_resource_closes_no_database() {
    let dir = tempfile::tempdir().unwrap();
    let app = app(Builder::new().data_dir(dir.path())).unwrap();
    for resource in 0..100 {
        // As `plugin:resources|close` does.
        let _closed = app.resources_table().close(resource);
    }
    std::thread::sleep(Duration::from_millis(100));
    app.ecsdb().world().unwrap().write(|tx| Ok(tx.spawn(()))).unwrap();
    app.cleanup_before_exit();
    assert!(Database::open(dir.path().join("world")).is_ok(), "it is there again for the end");
}

#[test]
fn calls_after_the_end_say_so() {
    let dir = tempfile::tempdir().unwrap();
    let app = app(Builder::new().data_dir(dir.path())).unwrap();
    let page = window(&app, "manager");
    app.ecsdb().close();
    app.ecsdb().close();
    for (command, arguments) in [
        ("create_snapshot", json!({})),
        ("compact", json!({})),
        ("verify", json!({})),
        ("list_snapshots", json!({})),
        ("reconfigure", json!({ "settings": {} })),
        ("store_set", json!({ "store": "s", "key": "k", "value": 1 })),
        ("store_load", json!({ "store": "s" })),
    ] {
        let refused = call(&page, command, arguments).unwrap_err();
        assert_eq!(refused["kind"], "closed", "{command} {refused}");
    }
}

/// A page that is reloaded or closed in the middle of calls: each of its transactions is there whole or not at all, and here, since nobody
/// withdraws them, each is there.
#[test]
fn a_page_that_goes_away_leaves_no_half_transaction() {
    const CALLS: usize = 40;
    let dir = tempfile::tempdir().unwrap();
    let app = app(Builder::new().data_dir(dir.path())).unwrap();
    let stays = window(&app, "manager");
    let defaults: serde_json::Map<String, Json> =
        (0..50).map(|i| (format!("key{i:02}"), json!(-1))).collect();
    call(&stays, "store_load", json!({ "store": "s", "options": { "defaults": defaults } })).unwrap();
    let (tell, told) = mpsc::channel();
    for round in 0..CALLS {
        let page = window(&app, &format!("settings{round}"));
        let tell = tell.clone();
        let command = if round % 2 == 0 { "store_clear" } else { "store_reset" };
        page.as_ref().clone().on_message(
            request(command, json!({ "store": "s" })),
            Box::new(move |_, _, response, _, _| {
                tell.send(matches!(response, tauri::ipc::InvokeResponse::Ok(_))).unwrap();
            }),
        );
        page.destroy().unwrap();
        // Whole: all of them or none.
        let count = call(&stays, "store_length", json!({ "store": "s" })).unwrap();
        assert!(count == 0 || count == 50, "{count}");
    }
    drop(tell);
    assert_eq!(told.iter().filter(|ok| *ok).count(), CALLS, "every call came to its end");
}

/// Messages of a page come in their order on the main thread, and so does the news that it is gone. Whoever is to be told from then on has to be there
/// when the first of them has been handled, or nobody ends it.
#[test]
fn whoever_listens_is_there_before_the_page_can_go() {
    let dir = tempfile::tempdir().unwrap();
    let app = app(Builder::new().data_dir(dir.path())).unwrap();
    let page = window(&app, "manager");
    for (command, arguments) in [
        ("store_watch", json!({ "store": "s", "onChange": channel(1) })),
        ("subscribe", json!({ "onEvent": channel(2) })),
    ] {
        let (tell, told) = mpsc::channel();
        page.as_ref().clone().on_message(
            request(command, arguments),
            Box::new(move |_, _, response, _, _| {
                let is_ok = matches!(response, tauri::ipc::InvokeResponse::Ok(_));
                tell.send((is_ok, std::thread::current().id())).unwrap();
            }),
        );
        assert_eq!(told.recv().unwrap(), (true, std::thread::current().id()), "{command}");
    }
}
