//! Signals that ask for an end: each has its exit code, and nothing half is left, of whatever command.
#![cfg(unix)]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ecsdb::prelude::*;

use crate::fixture::{Fixture, Health, files, told};

pub(crate) const SIGNALS: [(&str, i32); 3] = [("-INT", 130), ("-TERM", 143), ("-HUP", 129)];

pub(crate) fn send(child: &Child, signal: &str) {
    assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
}

/// A database that is read and written for a while.
pub(crate) fn large(entities: u32) -> Fixture {
    let fixture = Fixture { dir: tempfile::tempdir().unwrap() };
    let db = Database::open(fixture.path("world")).unwrap();
    let mut random = fastrand::Rng::with_seed(1);
    for _ in 0..8 {
        let batch: Vec<Health> =
            (0..entities / 8).map(|_| Health { now: random.u32(..), max: random.u32(..) }).collect();
        db.write(|tx| Ok(tx.spawn_batch(batch.iter().copied()).len())).unwrap();
    }
    db.snapshot().unwrap().wait().unwrap();
    db.write(|tx| Ok(tx.spawn(()))).unwrap();
    db.close().unwrap();
    fixture
}

fn names(dir: &Path) -> BTreeSet<PathBuf> {
    files(dir).into_iter().map(|(path, ..)| path).collect()
}

#[test]
fn each_signal_ends_each_command_with_its_code_and_leaves_nothing_half() {
    let fixture = large(200_000);
    fixture.ok(&["dump", "world", "--output", "dumped"]);
    std::fs::create_dir(fixture.path("tmp")).unwrap();
    // What is made, or a database that may have changed.
    let commands: [(&[&str], Option<&str>); 15] = [
        (&["backup", "world", "new"], Some("new")),
        (&["restore", "world", "new", "--lsn", "7"], Some("new")),
        (&["load", "new", "dumped"], Some("new")),
        (&["dump", "world", "--output", "new"], Some("new")),
        (&["export", "world", "--parquet", "new"], Some("new")),
        (&["demo", "--kills", "1", "--dir", "new/deep"], Some("new")),
        (&["bench", "--seconds", "5"], None),
        (&["snapshot", "world"], Some("world")),
        (&["compact", "world"], Some("world")),
        (&["compact", "world", "--dry-run"], None),
        (&["repair", "world"], Some("world")),
        (&["verify", "world"], None),
        (&["inspect", "world"], None),
        (&["diff", "world", "world@7"], None),
        (&["wal", "show", "world"], None),
    ];
    let mut interrupted = BTreeSet::new();
    for (i, (command, made)) in commands.into_iter().enumerate() {
        for (j, (signal, code)) in SIGNALS.into_iter().enumerate() {
            let before = names(fixture.dir.path());
            let is_json = j % 2 == 0;
            let mut child = fixture.command(&[command, if is_json { &["--json"] } else { &[] }].concat());
            child.env("TMPDIR", fixture.path("tmp")).stdout(Stdio::piped()).stderr(Stdio::piped());
            let child = child.spawn().unwrap();
            std::thread::sleep(Duration::from_millis([50, 120, 300][(i + j) % 3]));
            drop(Command::new("kill").args([signal, &child.id().to_string()]).status());
            let (ended, out, error) = told(child.wait_with_output().unwrap());
            let context = format!("{command:?} {signal}: {ended} {out}{error}");
            let mut after = names(fixture.dir.path());
            let is_changed = |path: &Path| made == Some("world") && path.starts_with(fixture.path("world"));
            match ended {
                // Before it listens, the signal ends it as it ends everybody.
                ended if ended == code || ended == -1 => {
                    let wanted = match is_json {
                        true => format!(
                            "{{\"error\":\"interrupted\",\"kind\":\"interrupted\",\"code\":{code}}}\n"
                        ),
                        false => "interrupted\n".into(),
                    };
                    assert!(ended == -1 || error == wanted, "{context}");
                    after.retain(|path| !is_changed(path));
                    let before = before.into_iter().filter(|path| !is_changed(path));
                    assert_eq!(after, before.collect(), "{context}");
                    interrupted.insert((ended, i));
                }
                0 => {
                    if let Some(path) = made.filter(|made| *made != "world").map(|made| fixture.path(made)) {
                        let is_dir = path.is_dir();
                        if is_dir { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) }
                            .unwrap();
                    }
                }
                _ => panic!("{context}"),
            }
            assert_eq!(std::fs::read_dir(fixture.path("tmp")).unwrap().count(), 0, "{context}");
        }
        assert_eq!(fixture.json(&["verify", "world"])["faults"], serde_json::json!([]), "{command:?}");
    }
    for (signal, code) in SIGNALS {
        assert!(
            interrupted.iter().filter(|(ended, _)| *ended == code).count() > 3,
            "{signal}: {interrupted:?}"
        );
    }
}

/// Those that go on and on, which are ended so and in no other way.
#[test]
fn each_signal_ends_what_is_followed() {
    let fixture = Fixture::new();
    for (command, is_json) in [
        (&["info", "world", "--watch", "--json"][..], true),
        (&["wal", "tail", "world", "--follow", "--json"], true),
        (&["wal", "tail", "world", "--follow"], false),
    ] {
        for (signal, code) in SIGNALS {
            let mut child = fixture.command(command);
            let mut child = child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            let mut out = BufReader::new(child.stdout.take().unwrap());
            out.read_line(&mut String::new()).unwrap();
            send(&child, signal);
            let (ended, _, error) = told(child.wait_with_output().unwrap());
            assert!(ended == code && error.contains("interrupted"), "{command:?} {signal}: {ended} {error}");
            assert!(!is_json || error.contains(&format!("\"code\":{code}}}")), "{error}");
        }
    }
}

/// As `nohup` has it, and a shell for what it runs in the background.
#[cfg(target_os = "linux")]
#[test]
fn a_signal_that_is_ignored_from_the_beginning_stays_so() {
    let fixture = Fixture::new();
    for (ignored, signal, other, code) in [("HUP", "-HUP", "-TERM", 143), ("INT", "-INT", "-HUP", 129)] {
        let script = format!("trap '' {ignored}; exec \"$0\" wal tail world --follow");
        let mut child = Command::new("sh");
        child.args(["-c", &script, env!("CARGO_BIN_EXE_ecsdb")]).current_dir(fixture.dir.path());
        let mut child = child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        out.read_line(&mut String::new()).unwrap();
        send(&child, signal);
        std::thread::sleep(Duration::from_millis(300));
        assert!(child.try_wait().unwrap().is_none(), "{ignored}");
        send(&child, other);
        assert_eq!(told(child.wait_with_output().unwrap()).0, code, "{ignored}");
    }
}
