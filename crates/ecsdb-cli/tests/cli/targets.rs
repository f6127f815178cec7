//! Where commands write that are told a place, and where they do not.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::fixture::{Fixture, files, told};

#[test]
fn nothing_is_written_into_a_database_by_whatever_name() {
    let fixture = Fixture::new();
    fixture.ok(&["snapshot", "world"]);
    fixture.ok(&["dump", "world", "--output", "dumped"]);
    let mut inside = vec!["world/log", "world/snapshots", "world", "nowhere/../world"];
    if cfg!(unix) {
        #[cfg(unix)]
        std::os::unix::fs::symlink("world/log", fixture.path("link")).unwrap();
        inside.push("link");
    }
    fixture.ok(&["backup", "world", "other"]);
    let before = files(fixture.dir.path());
    for dir in inside {
        let to = format!("{dir}/new");
        for command in [
            &["dump", "world", "--output", &to][..],
            &["dump", "other", "--output", &to],
            &["export", "world", "--parquet", &to],
            &["export", "other", "--parquet", &to],
            &["restore", "world", &to],
            &["backup", "world", &to],
            &["load", &to, "dumped"],
            &["init", &to],
            &["init", &to, "--dry-run"],
            &["demo", "--dir", &to],
            &["man", &to],
            &["man", dir],
            &["bench", dir, "--seconds", "0", "--entities", "1"],
        ] {
            // What is asked for by a name that leads nowhere is not there.
            let wanted = if command[0] == "bench" && dir.starts_with("nowhere") { 3 } else { 2 };
            let (code, out, error) = fixture.run(command);
            assert!(code == wanted && error.lines().count() == 1, "{command:?}: {code} {out}{error}");
        }
    }
    let manifest = std::fs::read_dir(fixture.path("world")).unwrap().map(|entry| entry.unwrap().path());
    let manifest = manifest.filter(|path| path.extension().is_some_and(|ending| ending == "manifest"));
    for path in manifest {
        let (code, _, error) = fixture.run(&["dump", "world", "--output", path.to_str().unwrap()]);
        assert!(code == 2 && error.contains("is within"), "{code} {error}");
    }
    let (code, _, error) = fixture.run(&["backup", "world", "."]);
    assert!(code == 2 && error.contains("is around the database"), "{code} {error}");
    assert_eq!(files(fixture.dir.path()), before);
}

#[test]
fn what_is_there_is_no_place_for_something_new() {
    let fixture = Fixture::new();
    std::fs::write(fixture.path("file"), "mine").unwrap();
    let before = files(fixture.dir.path());
    for (command, wanted, what) in [
        (&["backup", "world", "file"][..], 6, "file is there, and no directory"),
        (&["backup", "world", "file/new"], 6, "is below something that is no directory"),
        (&["load", "file", "dumped"], 6, "no directory"),
        (&["export", "world", "--parquet", "file"], 6, "no directory"),
        (&["demo", "--dir", "world"], 6, "world is not empty"),
        (&["dump", "world", "--output", "."], 6, "no file that could be replaced"),
        (&["dump", "world", "--output", "nowhere/dumped"], 3, "nowhere is no directory"),
        (&["bench", "nowhere"], 3, "nowhere is no directory"),
    ] {
        let (code, out, error) = fixture.run(command);
        assert!(code == wanted && error.contains(what), "{command:?}: {code} {out}{error}");
    }
    assert_eq!(files(fixture.dir.path()), before);
    // As it is for `load`, that is no file.
    assert_eq!(fixture.ok(&["dump", "world", "-o", "-"]), fixture.ok(&["dump", "world"]));
    assert_eq!(files(fixture.dir.path()), before);
}

/// Waits for what the other process does.
fn until(child: &mut Child, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(child.try_wait().unwrap().is_none(), "it has ended");
        assert!(started.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_copy_keeps_to_its_rate_and_when_interrupted_takes_nothing_of_others_away() {
    if !cfg!(unix) {
        return;
    }
    let fixture = Fixture::new();
    fixture.ok(&["dump", "world", "--output", "dumped"]);
    for (command, others) in [
        (&["backup", "world", "new/copy"][..], &[][..]),
        (&["backup", "world", "new/copy"], &["new/copy/mine", "new/copy/snapshots/mine"]),
        (&["restore", "world", "new/copy"], &["new/copy/log/mine"]),
        (&["load", "new/copy", "dumped"], &["new/copy/mine"]),
    ] {
        let mut copying = fixture.command(command);
        // At which it takes half a minute, and a single write longer than this test waits.
        copying.env("ECDB_SNAPSHOT_BYTES_PER_SECOND_MAX", "100");
        let mut copying = copying.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let snapshot = fixture.path("new/copy/snapshots/0000000000000001.snap.tmp");
        until(&mut copying, || snapshot.exists());
        others.iter().for_each(|name| std::fs::write(fixture.path(name), "mine").unwrap());
        std::thread::sleep(Duration::from_millis(300));
        assert!(copying.try_wait().unwrap().is_none(), "{command:?} is not held back");
        std::process::Command::new("kill").args(["-INT", &copying.id().to_string()]).status().unwrap();
        let interrupted = Instant::now();
        let (code, out, error) = told(copying.wait_with_output().unwrap());
        assert_eq!(code, 130, "{command:?}: {out}{error}");
        assert!(interrupted.elapsed() < Duration::from_secs(10), "nobody waits for the rate then");
        if others.is_empty() {
            assert!(!fixture.path("new").exists(), "{command:?}");
            continue;
        }
        let mut wanted: Vec<_> = others.iter().map(|name| fixture.path(name)).collect();
        wanted.sort();
        let left = files(&fixture.path("new")).into_iter().map(|(path, ..)| path);
        assert_eq!(left.filter(|path| path.is_file()).collect::<Vec<_>>(), wanted);
        std::fs::remove_dir_all(fixture.path("new")).unwrap();
    }
}

#[test]
fn so_does_a_copy_that_a_program_makes_of_a_closed_database() {
    let fixture = Fixture::new();
    let mut config = ecsdb::PersistenceConfig::new(fixture.path("world"));
    config.snapshot.bytes_per_second_max = ecsdb::ByteSize(1000);
    let started = Instant::now();
    let copy = fixture.path("copy");
    let info = ecsdb::restore_copy(&config, &copy, ecsdb::Moment::Latest, |_| {}).unwrap();
    assert!(started.elapsed() > Duration::from_millis(info.bytes / 2), "{:?}", started.elapsed());
    assert_eq!(fixture.json(&["hash", "copy"])["digest"], fixture.json(&["hash", "world"])["digest"]);
}
