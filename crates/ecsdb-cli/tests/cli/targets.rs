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
    std::fs::create_dir(fixture.path("empty")).unwrap();
    let before = files(fixture.dir.path());
    for (command, wanted, what) in [
        (&["backup", "world", "file"][..], 6, "file is there, and no directory"),
        (&["backup", "world", "file/new"], 6, "is below something that is no directory"),
        (&["load", "file", "dumped"], 6, "no directory"),
        (&["export", "world", "--parquet", "file"], 6, "no directory"),
        (&["demo", "--dir", "world"], 6, "world is not empty"),
        (&["dump", "world", "--output", "."], 2, "is around the database itself"),
        (&["dump", "world", "--output", "file"], 6, "file is there already"),
        (&["dump", "world", "--output", "empty"], 6, "empty is there already"),
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

/// Beside what was left unfinished there may be anything, a file of the name of a directory, too: what would be made around it could not be read.
#[test]
fn a_file_where_a_directory_of_a_database_is_to_be_is_refused() {
    let fixture = Fixture::new();
    fixture.ok(&["dump", "world", "--output", "dumped"]);
    for name in ["log", "snapshots", "archive", "recovery"] {
        for unfinished in [false, true] {
            std::fs::create_dir(fixture.path("new")).unwrap();
            std::fs::write(fixture.path("new").join(name), "mine").unwrap();
            if unfinished {
                std::fs::write(fixture.path("new/UNFINISHED"), "").unwrap();
            }
            let before = files(&fixture.path("new"));
            for command in [
                &["backup", "world", "new"][..],
                &["backup", "world", "new", "--dry-run"],
                &["restore", "world", "new"],
                &["load", "new", "dumped"],
                &["load", "new", "dumped", "--dry-run"],
                &["init", "new"],
            ] {
                let (code, out, error) = fixture.run(command);
                let told = error.contains(&format!("new/{name} is there, and no directory"))
                    || (!unfinished && error.contains("new is not empty"));
                assert!(
                    code == 6 && told && error.lines().count() == 1,
                    "{command:?} {name}: {code} {out}{error}"
                );
                assert_eq!(files(&fixture.path("new")), before, "{command:?}");
            }
            std::fs::remove_dir_all(fixture.path("new")).unwrap();
        }
    }
}

/// By whatever name, as long as the system makes it by that.
#[test]
fn a_new_directory_may_be_named_by_its_own_entry() {
    let fixture = Fixture::new();
    fixture.ok(&["dump", "world", "--output", "dumped"]);
    for (i, end) in ["/.", "/", "/./", "/deep/.", "/././."].iter().enumerate() {
        let to = |j| format!("new{i}{j}{end}");
        for command in [
            &["man", &to(0)][..],
            &["init", &to(1)],
            &["backup", "world", &to(2)],
            &["restore", "world", &to(3)],
            &["load", &to(4), "dumped"],
            &["export", "world", "--parquet", &to(5)],
        ] {
            fixture.ok(command);
        }
    }
    // One of a file is none.
    for end in ["/.", "/"] {
        let (code, out, error) = fixture.run(&["dump", "world", "--output", &format!("file{end}")]);
        assert!(
            code == 2 && error.contains("names a directory") && !fixture.path("file").exists(),
            "{code} {out}{error}"
        );
    }
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

/// What is left of an attempt that was killed, locks of somebody at work, directories in which something else is in a file's place: a dry run has
/// the exit code and the words of the real one, and neither changes anything that it refuses.
#[test]
fn a_dry_run_refuses_what_the_real_one_does() {
    let fixture = Fixture::new();
    fixture.ok(&["dump", "world", "--output", "dumped"]);
    let to = fixture.path("to");
    let dir = |name: &str| std::fs::create_dir_all(to.join(name)).unwrap();
    let file = |name: &str| std::fs::write(to.join(name), "").unwrap();
    let mut refused = 0;
    for kind in 0..12 {
        for command in [
            &["restore", "world", "to"][..],
            &["backup", "world", "to"],
            &["load", "to", "dumped"],
            &["init", "to"],
        ] {
            dir("");
            if kind < 7 {
                file("UNFINISHED");
            }
            match kind {
                0 => file("log"),
                1 => file("snapshots"),
                2 => dir("snapshots/0000000000000001.snap"),
                3 => dir("UNFINISHED.export"),
                4 => file("LOCK"),
                #[cfg(unix)]
                5 => std::os::unix::fs::symlink("nowhere", to.join("log")).unwrap(),
                6 => dir("LOCK"),
                7 => dir("UNFINISHED"),
                8 => file("LOCK"),
                9 => file("mine"),
                10 => file("0000000000000002.manifest.tmp"),
                _ => {}
            }
            let lock = [4, 8].contains(&kind).then(|| {
                let lock = std::fs::File::open(to.join("LOCK")).unwrap();
                lock.try_lock().unwrap();
                lock
            });
            let before = files(&to);
            let dry = fixture.run(&[command, &["--dry-run"]].concat());
            assert_eq!(files(&to), before, "{kind} {command:?}");
            let real = fixture.run(command);
            assert_eq!((dry.0, &dry.2), (real.0, &real.2), "{kind} {command:?}");
            if lock.is_some() {
                assert_eq!(real.0, 5, "{kind} {command:?}: {}", real.2);
            }
            if real.0 != 0 {
                let names = |all: &[(_, u64, _)]| {
                    all.iter().map(|(path, ..): &(std::path::PathBuf, _, _)| path.clone()).collect::<Vec<_>>()
                };
                assert_eq!(names(&files(&to)), names(&before), "{kind} {command:?}: {}", real.2);
                refused += 1;
            }
            drop(lock);
            std::fs::remove_dir_all(&to).unwrap();
        }
    }
    assert!(refused > 20, "{refused}");
}

/// A directory that is given up stays where it was, and one that cannot be named is none.
#[test]
fn a_place_is_named_as_the_system_finds_it() {
    let fixture = Fixture::new();
    let before = files(fixture.dir.path());
    for command in [
        &["restore", "world", "nowhere/../to"][..],
        &["backup", "world", "nowhere/below/../../to"],
        &["export", "world", "--parquet", "nowhere/../to"],
        &["init", "nowhere/../to"],
        &["dump", "world", "--output", "nowhere/../to"],
        &["man", "nowhere/../to"],
    ] {
        let (code, out, error) = fixture.run(command);
        assert!(code == 3 && error.contains("is no directory"), "{command:?}: {code} {out}{error}");
    }
    for side in ["", "@3"] {
        let (code, _, error) = fixture.run(&["diff", side, "world"]);
        assert!(code == 2 && error.contains("has no name"), "{code} {error}");
    }
    assert_eq!(files(fixture.dir.path()), before);
    fixture.ok(&["restore", "world", "world/../to"]);
    fixture.ok(&["info", "to"]);
}

#[cfg(unix)]
#[test]
fn pages_that_are_there_stay_where_new_ones_cannot_be_written() {
    use std::os::unix::fs::PermissionsExt;
    let fixture = Fixture::new();
    fixture.ok(&["man", "pages"]);
    let mode = std::fs::metadata(fixture.path("pages/ecsdb.1")).unwrap().permissions().mode();
    assert_eq!(mode & 0o444, 0o444, "everybody may read them");
    std::fs::write(fixture.path("pages/ecsdb-info.1"), "mine").unwrap();
    let before = files(&fixture.path("pages"));
    // The first page is shorter than that, and the last one is not.
    let (code, error) = limited(&fixture, 1, &["man", "pages"]);
    assert!(code == 1 && error.contains("File too large"), "{code} {error}");
    assert_eq!(files(&fixture.path("pages")), before);
    fixture.ok(&["man", "pages"]);
    std::fs::write(fixture.path("file"), "mine").unwrap();
    std::os::unix::fs::symlink("nowhere", fixture.path("link")).unwrap();
    for to in ["file/pages", "link", "link/pages"] {
        let (code, _, error) = fixture.run(&["man", to]);
        assert_eq!(code, 6, "{error}");
    }
}

/// A command whose files may have no more than so many KiB.
#[cfg(unix)]
fn limited(fixture: &Fixture, kib: u64, command: &[&str]) -> (i32, String) {
    let mut limited = std::process::Command::new("bash");
    let script = format!("ulimit -f {kib}; exec \"$0\" \"$@\"");
    limited.args(["-c", &script, env!("CARGO_BIN_EXE_ecsdb")]).args(command);
    let output = limited
        .current_dir(fixture.dir.path())
        .env("TMPDIR", fixture.dir.path())
        .env_remove("RUST_BACKTRACE")
        .output()
        .unwrap();
    let (code, _, error) = told(output);
    (code, error)
}

/// The size of files is limited (`ulimit -f`): that is a full disk, and leaves nothing half.
#[cfg(unix)]
#[test]
fn a_file_that_may_not_grow_is_an_error_and_no_end() {
    let fixture = Fixture::new();
    fixture.ok(&["dump", "world", "--output", "dumped"]);
    for command in [
        &["restore", "world", "to"][..],
        &["backup", "world", "to"],
        &["load", "to", "dumped"],
        &["init", "to"],
        &["init", "to", "--dry-run"],
        &["export", "world", "--parquet", "to"],
        &["dump", "world", "--output", "to"],
        &["compact", "world", "--dry-run"],
    ] {
        let before = files(fixture.dir.path());
        let (code, error) = limited(&fixture, 0, command);
        assert!(code == 1 && error.contains("File too large"), "{command:?}: {code} {error}");
        assert_eq!(error.lines().count(), 1, "{command:?}: {error}");
        let names = |all: Vec<(std::path::PathBuf, u64, _)>| {
            all.into_iter().map(|(path, bytes, _)| (path, bytes)).collect::<Vec<_>>()
        };
        assert_eq!(names(files(fixture.dir.path())), names(before), "{command:?}");
    }
}

#[test]
fn what_is_wrong_with_the_directory_for_temporary_files_is_said_to_be_its_fault() {
    let fixture = Fixture::new();
    for command in [&["repair", "world", "--dry-run"][..], &["backup", "world", "to", "--dry-run"]] {
        let nowhere = fixture.path("nowhere");
        let (code, _, error) = told(fixture.command(command).env("TMPDIR", &nowhere).output().unwrap());
        if cfg!(unix) {
            let says = error.contains("nowhere (TMPDIR): ") && error.contains("os error");
            assert!(code == 1 && says, "{command:?}: {code} {error}");
        }
    }
    #[cfg(unix)]
    {
        let (code, error) = limited(&fixture, 0, &["compact", "world", "--dry-run"]);
        assert!(code == 1 && error.contains("/ecsdb-dry-run-"), "{code} {error}");
    }
}
