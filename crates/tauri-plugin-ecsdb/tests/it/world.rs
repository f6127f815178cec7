//! The commands of the world.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use ecsdb::prelude::*;
use serde_json::{Value as Json, json};
use tauri_plugin_ecsdb::{Builder, EcsdbExt};
use tauri_plugin_ecsdb_tests::{app, call, channel, heard, window};

#[derive(Component, Clone, Copy)]
#[component(name = "tests.score", plain)]
#[repr(C)]
struct Score {
    points: u64,
    owner: u64,
}

/// Waits until the channel was told of something that `wanted` holds for.
fn wait(
    window: &tauri::WebviewWindow<tauri::test::MockRuntime>,
    number: u32,
    wanted: impl Fn(&Json) -> bool,
) {
    let until = Instant::now() + Duration::from_secs(20);
    while !heard(window, number).iter().any(&wanted) {
        assert!(Instant::now() < until, "{:?}", heard(window, number));
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_snapshot_is_taken_listed_and_gone_back_to() {
    let dir = tempfile::tempdir().unwrap();
    let app = app(Builder::new().data_dir(dir.path())).unwrap();
    let page = window(&app, "manager");
    let db = app.ecsdb().world().unwrap().clone();
    let none = call(&page, "restore_snapshot", json!({})).unwrap_err();
    assert_eq!(none["kind"], "not-found");
    db.write(|tx| Ok(tx.spawn(Score { points: 1, owner: 0 }))).unwrap();
    let taken = call(&page, "create_snapshot", json!({ "onProgress": channel(5) })).unwrap();
    assert_eq!(taken["lsn"], 1);
    assert!(!heard(&page, 5).is_empty(), "the end of the work is told, however short it was");
    let listed = call(&page, "list_snapshots", json!({})).unwrap();
    assert_eq!(listed.as_array().unwrap().last().unwrap()["number"], taken["number"]);
    db.write(|tx| Ok(tx.spawn(Score { points: 2, owner: 0 }))).unwrap();
    let restored = call(&page, "restore_snapshot", json!({})).unwrap();
    assert_eq!((restored["number"].clone(), restored["lsn"].clone()), (taken["number"].clone(), json!(3)));
    assert_eq!(db.view().unwrap().len(), 1);
    let gone = call(&page, "restore_snapshot", json!({ "number": 99 })).unwrap_err();
    assert_eq!(gone["kind"], "not-found", "{gone}");
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a manifest goes")]
fn it_is_compacted_checked_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let app = app(Builder::new().data_dir(dir.path())).unwrap();
    let page = window(&app, "manager");
    let db = app.ecsdb().world().unwrap().clone();
    for points in 0..10 {
        db.write(|tx| Ok(tx.spawn(Score { points, owner: 0 }))).unwrap();
    }
    let compacted = call(&page, "compact", json!({})).unwrap();
    assert_eq!(compacted["lsn"], 10);
    for owner in 1..=2 {
        db.rotate_log().unwrap();
        db.write(|tx| Ok(tx.spawn(Score { points: 0, owner }))).unwrap();
    }
    let verified = call(&page, "verify", json!({ "onProgress": channel(9) })).unwrap();
    let keys: Vec<_> = verified.as_object().unwrap().keys().collect();
    // As on the command line, but for what that asks beside it.
    let wanted = ["snapshots", "segments", "bytes", "lastLsn", "tornTail", "away", "faults"];
    let wanted: BTreeSet<_> =
        wanted.into_iter().chain(["lacksManifest", "leftAlone", "unreachable"]).collect();
    assert_eq!(keys.into_iter().map(String::as_str).collect::<BTreeSet<_>>(), wanted);
    assert_eq!((&verified["faults"], &verified["lastLsn"]), (&json!([]), &json!(12)));
    assert_eq!((&verified["lacksManifest"], &verified["unreachable"]), (&json!(false), &json!([])));
    let told = heard(&page, 9);
    let (begin, end) = (&told[0], told.last().unwrap());
    assert_eq!(begin["done"], 0, "{told:?}");
    assert!(end["total"].as_u64() > Some(0) && end["done"] == end["total"], "{told:?}");
    // Of the log, too, before the end: all of it but the segment that comes last.
    let snapshots = db.stats().unwrap().store.unwrap().snapshot_bytes;
    let before = told.iter().filter(|told| told["done"] != told["total"]);
    assert!(before.filter_map(|told| told["done"].as_u64()).any(|done| done > snapshots), "{told:?}");
    let names = std::fs::read_dir(db.config().unwrap().dir).unwrap().map(|entry| entry.unwrap().path());
    let older = names.filter(|path| path.extension().is_some_and(|of| of == "manifest")).min();
    std::fs::remove_file(older.unwrap()).unwrap();
    assert_eq!(call(&page, "verify", json!({})).unwrap()["lacksManifest"], true);
    let stats = call(&page, "stats", json!({})).unwrap();
    assert_eq!((stats["entities"].clone(), stats["durableLsn"].clone()), (json!(12), json!(12)));
}

#[test]
fn questions_are_answered_from_one_moment() {
    let dir = tempfile::tempdir().unwrap();
    let app = app(Builder::new().data_dir(dir.path())).unwrap();
    let page = window(&app, "reader");
    let db = app.ecsdb().world().unwrap().clone();
    db.write(|tx| Ok(tx.spawn(Score { points: 7, owner: u64::MAX }))).unwrap();
    db.write(|tx| Ok(tx.spawn(Score { points: 3, owner: 1 }))).unwrap();
    let question =
        json!({ "where": ["tests.score.points > 5"], "select": ["tests.score.points", "tests.score.owner"] });
    let found = call(&page, "query", question).unwrap();
    assert_eq!(found["columns"], json!(["tests.score.points", "tests.score.owner"]));
    // What JavaScript would round is text.
    assert_eq!(found["rows"], json!([{ "entity": "0v1", "values": [7, "18446744073709551615"] }]));
    let wrong = call(&page, "query", json!({ "with": ["tests.scores"] })).unwrap_err();
    assert_eq!(
        wrong,
        json!({ "kind": "call", "message": "with: there is no component tests.scores: did you mean tests.score?" })
    );
}

#[test]
fn settings_change_but_not_where_files_lie() {
    let dir = tempfile::tempdir().unwrap();
    let app = app(Builder::new().data_dir(dir.path())).unwrap();
    let page = window(&app, "manager");
    let change = |settings: Json| call(&page, "reconfigure", json!({ "settings": settings }));
    let changed =
        change(json!({ "snapshot": { "after_transactions": 1000 }, "wal": { "flush_interval": "20ms" } }))
            .unwrap();
    assert_eq!(changed["live"], json!(["wal.flush_interval", "snapshot.after_transactions"]));
    let config = || app.ecsdb().world().unwrap().config().unwrap();
    assert_eq!(config().snapshot.after_transactions, 1000);
    // What was said of one that may be left open is taken back, and of no other one.
    for (enabled, wanted) in
        [(json!(false), Some(false)), (json!(null), None), (json!(true), Some(true)), (json!(null), None)]
    {
        assert_eq!(
            change(json!({ "archive": { "enabled": enabled } })).unwrap()["live"],
            json!(["archive.enabled"])
        );
        assert_eq!(config().archive.enabled, wanted);
    }
    let config = config();
    for setting in ecsdb::config::settings() {
        let value = json!({ setting.key.rsplit('.').next().unwrap(): "/tmp/elsewhere" });
        let section = setting.key.split_once('.').map(|(section, _)| json!({ section: value }));
        let refused = change(section.unwrap_or(value)).unwrap_err();
        let kind = if setting.unit == ecsdb::config::Unit::Path { "call" } else { "config" };
        assert!(
            refused["kind"] == kind && refused["message"].as_str().unwrap().contains(&setting.key),
            "{refused}"
        );
    }
    for (settings, kind) in [
        (json!({ "archive": { "dir": "/tmp/elsewhere" } }), "call"),
        (json!({ "dir": "/tmp/elsewhere" }), "call"),
        (json!({ "archive": { "dir": null } }), "call"),
        (json!({ "snapshot": { "chain_max": 0 } }), "config"),
        (json!({ "snapshot": { "chain_max": null } }), "config"),
        (json!({ "snapshot": { "no_such": 0 } }), "config"),
        (json!({ "nothing": {} }), "config"),
        (json!({ "snapshot": 5 }), "config"),
    ] {
        let refused = change(settings.clone()).unwrap_err();
        assert_eq!(refused["kind"], kind, "{settings} {refused}");
    }
    assert_eq!(app.ecsdb().world().unwrap().config().unwrap(), config, "what is refused changes nothing");
}

#[test]
fn pages_are_told_of_what_happens_until_they_ask_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let app = app(Builder::new().data_dir(dir.path())).unwrap();
    let (page, other) = (window(&app, "manager"), window(&app, "reader"));
    let id = call(&page, "subscribe", json!({ "onEvent": channel(1) })).unwrap();
    call(&other, "subscribe", json!({ "onEvent": channel(1) })).unwrap();
    call(&page, "create_snapshot", json!({})).unwrap();
    for page in [&page, &other] {
        wait(page, 1, |event| event["type"] == "snapshot-taken");
    }
    assert_eq!(call(&other, "unsubscribe", json!({ "id": id })).unwrap(), false, "it is not its own");
    assert_eq!(call(&page, "unsubscribe", json!({ "id": id })).unwrap(), true);
    let before = heard(&page, 1).len();
    call(&page, "compact", json!({})).unwrap();
    wait(&other, 1, |event| event["type"] == "compacted");
    assert_eq!(heard(&page, 1).len(), before);
}

#[test]
fn a_world_of_the_applications_own_or_none() {
    let dir = tempfile::tempdir().unwrap();
    let db = Database::open(dir.path().join("mine")).unwrap();
    db.write(|tx| Ok(tx.spawn(Score { points: 1, owner: 0 }))).unwrap();
    let with = app(Builder::new().data_dir(dir.path().join("a")).database(db)).unwrap();
    assert_eq!(call(&window(&with, "reader"), "stats", json!({})).unwrap()["entities"], 1);
    let config = PersistenceConfig::new(dir.path().join("b").join("elsewhere"));
    let with = app(Builder::new().data_dir(dir.path().join("b")).config(config)).unwrap();
    assert_eq!(call(&window(&with, "reader"), "stats", json!({})).unwrap()["entities"], 0);
    assert!(dir.path().join("b/elsewhere").is_dir() && !dir.path().join("b/world").exists());
    let without = app(Builder::new().data_dir(dir.path().join("c")).without_world()).unwrap();
    let page = window(&without, "manager");
    for command in
        ["stats", "compact", "create_snapshot", "list_snapshots", "restore_snapshot", "verify", "query"]
    {
        assert_eq!(call(&page, command, json!({})).unwrap_err()["kind"], "call", "{command}");
    }
    assert_eq!(call(&page, "store_set", json!({ "store": "s", "key": "k", "value": 1 })), Ok(Json::Null));
}

#[test]
fn an_application_whose_world_is_open_elsewhere_does_not_start() {
    let dir = tempfile::tempdir().unwrap();
    let _first = Database::open(dir.path().join("world")).unwrap();
    let refused = app(Builder::new().data_dir(dir.path())).unwrap_err().to_string();
    assert!(refused.contains("world"), "{refused}");
}

/// Each of two pages changes a setting of its own, and Rust another one, and nobody takes the others' back.
#[test]
fn settings_of_several_pages_at_once_all_stay() {
    const CHANGES: u64 = 150;
    let dir = tempfile::tempdir().unwrap();
    let app = app(Builder::new().data_dir(dir.path())).unwrap();
    let db = app.ecsdb().world().unwrap();
    let pages = [window(&app, "manager0"), window(&app, "manager1")];
    let change = |page, settings: Json| call(page, "reconfigure", json!({ "settings": settings })).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 1..=CHANGES {
                change(&pages[0], json!({ "snapshot": { "after_transactions": n } }));
                assert_eq!(db.config().unwrap().snapshot.after_transactions, n);
            }
        });
        scope.spawn(|| {
            for n in 1..=CHANGES {
                change(&pages[1], json!({ "wal": { "flush_interval": format!("{n}ms") } }));
                assert_eq!(db.config().unwrap().wal.flush_interval, Duration::from_millis(n));
            }
        });
        for n in 1..=CHANGES as usize {
            drop(db.reconfigure_with(|config| config.snapshot.threads = n).unwrap());
            assert_eq!(db.config().unwrap().snapshot.threads, n);
        }
    });
}

