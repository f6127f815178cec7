//! All commands, as the command line itself lists them, and which of them read a database: what holds for all of a kind is tested with each of them.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::SystemTime;

use crate::fixture::{Fixture, files, told, words};

/// Those that only read and print.
pub(crate) const READING: [&[&str]; 15] = [
    &["info", "world"],
    &["inspect", "world"],
    &["inspect", "world", "0v1"],
    &["history", "world", "0v1"],
    &["query", "world", "--with", "game.health"],
    &["diff", "world", "world"],
    &["hash", "world"],
    &["dump", "world"],
    &["verify", "world"],
    &["wal", "ls", "world"],
    &["wal", "show", "world"],
    &["wal", "tail", "world"],
    &["snapshot", "world", "--list"],
    &["config", "show", "world"],
    &["config", "check", "world"],
];

/// Those that read the database, and write elsewhere: where, comes last.
pub(crate) const COPYING: [&[&str]; 6] = [
    &["dump", "world", "--output", "new"],
    &["export", "world", "--parquet", "new"],
    &["backup", "world", "new"],
    &["restore", "world", "new"],
    &["backup", "world", "--dry-run", "new"],
    &["restore", "world", "--dry-run", "new"],
];

/// Those that read on and on, and print a line each time.
pub(crate) const FOLLOWING: [&[&str]; 2] =
    [&["info", "world", "--watch", "--json"], &["wal", "tail", "world", "--follow", "--json"]];

/// Those that say what they would change, and are refused where that could not be done.
pub(crate) const FORESEEING: [&[&str]; 3] = [
    &["snapshot", "world", "--dry-run"],
    &["repair", "world", "--dry-run"],
    &["compact", "world", "--dry-run"],
];

/// Those that change a database, or read none, and their flags.
const OTHERS: [&str; 13] = [
    "init",
    "init --dry-run",
    "load",
    "load --dry-run",
    "snapshot",
    "repair",
    "compact",
    "config schema",
    "config example",
    "demo",
    "bench",
    "completions",
    "man",
];

/// All commands, those below others by both names.
pub(crate) fn commands(fixture: &Fixture) -> Vec<String> {
    let listed = |help: &str| -> Vec<String> {
        let list = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
        let names = list.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
        let names = names.filter_map(|line| line.split_whitespace().next());
        names.filter(|name| *name != "help").map(String::from).collect()
    };
    let mut all = Vec::new();
    for name in listed(&fixture.ok(&["--help"])) {
        let help = fixture.ok(&[&name, "--help"]);
        match help.contains("Commands:\n") {
            true => all.extend(listed(&help).into_iter().map(|sub| format!("{name} {sub}"))),
            false => all.push(name),
        }
    }
    assert!(all.len() >= 25, "{all:?}");
    all
}

/// The options of a command that take no value.
fn flags(fixture: &Fixture, command: &str) -> Vec<String> {
    let help = fixture.ok(&words(&format!("{command} -h")));
    let lines = help.lines().filter(|line| line.trim_start().starts_with('-') && !line.contains('<'));
    let names = lines.filter_map(|line| line.split_whitespace().find(|word| word.starts_with("--")));
    names.filter(|name| !["--json", "--help"].contains(name)).map(String::from).collect()
}

#[test]
fn no_command_and_no_flag_is_in_no_list() {
    let fixture = Fixture::new();
    let lists = [&READING[..], &COPYING, &FOLLOWING, &FORESEEING].concat();
    let all = commands(&fixture);
    let mut listed: BTreeSet<String> = OTHERS.iter().map(|one| one.to_string()).collect();
    for one in lists {
        let command = all.iter().find(|name| words(name) == one[..words(name).len()]);
        let command = command.unwrap_or_else(|| panic!("{one:?} is no command any more"));
        let flags = one.iter().filter(|word| word.starts_with("--")).map(|flag| format!("{command} {flag}"));
        listed.extend(flags.chain([command.clone()]));
    }
    for command in all {
        assert!(listed.contains(&command), "{command} is in no list");
        for flag in flags(&fixture, &command) {
            assert!(listed.contains(&format!("{command} {flag}")), "{command} {flag} is in no list");
        }
    }
}

/// The last word of a command that writes elsewhere is where.
fn remove_copy(fixture: &Fixture) {
    let new = fixture.path("new");
    drop(if new.is_dir() { fs::remove_dir_all(new) } else { fs::remove_file(new) });
}

