//! Signals that ask for an end: each has its exit code, and nothing half is left, of whatever command.
#![cfg(unix)]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use ecsdb::prelude::*;
use rustix::process::{Pid, Signal, kill_process};

use crate::fixture::{Fixture, Health, files, listening, told};

pub(crate) const SIGNALS: [(&str, i32); 3] = [("-INT", 130), ("-TERM", 143), ("-HUP", 129)];

pub(crate) fn send(child: &Child, signal: &str) {
    assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
}

/// Kills a program once it takes far too long, so that nobody waits for ever: until what this gives goes away.
pub(crate) fn limited(child: &Child) -> mpsc::Sender<()> {
    let (held, gone) = mpsc::channel();
    let id = child.id().to_string();
    std::thread::spawn(move || {
        if gone.recv_timeout(Duration::from_secs(60)) == Err(mpsc::RecvTimeoutError::Timeout) {
            drop(Command::new("kill").args(["-KILL", &id]).status());
        }
    });
    held
}

/// Waits until the signals are listened to; before that they end it as they end everybody.
fn wait_until_it_listens(child: &Child) {
    if !cfg!(target_os = "linux") {
        std::thread::sleep(Duration::from_millis(300));
        return;
    }
    let started = Instant::now();
    let listens = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        // One that has ended catches none.
        caught.is_none_or(|bits| u64::from_str_radix(bits.trim(), 16).unwrap() & 1 << 14 != 0)
            || status.contains("State:\tZ")
    };
    while !listens() {
        assert!(started.elapsed() < Duration::from_secs(60), "it does not listen");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// With which copies take seconds, on every machine.
pub(crate) const SLOW: (&str, &str) = ("ECDB_SNAPSHOT_BYTES_PER_SECOND_MAX", "500 KiB");

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
    // What is made, or a database that may have changed. The first ones are not done before they are interrupted.
    const SLOW_ONES: usize = 4;
    let commands: [(&[&str], Option<&str>); 15] = [
        (&["backup", "world", "new"], Some("new")),
        (&["restore", "world", "new", "--lsn", "7"], Some("new")),
        (&["load", "new", "dumped"], Some("new")),
        (&["bench", "--seconds", "60"], None),
        (&["dump", "world", "--output", "new"], Some("new")),
        (&["export", "world", "--parquet", "new"], Some("new")),
        (&["demo", "--kills", "1", "--dir", "new/deep"], Some("new")),
        (&["snapshot", "world"], Some("world")),
        (&["compact", "world"], Some("world")),
        (&["compact", "world", "--dry-run"], None),
        (&["repair", "world"], Some("world")),
        (&["verify", "world"], None),
        (&["inspect", "world"], None),
        (&["diff", "world", "world@7"], None),
        (&["wal", "show", "world"], None),
    ];
    for (i, (command, made)) in commands.into_iter().enumerate() {
        for (j, (signal, code)) in SIGNALS.into_iter().enumerate() {
            let before = names(fixture.dir.path());
            let is_json = j % 2 == 0;
            let mut child = fixture.command(&[command, if is_json { &["--json"] } else { &[] }].concat());
            child.env("TMPDIR", fixture.path("tmp")).stdout(Stdio::piped()).stderr(Stdio::piped());
            if i < SLOW_ONES {
                child.env(SLOW.0, SLOW.1);
            }
            let child = child.spawn().unwrap();
            let _limit = limited(&child);
            wait_until_it_listens(&child);
            std::thread::sleep(Duration::from_millis([50, 120, 300][(i + j) % 3]));
            drop(Command::new("kill").args([signal, &child.id().to_string()]).status());
            let output = child.wait_with_output().unwrap();
            let by = output.status.signal();
            let (ended, out, error) = told(output);
            let context = format!("{command:?} {signal}: {ended} {out}{error}");
            let mut after = names(fixture.dir.path());
            let is_changed = |path: &Path| made == Some("world") && path.starts_with(fixture.path("world"));
            match ended {
                // Before it listens, the signal ends it as it ends everybody.
                ended if ended == code || by == Some(code - 128) => {
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
                }
                0 if i >= SLOW_ONES => {
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
}

/// A terminal that is closed sends it twice, and a logout two different ones: what is half done is removed all the same.
#[test]
fn what_comes_after_a_first_signal_leaves_nothing_half_either() {
    let fixture = large(200_000);
    for [first, second] in [[2, 2], [1, 2], [2, 1], [0, 2], [0, 1]].map(|pair| pair.map(|n| SIGNALS[n])) {
        let before = names(fixture.dir.path());
        let mut child = fixture.command(&["backup", "world", "new"]);
        child.env(SLOW.0, SLOW.1).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = child.spawn().unwrap();
        let _limit = limited(&child);
        // It writes by then.
        let started = Instant::now();
        while !fixture.path("new").exists() {
            assert!(started.elapsed() < Duration::from_secs(60), "nothing is written");
            std::thread::sleep(Duration::from_millis(1));
        }
        for (_, code) in [first, second] {
            // At once: a program that sends it would take longer than the clean-up.
            let signal = Signal::from_named_raw(code - 128).unwrap();
            kill_process(Pid::from_child(&child), signal).unwrap();
            std::thread::sleep(Duration::from_millis(1));
        }
        let (ended, out, error) = told(child.wait_with_output().unwrap());
        let context = format!("{} {}: {ended} {out}{error}", first.0, second.0);
        // One that waits longer than the other may be the one that is seen first.
        assert!(ended == first.1 || ended == second.1, "{context}");
        assert_eq!(error, "interrupted\n", "{context}");
        assert_eq!(names(fixture.dir.path()), before, "{context}");
    }
}

/// What does not end by itself: here whoever reads does not. A terminal that goes away is no reason for that.
#[cfg(target_os = "linux")]
#[test]
fn the_same_signal_again_ends_at_once() {
    use rustix::fs::{OFlags, fcntl_setfl};
    use std::io::Write;
    let fixture = Fixture::new();
    let [interrupt, terminate, hang_up] = SIGNALS;
    for (signals, code) in [
        ([interrupt, interrupt], Some(130)),
        ([terminate, terminate], Some(143)),
        ([hang_up, hang_up], None),
        ([terminate, hang_up], None),
        ([hang_up, terminate], None),
        ([interrupt, terminate], None),
    ] {
        let (reader, mut full) = std::io::pipe().unwrap();
        fcntl_setfl(&full, OFlags::NONBLOCK).unwrap();
        while full.write(&[b' '; 4096]).is_ok() {}
        fcntl_setfl(&full, OFlags::empty()).unwrap();
        let child = fixture.command(&["info", "world"]).stdout(full).stderr(Stdio::piped()).spawn().unwrap();
        let _limit = limited(&child);
        wait_until_it_listens(&child);
        // All is found, and held to be said.
        std::thread::sleep(Duration::from_millis(500));
        for (signal, _) in signals {
            send(&child, signal);
            std::thread::sleep(Duration::from_millis(100));
        }
        if code.is_none() {
            drop(std::thread::spawn(move || std::io::copy(&mut &reader, &mut std::io::sink())));
        }
        let (ended, _, error) = told(child.wait_with_output().unwrap());
        assert_eq!(ended, code.unwrap_or(0), "{signals:?}: {error}");
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
            let _limit = limited(&child);
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
        let mut child = listening("sh");
        child.args(["-c", &script, env!("CARGO_BIN_EXE_ecsdb")]).current_dir(fixture.dir.path());
        let mut child = child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let _limit = limited(&child);
        let mut out = BufReader::new(child.stdout.take().unwrap());
        out.read_line(&mut String::new()).unwrap();
        send(&child, signal);
        std::thread::sleep(Duration::from_millis(300));
        assert!(child.try_wait().unwrap().is_none(), "{ignored}");
        send(&child, other);
        assert_eq!(told(child.wait_with_output().unwrap()).0, code, "{ignored}");
    }
}