/// Everything at once, from several windows, beside a world that goes on: each call is answered, and nothing is damaged.
#[test]
fn several_windows_do_everything_at_once() {
    const WINDOWS: u64 = 4;
    const CALLS: u64 = 60;
    let dir = tempfile::tempdir().unwrap();
    let first = app(Builder::new().data_dir(dir.path())).unwrap();
    let db = first.ecsdb().world().unwrap().clone();
    db.write(|tx| Ok(tx.spawn(Score { points: 0, owner: 0 }))).unwrap();
    let pages: Vec<_> = (0..WINDOWS).map(|i| window(&first, &format!("manager{i}"))).collect();
    let ends = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !ends.load(std::sync::atomic::Ordering::Relaxed) {
                db.write(|tx| Ok(tx.spawn(Score { points: 1, owner: 1 }))).unwrap();
            }
        });
        let callers: Vec<_> = pages
            .iter()
            .zip(0..)
            .map(|(page, seed)| {
                scope.spawn(move || {
                    let store = || json!({ "store": "s" });
                    for n in 0..CALLS {
                        // Each window goes another way through them.
                        let (command, arguments) = match (n * (2 * seed + 1) + seed) % 11 {
                            0 => ("create_snapshot", json!({ "onProgress": channel(1) })),
                            1 => ("compact", json!({})),
                            2 => ("restore_snapshot", json!({ "onProgress": channel(1) })),
                            3 => ("verify", json!({ "onProgress": channel(1) })),
                            4 => (
                                "reconfigure",
                                json!({ "settings": { "snapshot": { "chain_max": 1 + n % 5 } } }),
                            ),
                            5 => ("store_set", json!({ "store": "s", "key": "k", "value": n })),
                            6 => ("store_clear", store()),
                            7 => ("query", json!({ "where": ["tests.score.points > 0"], "limit": 3 })),
                            8 => ("subscribe", json!({ "onEvent": channel(2) })),
                            9 => ("unsubscribe", json!({ "id": n })),
                            _ => ("stats", json!({})),
                        };
                        match call(page, command, arguments) {
                            Ok(answer) => {
                                assert!(command != "verify" || answer["faults"] == json!([]), "{answer}")
                            }
                            // That the newest was deleted meanwhile is none of the page's business.
                            Err(error) => {
                                assert_eq!(
                                    error["message"], "there is no snapshot yet: take one first",
                                    "{command}"
                                )
                            }
                        }
                    }
                })
            })
            .collect();
        let ended: Vec<_> = callers.into_iter().map(|caller| caller.join()).collect();
        ends.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(ended.iter().all(|ended| ended.is_ok()));
    });
    let last = db.view().unwrap().len();
    first.ecsdb().close();
    let next = app(Builder::new().data_dir(dir.path())).unwrap();
    assert_eq!(next.ecsdb().world().unwrap().view().unwrap().len(), last);
}

/// The newest snapshot, whichever that is by the time: a compaction puts another in its place.
#[test]
fn there_is_a_newest_snapshot_while_others_compact() {
    let dir = tempfile::tempdir().unwrap();
    let app = app(Builder::new().data_dir(dir.path())).unwrap();
    let db = app.ecsdb().world().unwrap().clone();
    let pages: Vec<_> = (0..3).map(|i| window(&app, &format!("manager{i}"))).collect();
    call(&pages[0], "create_snapshot", json!({})).unwrap();
    let ends = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for page in &pages[1..] {
            scope.spawn(|| {
                while !ends.load(std::sync::atomic::Ordering::Relaxed) {
                    db.write(|tx| Ok(tx.spawn(Score { points: 1, owner: 1 }))).unwrap();
                    call(page, "compact", json!({})).unwrap();
                }
            });
        }
        let restored: Vec<_> = (0..60).map(|_| call(&pages[0], "restore_snapshot", json!({}))).collect();
        ends.store(true, std::sync::atomic::Ordering::Relaxed);
        for restored in restored {
            restored.unwrap();
        }
    });
}