/// Begins a command that goes on and on, waits for its first line, and ends it.
fn first_line(fixture: &Fixture, command: &mut Command) -> serde_json::Value {
    let mut child = command.current_dir(fixture.dir.path()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    let read = BufReader::new(child.stdout.take().unwrap()).read_line(&mut line);
    child.kill().unwrap();
    child.wait().unwrap();
    read.unwrap();
    serde_json::from_str(&line).unwrap_or_else(|e| panic!("{command:?}: {e}: {line}"))
}

#[test]
fn reading_commands_change_nothing_and_need_no_lock() {
    let fixture = Fixture::new();
    let lock = fixture.path("world").join("LOCK");
    // And without a lock file, which nothing makes.
    for with_lock in [true, false] {
        if !with_lock {
            fs::remove_file(&lock).unwrap();
        }
        let before = files(&fixture.path("world"));
        for command in READING {
            fixture.ok(command);
            fixture.ok(&[command, &["--json"]].concat());
            assert_eq!(files(&fixture.path("world")), before, "{command:?}");
        }
        for command in COPYING {
            fixture.ok(command);
            remove_copy(&fixture);
            assert_eq!(files(&fixture.path("world")), before, "{command:?}");
        }
        for command in FOLLOWING {
            assert!(first_line(&fixture, &mut fixture.command(command)).is_object());
            assert_eq!(files(&fixture.path("world")), before, "{command:?}");
        }
        // It locks what it says it would do something to.
        for command in FORESEEING.iter().filter(|_| !with_lock) {
            fixture.ok(command);
        }
    }
    assert!(!lock.exists(), "nothing makes one");
}

#[test]
fn reading_commands_work_on_a_database_that_another_process_has_open() {
    let fixture = Fixture::new();
    fs::remove_dir_all(fixture.path("world")).unwrap();
    let db = fixture.open("world");
    let before = files(&fixture.path("world"));
    for command in READING {
        fixture.ok(command);
    }
    for command in COPYING {
        fixture.ok(command);
        remove_copy(&fixture);
    }
    for command in FOLLOWING {
        assert!(first_line(&fixture, &mut fixture.command(command)).is_object());
    }
    // They say what is done, and that could not be done.
    for command in FORESEEING {
        assert_eq!(fixture.run(command).0, 5, "{command:?}");
    }
    assert_eq!(files(&fixture.path("world")), before);
    assert_eq!(fixture.json(&["hash", "world"])["digest"], db.view().unwrap().digest().unwrap().to_string());
    db.write(|tx| Ok(tx.spawn(()))).unwrap();
    assert_eq!(fixture.json(&["hash", "world"])["state"]["lsn"], 6);
    fixture.ok(&["backup", "world", "copy"]);
    assert_eq!(fixture.json(&["hash", "copy"])["digest"], db.view().unwrap().digest().unwrap().to_string());
    let (code, _, error) = fixture.run(&["snapshot", "world"]);
    assert!(code == 5 && error.starts_with("error: ") && error.lines().count() == 1, "{code} {error}");
    db.close().unwrap();
}

/// A file system that is really read-only, and not only closed to this user: root may write everywhere else.
#[cfg(target_os = "linux")]
#[test]
fn reading_commands_work_on_a_read_only_file_system() {
    let fixture = Fixture::new();
    fixture.ok(&["snapshot", "world"]);
    // In a mount namespace of its own, which goes with the command.
    let script = "mount --bind world world && mount -o remount,bind,ro world && exec \"$0\" \"$@\"";
    let within = |words: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--mount", "sh", "-c", script]).args(words);
        command.current_dir(fixture.dir.path()).env("TZ", "UTC").env_remove("RUST_BACKTRACE");
        command
    };
    let written = within(&["touch", "world/new"]).output();
    let refused = |output: &Output| String::from_utf8_lossy(&output.stderr).contains("Read-only");
    if !written.as_ref().is_ok_and(refused) {
        eprintln!("skipped: nothing can be mounted here: {written:?}");
        return;
    }
    let run = |command: &[&str]| {
        told(within(&[&[env!("CARGO_BIN_EXE_ecsdb")], command].concat()).output().unwrap())
    };
    let before = files(&fixture.path("world"));
    for without_lock in [false, true] {
        if without_lock {
            fs::remove_file(fixture.path("world/LOCK")).unwrap();
        }
        for command in READING {
            let (code, out, error) = run(command);
            assert!(
                (code, &out, &*error) == (0, &fixture.ok(command), ""),
                "{command:?}: {code} {out}{error}"
            );
        }
        for command in COPYING {
            let (code, out, error) = run(command);
            assert_eq!((code, &*error), (0, ""), "{command:?}: {out}");
            remove_copy(&fixture);
        }
        for command in FOLLOWING {
            let command = [&[env!("CARGO_BIN_EXE_ecsdb")], command].concat();
            assert!(first_line(&fixture, &mut within(&command)).is_object());
        }
        for command in [&FORESEEING[..], &[&["snapshot", "world"], &["repair", "world"]]].concat() {
            let (code, out, error) = run(command);
            let told = error.contains("Read-only file system") && error.lines().count() == 1;
            assert!(code == 1 && told, "{command:?}: {code} {out}{error}");
        }
    }
    let lock = fixture.path("world/LOCK");
    let after = files(&fixture.path("world"));
    let names = |all: &[(PathBuf, u64, SystemTime)]| -> Vec<PathBuf> {
        all.iter().map(|(path, ..)| path.clone()).filter(|path| *path != lock).collect()
    };
    assert_eq!(names(&after), names(&before));
}
