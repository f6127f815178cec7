//! The commands on closed databases, damaged ones among them.

use std::path::Path;
use std::process::Command;

use ecsdb::prelude::*;

use crate::fixture::{files, told};
use crate::settings::{empty, with_past};

#[derive(Component, Clone, Copy)]
#[component(name = "cli.counter", plain)]
#[repr(C)]
struct Counter(u64);

/// Runs a command; what it printed, and whether it succeeded.
fn run(arguments: &[&str]) -> (String, bool) {
    let output = Command::new(env!("CARGO_BIN_EXE_ecsdb")).args(arguments).output().unwrap();
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    (text, output.status.success())
}

fn counters(dir: &Path) -> usize {
    Database::open(dir).unwrap().view().unwrap().query::<&Counter>().unwrap().count()
}

#[test]
fn snapshot_compact_verify_restore_and_repair_do_what_they_say() {
    let dir = tempfile::tempdir().unwrap();
    let (world, copy) = (dir.path().join("world"), dir.path().join("copy"));
    let db = Database::open(&world).unwrap();
    for i in 0..10 {
        db.write(|tx| Ok(tx.spawn(Counter(i)))).unwrap();
    }
    db.close().unwrap();
    let path = world.to_str().unwrap();

    let (text, ok) = run(&["snapshot", path]);
    assert!(ok && text.contains("at LSN 10"), "{text}");
    let (text, ok) = run(&["info", path]);
    assert!(ok && text.contains("entities") && text.contains("10"), "{text}");
    let (text, ok) = run(&["restore", path, copy.to_str().unwrap(), "--lsn", "4"]);
    assert!(ok && text.contains("LSN 4"), "{text}");
    assert_eq!(counters(&copy), 4);
    let (text, ok) = run(&["restore", path, copy.to_str().unwrap()]);
    assert!(!ok && text.contains("is not empty"), "{text}");
    let (text, ok) = run(&["restore", path, dir.path().join("no").to_str().unwrap(), "--lsn", "400"]);
    assert!(!ok && text.contains("LSN 10"), "{text}");
    let (text, ok) = run(&["compact", path]);
    assert!(ok && text.contains("as before"), "{text}");
    let (text, ok) = run(&["verify", path]);
    assert!(ok && text.contains("everything verifies"), "{text}");

    let mut snapshots =
        std::fs::read_dir(world.join("snapshots")).unwrap().map(|entry| entry.unwrap().path());
    let snapshot = snapshots.find(|path| path.extension().is_some_and(|ending| ending == "snap")).unwrap();
    let mut bytes = std::fs::read(&snapshot).unwrap();
    bytes[200] ^= 1;
    std::fs::write(&snapshot, bytes).unwrap();
    let (text, ok) = run(&["verify", path]);
    assert!(!ok && text.contains("DAMAGED") && text.contains(".snap"), "{text}");
    // Without the log that led to it, which the compaction has kept, nothing makes up for it.
    std::fs::remove_dir_all(world.join("archive")).unwrap();
    let before = files(&world);
    let (text, ok) = run(&["repair", path, "--dry-run"]);
    assert!(ok && text.contains("LOST") && text.contains("would be lost"), "{text}");
    assert!(text.contains(path), "paths are those of the original: {text}");
    assert_eq!(files(&world), before, "and nothing is changed");
    let (text, ok) = run(&["repair", path]);
    assert!(ok && text.contains("LOST") && text.contains("ACKNOWLEDGED"), "{text}");
    let (text, ok) = run(&["info", "/nowhere"]);
    assert!(!ok && text.contains("/nowhere is no directory"), "{text}");
    let (text, ok) = run(&["compact", dir.path().to_str().unwrap()]);
    assert!(!ok && text.contains("there is no database in"), "{text}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2, "and none is made by asking");
    for manifest in std::fs::read_dir(&copy).unwrap().map(|entry| entry.unwrap().path()) {
        if manifest.extension().is_some_and(|ending| ending == "manifest") {
            std::fs::remove_file(manifest).unwrap();
        }
    }
    let (text, ok) = run(&["info", copy.to_str().unwrap()]);
    assert!(!ok && text.contains("no valid manifest"), "{text}");
    let (text, ok) = run(&["repair", copy.to_str().unwrap()]);
    assert!(ok && text.contains("data loss: perhaps what came last"), "{text}");
    assert_eq!(counters(&copy), 4);
}

/// Whatever comes to it first: the command, or what runs by itself.
#[test]
fn what_failed_beside_what_was_asked_for_is_said_each_time() {
    let fixture = empty();
    fixture.ok(&["init", "world"]);
    with_past(&fixture, 3);
    let mut snapshots: Vec<_> =
        files(&fixture.path("world/snapshots")).into_iter().map(|(path, ..)| path).collect();
    snapshots.retain(|path| path.extension().is_some_and(|ending| ending == "snap"));
    let damaged = &snapshots[snapshots.len() - 2];
    let mut bytes = std::fs::read(damaged).unwrap();
    bytes[..64].fill(0xff);
    std::fs::write(damaged, bytes).unwrap();
    let said = |command: &str| {
        let mut command = fixture.command(&[command, "world", "--dry-run"]);
        let (code, out, error) = told(command.env("ECDB_SNAPSHOT_CHAIN_MAX", "1").output().unwrap());
        assert_eq!(code, 0, "{out}{error}");
        error.contains("the log behind it is kept")
    };
    for _ in 0..12 {
        // A compaction leaves one that is whole, and needs no other.
        assert_eq!([said("snapshot"), said("compact")], [true, false]);
    }
}
