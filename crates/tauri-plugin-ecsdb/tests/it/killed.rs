//! An application killed by SIGKILL while its page sets values: what was acknowledged is there.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::json;
use tauri_plugin_ecsdb::Builder;
use tauri_plugin_ecsdb_tests::{app, call, window};

const DIR: &str = "TAURI_PLUGIN_ECSDB_TEST_DIR";
const KEYS: u64 = 7;

fn key(n: u64) -> String {
    format!("key{}", n % KEYS)
}

/// The child: its page sets one key after another, and prints what was acknowledged.
#[test]
#[ignore = "run by the test below, as the process that is killed"]
fn child() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let app = app(Builder::new().data_dir(dir).without_world()).unwrap();
    let page = window(&app, "settings");
    call(&page, "store_load", json!({ "store": "s" })).unwrap();
    let first = (0..KEYS)
        .map(|i| call(&page, "store_get", json!({ "store": "s", "key": key(i) })).unwrap()["value"].as_u64())
        .max()
        .flatten()
        .map_or(0, |last| last + 1);
    let mut out = std::io::stdout().lock();
    for n in first.. {
        call(&page, "store_set", json!({ "store": "s", "key": key(n), "value": n })).unwrap();
        writeln!(out, "acknowledged {n}").unwrap();
        out.flush().unwrap();
    }
}

/// Runs the child for a while; gives the last value that it was acknowledged, if any.
fn run_and_kill(dir: &Path, acknowledgements: usize) -> Option<u64> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture", "killed::child"])
        .env(DIR, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut last = None;
    let mut seen = 0;
    for line in lines.map_while(Result::ok) {
        // The harness prints its own words before the first.
        let Some((_, n)) = line.split_once("acknowledged ") else { continue };
        last = n.parse().ok();
        seen += 1;
        if seen == acknowledgements {
            // In the middle of the next ones.
            std::thread::sleep(Duration::from_micros(300 * (acknowledgements as u64 % 7)));
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    last
}

#[test]
fn nothing_acknowledged_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let mut last = None;
    for round in 0..8 {
        let acknowledged = run_and_kill(dir.path(), 11 + 13 * round);
        assert!(acknowledged > last, "it goes on where it was");
        last = acknowledged;
        let app = app(Builder::new().data_dir(dir.path()).without_world()).unwrap();
        let page = window(&app, "settings");
        let last = last.unwrap();
        for n in last.saturating_sub(KEYS - 1)..=last {
            let value =
                call(&page, "store_get", json!({ "store": "s", "key": key(n) })).unwrap()["value"].as_u64();
            // One more may have been on its way.
            assert!(value.is_some_and(|value| value == n || value == n + KEYS), "{n}: {value:?}");
        }
        tauri_plugin_ecsdb::EcsdbExt::ecsdb(&app).close();
    }
}
