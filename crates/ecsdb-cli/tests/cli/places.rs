//! What a place has that is not this attempt's, and what an attempt that was killed leaves of its own: the first stays as it is, the second is the next one's.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::fixture::{Fixture, files, told};

/// Names and contents.
fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    if !dir.exists() {
        return BTreeMap::new();
    }
    let content = |path: &PathBuf| std::fs::read(path).unwrap_or_default();
    files(dir).into_iter().map(|(path, ..)| (path.clone(), content(&path))).collect()
}

fn wait(child: &mut Child, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(child.try_wait().unwrap().is_none(), "it has ended");
        assert!(started.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn interrupt(child: Child) -> (i32, String, String) {
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    told(child.wait_with_output().unwrap())
}

fn ended(child: Child) -> (i32, String, String) {
    told(child.wait_with_output().unwrap())
}

fn piped(mut command: Command) -> Child {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// While a dump is read, another database begins to archive into the directory that this one's settings name, too.
#[test]
fn a_load_that_is_given_up_takes_nothing_out_of_an_archive_that_became_anothers() {
    if !cfg!(unix) {
        return;
    }
    let fixture = Fixture::new();
    let dumped = fixture.ok(&["dump", "world"]);
    let archive = fixture.path("archive");
    for dir in ["archive", "elsewhere/snapshots/archive"] {
        std::fs::create_dir_all(fixture.path(dir)).unwrap();
        let mut load = fixture.command(&["load", "new", "-"]);
        load.env("ECDB_ARCHIVE_DIR", fixture.path(dir)).env("ECDB_SNAPSHOT_BYTES_PER_SECOND_MAX", "100");
        load.env("ECDB_SNAPSHOT_DIR", fixture.path("elsewhere/snapshots"));
        let mut load = piped(load);
        std::thread::sleep(Duration::from_millis(300));
        let mut config = ecsdb::PersistenceConfig::new(fixture.path("other"));
        config.archive.dir = Some(fixture.path(dir));
        config.archive.enabled = Some(true);
        config.retention.unlimited = true;
        config.snapshot.chain_max = 1;
        for _ in 0..3 {
            let builder = ecsdb::Database::builder(fixture.path("other"));
            let db = builder.config(|it| *it = config.clone()).open().unwrap();
            db.write(|tx| Ok(tx.spawn(crate::fixture::Clock(1)))).unwrap();
            db.compact().unwrap().wait().unwrap();
            db.close().unwrap();
        }
        let before = contents(&fixture.path(dir));
        let is_segment = |path: &PathBuf| path.to_str().is_some_and(|name| name.contains(".seg"));
        assert!(
            before.keys().any(is_segment) && before.keys().any(|path| path.ends_with("OWNER")),
            "{before:?}"
        );
        let mut input = load.stdin.take().unwrap();
        input.write_all(dumped.as_bytes()).unwrap();
        drop(input);
        let begun = fixture.path("elsewhere/snapshots/0000000000000001.snap.tmp");
        wait(&mut load, || begun.exists());
        let (code, out, error) = interrupt(load);
        assert_eq!(code, 130, "{out}{error}");
        assert_eq!(contents(&fixture.path(dir)), before, "{dir}");
        assert!(!fixture.path("new").exists());
        std::fs::remove_dir_all(fixture.path("other")).unwrap();
        drop(std::fs::remove_dir_all(&archive));
        drop(std::fs::remove_dir_all(fixture.path("elsewhere")));
    }
}

/// Files of a stranger's with names of ours, and those that have no name at all for us.
#[test]
fn what_somebody_has_put_into_a_place_stays_and_the_place_is_not_empty() {
    let fixture = Fixture::new();
    fixture.ok(&["dump", "world", "--output", "dumped"]);
    let strangers: [(&[u8], &str); 7] = [
        (b"LOCK", "42"),
        (b"LOCK.holder", "mine"),
        (b"0000000000000001.manifest.tmp", "mine, and longer than a magic number"),
        (b"\xff", ""),
        (b"0000000000000001.manifest.tmp\xff", ""),
        (b"OWNER.tmp", "mine"),
        (b"OWNER.tmp", ""),
    ];
    for (name, content) in strangers {
        for command in [
            &["backup", "world", "d"][..],
            &["restore", "world", "d"],
            &["load", "d", "dumped"],
            &["init", "d"],
            &["init", "d", "--dry-run"],
            &["export", "world", "--parquet", "d"],
            &["demo", "--flights", "1", "--dir", "d"],
        ] {
            let dir = fixture.path("d");
            std::fs::create_dir(&dir).unwrap();
            #[cfg(unix)]
            let path = dir.join(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(name));
            #[cfg(not(unix))]
            let path = dir.join(String::from_utf8_lossy(name).as_ref());
            if std::fs::write(&path, content).is_err() {
                // Where names are Unicode.
                std::fs::remove_dir(&dir).unwrap();
                continue;
            }
            let before = contents(&dir);
            let (code, out, error) = fixture.run(command);
            assert_eq!(code, 6, "{command:?} {path:?}: {out}{error}");
            assert_eq!(contents(&dir), before, "{command:?}");
            std::fs::remove_dir_all(&dir).unwrap();
        }
        // Beside what was left unfinished, and elsewhere.
        for (mark, variable) in
            [(true, None), (false, Some("ECDB_WAL_DIR")), (false, Some("ECDB_ARCHIVE_DIR"))]
        {
            let dir = fixture.path("d");
            std::fs::create_dir(&dir).unwrap();
            let Ok(name) = std::str::from_utf8(name) else {
                std::fs::remove_dir(&dir).unwrap();
                continue;
            };
            if mark {
                std::fs::write(dir.join("UNFINISHED"), "").unwrap();
            }
            std::fs::write(dir.join(name), content).unwrap();
            let before = contents(&dir);
            let mut load = fixture.command(&["load", variable.map_or("d", |_| "new"), "dumped"]);
            if let Some(variable) = variable {
                load.env(variable, &dir);
            }
            let (code, out, error) = told(load.output().unwrap());
            let is_lock = name.starts_with("LOCK");
            let is_left_over = !mark && name == "OWNER.tmp" && content.is_empty();
            let wanted = if is_left_over || (mark && !is_lock) { 0 } else { 6 };
            assert_eq!(code, wanted, "{name} {mark} {variable:?}: {out}{error}");
            assert!(code == 0 || contents(&dir) == before, "{name} {mark} {variable:?}");
            std::fs::remove_dir_all(&dir).unwrap();
            drop(std::fs::remove_dir_all(fixture.path("new")));
        }
    }
}

/// The directories of a database may lie in one another, there yet or not.
#[test]
fn a_new_database_has_directories_in_one_another() {
    let fixture = Fixture::new();
    fixture.ok(&["dump", "world", "--output", "dumped"]);
    let places = ["x", "x/a", "x/a/b", "x/a/b/c", "x/d/e"];
    let seed = std::env::var("ECSDB_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    let mut random = fastrand::Rng::with_seed(seed);
    let cases = std::env::var("ECSDB_CASES").map_or(12, |cases| cases.parse().unwrap());
    for case in 0..cases {
        let mut dirs = places;
        random.shuffle(&mut dirs);
        let [root, log, snapshots, archive, stranger] = dirs;
        if random.bool() {
            let inside = |dir: &str| dir != root && Path::new(dir).starts_with(root);
            for dir in [root, log, snapshots, archive].into_iter().filter(|dir| !inside(dir)) {
                std::fs::create_dir_all(fixture.path(dir)).unwrap();
            }
        }
        let settings = |command: &[&str]| {
            let mut command = fixture.command(command);
            for (variable, dir) in
                [("ECDB_WAL_DIR", log), ("ECDB_SNAPSHOT_DIR", snapshots), ("ECDB_ARCHIVE_DIR", archive)]
            {
                command.env(variable, fixture.path(dir));
            }
            told(command.output().unwrap())
        };
        let at = format!("seed {seed}, case {case}: {dirs:?}");
        // Of somebody else's, on the way to one of them or in it: then it is not empty, whatever else there is.
        let is_refused = random.u32(..3) == 0;
        let is_in_it = [root, log, snapshots, archive].iter().any(|dir| Path::new(stranger).starts_with(dir));
        if is_refused && is_in_it {
            std::fs::create_dir_all(fixture.path(stranger)).unwrap();
            std::fs::write(fixture.path(stranger).join("mine"), "mine").unwrap();
            let before = contents(&fixture.path("x"));
            let (code, out, error) = settings(&["init", root]);
            assert_eq!(code, 6, "{at}: {out}{error}");
            assert_eq!(contents(&fixture.path("x")), before, "{at}");
        } else {
            let command = if random.bool() { &["init", root][..] } else { &["load", root, "dumped"] };
            for dry in [&["--dry-run"][..], &[]] {
                let (code, out, error) = settings(&[command, dry].concat());
                assert_eq!(code, 0, "{at} {command:?}{dry:?}: {out}{error}");
            }
            let (code, out, error) = settings(&["verify", root]);
            assert_eq!(code, 0, "{at} {command:?}: {out}{error}");
        }
        drop(std::fs::remove_dir_all(fixture.path("x")));
    }
}

/// A demonstration makes a database of its own, and goes on with no other one.
#[cfg(unix)]
#[test]
fn a_demo_writes_into_the_database_that_it_has_made() {
    let fixture = Fixture::new();
    fixture.ok(&["dump", "world", "--output", "dumped"]);
    fixture.ok(&["load", "loaded", "dumped"]);
    let wanted = fixture.json(&["hash", "loaded"])["digest"].clone();
    let seed = std::env::var("ECSDB_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut refused, mut loaded) = (0, 0);
    for round in 0..2 {
        let mut demo = piped(fixture.command(&["demo", "--flights", "100", "--kills", "0", "--dir", "X"]));
        // Made by then, or looked at, and the flights are being read.
        match round % 2 {
            0 => wait(&mut demo, || fixture.path("X").exists()),
            _ => std::thread::sleep(Duration::from_millis(random.u64(100..400))),
        }
        let (code, _, error) = fixture.run(&["load", "X", "dumped"]);
        let at = format!("seed {seed}, round {round}: {code} {error}");
        if random.bool() {
            Command::new("kill").args(["-INT", &demo.id().to_string()]).status().unwrap();
        }
        drop(demo.stdin.take());
        let (ended, _, said) = told(demo.wait_with_output().unwrap());
        match code {
            0 => {
                assert!(ended != 0, "{at}: {said}");
                assert_eq!(fixture.json(&["hash", "X"])["digest"], wanted, "{at}: {ended} {said}");
                loaded += 1;
            }
            5 | 6 => refused += 1,
            _ => panic!("{at}: {ended} {said}"),
        }
        assert!([0, 5, 6, 130].contains(&ended), "{at}: {ended} {said}");
        assert_eq!(fixture.path("X").exists(), code == 0 || ended == 0, "{at}: {ended} {said}");
        drop(std::fs::remove_dir_all(fixture.path("X")));
    }
    assert!(refused > 0 && loaded > 0, "seed {seed}: {refused} refused, {loaded} loaded");

    // One that takes its place while it is running is left as it is, by those that go on and by whoever clears up.
    for signal in [None, Some("-INT")] {
        let mut demo = piped(fixture.command(&["demo", "--flights", "5000", "--kills", "50", "--dir", "X"]));
        wait(&mut demo, || fixture.path("X/snapshots/OWNER").exists());
        std::thread::sleep(Duration::from_millis(200));
        std::fs::rename(fixture.path("X"), fixture.path("moved")).unwrap();
        fixture.ok(&["load", "X", "dumped"]);
        let (code, _, error) = match signal {
            Some(_) => interrupt(demo),
            None => told(demo.wait_with_output().unwrap()),
        };
        assert!(code == 1 || code == signal.map_or(1, |_| 130), "{code} {error}");
        assert_eq!(fixture.json(&["hash", "X"])["digest"], wanted);
        std::fs::remove_dir_all(fixture.path("X")).unwrap();
        std::fs::remove_dir_all(fixture.path("moved")).unwrap();
    }
}

/// An export writes into the directory that it has taken, whatever its name leads to by then.
#[cfg(unix)]
#[test]
fn an_export_writes_where_it_began() {
    let fixture = Fixture::new();
    for dir in ["a", "b"] {
        std::fs::create_dir(fixture.path(dir)).unwrap();
    }
    let name = fixture.path("out");
    let turn = |to: &str| {
        drop(std::fs::remove_file(&name));
        std::os::unix::fs::symlink(to, &name).unwrap();
    };
    for round in 0..30 {
        turn("a");
        let mut export = piped(fixture.command(&["export", "world", "--parquet", "out"]));
        let is_begun =
            || fixture.path("a/LOCK").exists() || fixture.path("a/archetype-0000.parquet").exists();
        while !is_begun() && export.try_wait().unwrap().is_none() {}
        turn("b");
        let (code, out, error) = told(export.wait_with_output().unwrap());
        assert_eq!(code, 0, "{round}: {out}{error}");
        assert_eq!(contents(&fixture.path("b")).len(), 0, "{round}");
        assert_eq!(contents(&fixture.path("a")).len(), 3, "{round}");
        std::fs::remove_dir_all(fixture.path("a")).unwrap();
        std::fs::create_dir(fixture.path("a")).unwrap();
    }
}

/// While a copy is written, its directory is removed, or moved, and somebody else makes something of its name: that stays, whether the first
/// one is interrupted or goes on.
#[test]
fn what_has_taken_the_place_of_a_directory_that_is_gone_stays() {
    if !cfg!(unix) {
        return;
    }
    let fixture = Fixture::new();
    let dumped = fixture.ok(&["dump", "world"]);
    std::fs::write(fixture.path("dumped"), &dumped).unwrap();
    let place = fixture.path("d");
    for (command, second) in [
        (&["backup", "world", "d"][..], &["load", "d", "dumped"][..]),
        (&["restore", "world", "d"], &["backup", "world", "d"]),
        (&["load", "d", "dumped"], &["load", "d", "dumped"]),
    ] {
        for (moves, interrupted) in [(false, true), (true, true), (false, false), (true, false)] {
            let mut first = fixture.command(command);
            let rate = if interrupted { "100" } else { "500" };
            first.env("ECDB_SNAPSHOT_BYTES_PER_SECOND_MAX", rate);
            let mut first = piped(first);
            let begun = place.join("snapshots/0000000000000001.snap.tmp");
            wait(&mut first, || begun.exists());
            match moves {
                true => std::fs::rename(&place, fixture.path("moved")).unwrap(),
                false => std::fs::remove_dir_all(&place).unwrap(),
            }
            fixture.ok(second);
            let before = contents(&place);
            let (code, out, error) = match interrupted {
                true => interrupt(first),
                false => ended(first),
            };
            assert_ne!(code, 0, "{command:?} {moves}: {out}{error}");
            assert_eq!(contents(&place), before, "{command:?}, {moves}, {interrupted}: {out}{error}");
            assert_eq!(fixture.ok(&["dump", "d"]).lines().count(), dumped.lines().count());
            std::fs::remove_dir_all(&place).unwrap();
            drop(std::fs::remove_dir_all(fixture.path("moved")));
        }
    }
}
