//! Commands that write: what they leave behind, also when they are interrupted or only say what they would do.

use std::process::Stdio;
use std::time::Duration;

use ecsdb::prelude::*;

use crate::fixture::{Clock, Fixture, Health, Name, files, told};
#[cfg(unix)]
use crate::signals::{SLOW, limited, send};

#[test]
fn init_makes_a_database_once() {
    let fixture = Fixture { dir: tempfile::tempdir().unwrap() };
    assert!(fixture.ok(&["init", "new", "--dry-run"]).contains("would be made"));
    assert!(!fixture.path("new").exists());
    assert_eq!(fixture.json(&["init", "new"])["made"], true);
    assert!(Database::open_existing(fixture.path("new")).unwrap().view().unwrap().is_empty());
    for arguments in [&["init", "new"][..], &["init", "new", "--dry-run"]] {
        let (code, _, error) = fixture.run(arguments);
        assert!(code == 6 && error.contains("new"), "{code} {error}");
    }
}

/// What a kill leaves of a database that was about to be made is no database.
#[test]
fn what_a_killed_init_leaves_is_gone_on_from() {
    for left in
        [&["LOCK"][..], &["LOCK", "LOCK.holder"], &["LOCK", "0000000000000001.manifest.tmp", "ecsdb.toml"]]
    {
        let fixture = Fixture::new();
        fixture.ok(&["dump", "world", "--output", "dumped"]);
        for (name, command) in [
            ("one", &["init", "one"][..]),
            ("two", &["load", "two", "dumped"]),
            ("three", &["init", "three"]),
        ] {
            std::fs::create_dir(fixture.path(name)).unwrap();
            left.iter().for_each(|file| std::fs::write(fixture.path(name).join(file), "").unwrap());
            if name == "three" {
                std::fs::write(fixture.path(name).join("0000000000000001.seg"), "mine").unwrap();
            }
            let before = files(fixture.dir.path());
            let (would, ..) = fixture.run(&[command, &["--dry-run"]].concat());
            assert_eq!(files(fixture.dir.path()), before);
            let (was, _, error) = fixture.run(command);
            assert_eq!(
                (would, was),
                if name == "three" { (6, 6) } else { (0, 0) },
                "{left:?} {command:?}: {error}"
            );
        }
        assert_eq!(fixture.json(&["hash", "two"])["digest"], fixture.json(&["hash", "world"])["digest"]);
        assert!(fixture.path("two/ecsdb.toml").exists() == left.contains(&"ecsdb.toml"));
    }
}

/// Where the disk is full, nothing of what was begun is left. A limit of a file's size stands in for it.
#[cfg(unix)]
#[test]
fn what_there_is_no_room_for_is_not_begun() {
    let fixture = Fixture::new();
    fixture.ok(&["dump", "world", "--output", "dumped"]);
    let before = std::fs::read_dir(fixture.dir.path()).unwrap().count();
    for arguments in ["init new", "load new dumped", "backup world new", "man new"] {
        for blocks in [0, 1, 2, 4] {
            let ecsdb = env!("CARGO_BIN_EXE_ecsdb");
            // Whoever ignores the signal is told by an error.
            let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec '{ecsdb}' {arguments}");
            let done = std::process::Command::new("bash")
                .args(["-c", &script])
                .current_dir(fixture.dir.path())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .output()
                .unwrap();
            let (code, out, error) = told(done);
            if code == 0 {
                let (_, made) = arguments.split_once("new").map(|_| ((), fixture.path("new"))).unwrap();
                std::fs::remove_dir_all(made).unwrap();
                continue;
            }
            let left: Vec<_> = files(fixture.dir.path())
                .into_iter()
                .filter(|(path, ..)| path.starts_with(fixture.path("new")))
                .collect();
            assert_eq!(code, 1, "{arguments} {blocks}: {out}{error}");
            assert_eq!(
                std::fs::read_dir(fixture.dir.path()).unwrap().count(),
                before,
                "{arguments} {blocks}: {left:?} {error}"
            );
        }
    }
}

/// A copy of which the mark alone was not removed yet is whole, to every command.
#[test]
fn a_copy_that_was_finished_is_one_whatever_mark_is_beside_it() {
    let fixture = Fixture::new();
    fixture.ok(&["backup", "world", "copy"]);
    std::fs::write(ecsdb_io::Layout::new(fixture.path("copy")).unfinished_file(), "").unwrap();
    fixture.ok(&["info", "copy"]);
    for command in [&["backup", "world", "copy"][..], &["restore", "world", "copy"], &["init", "copy"]] {
        for dry in [&["--dry-run"][..], &[]] {
            let (code, _, error) = fixture.run(&[command, dry].concat());
            assert_eq!(code, 6, "{command:?} {dry:?}: {error}");
        }
    }
    assert_eq!(fixture.json(&["hash", "copy"])["digest"], fixture.json(&["hash", "world"])["digest"]);
}

#[test]
fn dry_runs_change_nothing_and_say_what_would_be() {
    let fixture = Fixture::new();
    let before = files(fixture.dir.path());
    for (command, what) in [
        (&["snapshot", "world"][..], "a snapshot at LSN 5 would be written"),
        (&["compact", "world"], "would become one full snapshot at LSN 5"),
        (&["restore", "world", "to", "--lsn", "3"], "to would be the database as of LSN 3, "),
        (&["backup", "world", "to"], "as of LSN 5, "),
    ] {
        let command = [command, &["--dry-run"]].concat();
        let text = fixture.ok(&command);
        assert!(text.contains(what), "{command:?}: {text}");
        let told = fixture.json(&command);
        assert_eq!(told["written"], false);
        assert!(told["would_write"] != false, "{command:?}: {told}");
    }
    assert!(
        fixture.ok(&["repair", "world", "--dry-run"]).contains("nothing that had been durable would be lost")
    );
    assert_eq!(files(fixture.dir.path()), before);
}

#[test]
fn a_dry_run_says_whether_there_is_anything_to_write() {
    for is_empty in [true, false] {
        let fixture = match is_empty {
            true => Fixture { dir: tempfile::tempdir().unwrap() },
            false => Fixture::new(),
        };
        if is_empty {
            fixture.ok(&["init", "world"]);
        }
        let mut random = fastrand::Rng::with_seed(7);
        for step in 0..12 {
            if random.bool() {
                let db = Database::open(fixture.path("world")).unwrap();
                db.write(|tx| {
                    if is_empty {
                        tx.insert_resource(Clock(step));
                    } else {
                        tx.spawn(());
                    }
                    Ok(())
                })
                .unwrap();
                db.close().unwrap();
            }
            let command = ["snapshot", "compact"][random.usize(..2)];
            let would = fixture.json(&[command, "world", "--dry-run"]);
            let text = fixture.ok(&[command, "world", "--dry-run"]);
            assert_eq!(
                text.contains("would be written") || text.contains("would become"),
                would["would_write"] == true,
                "{text}"
            );
            let was = fixture.json(&[command, "world"]);
            assert_eq!(
                (&was["written"], &was["given_up"]),
                (&would["would_write"], &would["given_up"]),
                "{step} {command}"
            );
        }
    }
}

#[cfg(unix)]
#[test]
fn what_is_short_is_whole_or_not_begun_when_it_is_interrupted() {
    let fixture = Fixture { dir: tempfile::tempdir().unwrap() };
    let mut random = fastrand::Rng::with_seed(7);
    let pages = fixture.json(&["man", "all"])["pages"].as_u64().unwrap();
    for step in 0..30 {
        let (world, man) = (format!("world-{step}"), format!("man-{step}"));
        for command in [["init", &*world], ["man", &*man]] {
            let mut child = fixture.command(&command).stdout(Stdio::null()).spawn().unwrap();
            std::thread::sleep(Duration::from_micros(random.u64(..25_000)));
            std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
            child.wait().unwrap();
        }
        if fixture.path(&world).exists() {
            let open = Database::open_existing(fixture.path(&world)).unwrap();
            assert_eq!(open.recovery_report().unwrap().incarnation, 2);
        }
        if let Ok(there) = std::fs::read_dir(fixture.path(&man)) {
            assert_eq!(there.count() as u64, pages);
        }
    }
}

#[test]
fn a_moment_is_restored_and_the_last_one_backed_up() {
    let fixture = Fixture::new();
    let restored = fixture.json(&["restore", "world", "to", "--lsn", "2"]);
    assert_eq!((&restored["state"]["lsn"], &restored["written"]), (&2.into(), &true.into()));
    let health = |name: &str| {
        let db = Database::open(fixture.path(name)).unwrap();
        db.view().unwrap().get::<Health>("0v1".parse().unwrap()).unwrap().now
    };
    assert_eq!(health("to"), 100);
    let copied = fixture.json(&["backup", "world", "copy"]);
    assert_eq!(copied["state"]["database"], fixture.json(&["hash", "world"])["state"]["database"]);
    assert_eq!(copied["copy"], fixture.json(&["hash", "copy"])["state"]["database"]);
    assert_eq!(health("copy"), 7);
    let (code, _, error) = fixture.run(&["backup", "world", "copy"]);
    assert!(code == 6 && error.contains("is not empty"), "{code} {error}");
    let (code, _, error) = fixture.run(&["backup", "world", "world/inside"]);
    assert!(code == 2 && !fixture.path("world/inside").exists(), "{code} {error}");
}

#[test]
fn settings_of_another_database_are_refused() {
    let fixture = Fixture::new();
    std::fs::write(fixture.path("other.toml"), "dir = \"elsewhere\"\n").unwrap();
    let (code, _, error) = fixture.run(&["info", "world", "--config", "other.toml"]);
    assert!(code == 2 && error.contains("elsewhere"), "{code} {error}");
    std::fs::write(fixture.path("same.toml"), "[snapshot]\nchain_max = 3\n").unwrap();
    fixture.ok(&["info", "world", "--config", "same.toml"]);
    let shown = fixture.json(&["config", "show", "world", "--config", "same.toml"]);
    assert_eq!(shown["config"]["snapshot"]["chain_max"], 3);
    assert!(fixture.ok(&["config", "show", "world"]).contains("[snapshot]\n"));
}

#[test]
fn completions_and_manual_pages_name_every_command() {
    let fixture = Fixture { dir: tempfile::tempdir().unwrap() };
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = fixture.ok(&["completions", shell]);
        assert!(script.contains("inspect") && script.contains("repair"), "{shell}");
    }
    assert!(fixture.ok(&["man"]).contains(".TH ecsdb"));
    assert!(fixture.json(&["man"])["page"].as_str().unwrap().contains(".TH ecsdb"));
    assert!(fixture.json(&["completions", "bash"])["script"].as_str().unwrap().contains("repair"));
    fixture.ok(&["man", "pages"]);
    for page in ["ecsdb.1", "ecsdb-repair.1", "ecsdb-wal.1", "ecsdb-wal-ls.1"] {
        assert!(std::fs::read_to_string(fixture.path("pages").join(page)).unwrap().contains(".TH"), "{page}");
    }
}

#[test]
fn bench_measures_and_leaves_nothing_behind() {
    let fixture = Fixture { dir: tempfile::tempdir().unwrap() };
    let measured = fixture.json(&["bench", ".", "--seconds", "0.02", "--entities", "1000"]);
    let rows = measured["rows"].as_array().unwrap();
    assert_eq!((rows.len(), &measured["entities"]), (5, &1000.into()));
    assert!(rows.iter().all(|row| row["value"].as_f64().unwrap() > 0.0), "{rows:?}");
    assert_eq!(files(fixture.dir.path()), []);
}

/// A database whose third transaction, of five, is damaged.
fn damaged() -> Fixture {
    let fixture = Fixture::new();
    damage(&fixture.path("world/log/0000000000000001.seg"), |bytes| {
        // In the third transaction: its values are the only 7 with 100 behind it.
        let value = [7, 0, 0, 0, 100, 0, 0, 0];
        let at = bytes.windows(8).position(|window| window == value).unwrap();
        bytes[at] ^= 1;
    });
    fixture
}

fn damage(segment: &std::path::Path, change: impl FnOnce(&mut [u8])) {
    let mut bytes = std::fs::read(segment).unwrap();
    change(&mut bytes);
    std::fs::write(segment, bytes).unwrap();
}

/// REC-16: what is whole is shown, and then what is missing is said.
#[test]
fn the_past_is_shown_up_to_what_is_lost_and_never_over_it() {
    let fixture = damaged();
    for (command, shown) in [
        (&["history", "world", "0v1", "game.health"][..], 1),
        (&["wal", "show", "world"], 2),
        (&["wal", "show", "world", "--from", "2"], 1),
        (&["wal", "tail", "world"], 2),
        (&["wal", "tail", "world", "-n", "1"], 1),
        (&["wal", "show", "world", "--from", "4"], 0),
        (&["diff", "world@1", "world"], 0),
    ] {
        let (code, out, error) = fixture.run(&[command, &["--json"]].concat());
        assert!(code == 4 && error.contains("lost from LSN 3 on"), "{command:?}: {code} {error}");
        assert_eq!(out.lines().count(), shown, "{command:?}: {out}");
    }
    let time = fixture.lines(&["wal", "show", "world", "--to", "2"])[1]["time"].as_str().unwrap().to_string();
    let (code, _, error) = fixture.run(&["restore", "world", "copy", "--time", &time]);
    assert!(code == 4 && error.contains("lost from LSN 3 on"), "{code} {error}");
    assert_eq!(fixture.run(&["diff", "world@1", "world@2"]).0, 8);
}

#[test]
fn damage_has_an_exit_code_of_its_own_and_a_repair_says_what_is_lost() {
    let fixture = damaged();
    let (code, out, error) = fixture.run(&["verify", "world", "--json"]);
    let found: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, found["faults"].as_array().unwrap().len()), (4, 1), "{error}");
    for command in [&["hash", "world"][..], &["inspect", "world"], &["backup", "world", "copy"]] {
        let (code, _, error) = fixture.run(command);
        assert!(code == 4 && error.contains("LSN 3"), "{command:?}: {code} {error}");
    }
    // What is before the damage is there all the same.
    assert_eq!(fixture.json(&["hash", "world", "--lsn", "2"])["state"]["lsn"], 2);
    let would = fixture.json(&["repair", "world", "--dry-run"]);
    assert_eq!((&would["lost"][0]["first"], &would["written"]), (&3.into(), &false.into()));
    let text = fixture.ok(&["repair", "world", "--dry-run"]);
    assert!(text.contains("the state of LSN 2 would be that of LSN 5 from now on"), "{text}");
    assert_eq!(fixture.run(&["hash", "world"]).0, 4);
    let was = fixture.json(&["repair", "world"]);
    let lost = |told: &serde_json::Value| (told["lost"][0]["first"].clone(), told["lost"][0]["last"].clone());
    assert_eq!((lost(&was), &was["data_loss"]), (lost(&would), &"acknowledged".into()));
    // What is left is of LSN 2, and goes by the highest number from then on.
    assert_eq!((&was["last_lsn"], &was["lsn"], &would["lsn"]), (&2.into(), &5.into(), &5.into()));
    assert_eq!(fixture.json(&["hash", "world"])["state"]["lsn"], 5);
    assert_eq!(fixture.ok(&["verify", "world"]).lines().last(), Some("everything verifies"));
    assert!(fixture.json(&["info", "world"])["quarantined"].as_u64().unwrap() > 0);
}

/// Whoever interrupts a repair while it opens the database finds it repaired, and nothing lists again what is lost.
#[cfg(unix)]
#[test]
fn what_a_repair_gives_up_is_told_also_when_it_is_interrupted() {
    for options in [&[][..], &["--json"]] {
        let fixture = Fixture { dir: tempfile::tempdir().unwrap() };
        let db = Database::create_new(fixture.path("world")).unwrap();
        let mut random = fastrand::Rng::with_seed(1);
        let large: String = (0..1_000_000).map(|_| random.alphanumeric()).collect();
        for name in [&large, "one that is lost", "another"] {
            db.write(|tx| Ok(tx.spawn(Name(name.into())))).unwrap();
        }
        db.close().unwrap();
        for (path, ..) in files(&fixture.path("world/log")) {
            damage(&path, |bytes| {
                if let Some(at) = bytes.windows(16).position(|window| window == b"one that is lost") {
                    bytes[at] ^= 1;
                }
            });
        }
        let mut command = fixture.command(&[&["repair", "world"], options].concat());
        command.env(SLOW.0, SLOW.1).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().unwrap();
        let _limit = limited(&child);
        while !fixture.path("world/snapshots/0000000000000001.snap.tmp").exists() {
            std::thread::sleep(Duration::from_millis(5));
        }
        send(&child, "-INT");
        let (code, out, error) = told(child.wait_with_output().unwrap());
        assert!(code == 130 && error.contains("interrupted"), "{code} {out}{error}");
        assert_eq!(fixture.json(&["repair", "world", "--dry-run"])["lost"], serde_json::json!([]));
        let is_told = match options {
            [] => out.contains("LOST LSN 2 to 3"),
            _ => error.contains("{\"warning\":\"what had been acknowledged is lost: LSN 2 to 3"),
        };
        assert!(is_told, "{out}{error}");
    }
}

#[test]
fn a_compaction_counts_what_the_closed_database_takes() {
    let fixture = Fixture::new();
    let taken = || -> u64 {
        let dirs = ["log", "snapshots", "archive"].map(|dir| fixture.path("world").join(dir));
        let all = dirs.iter().filter(|dir| dir.exists()).flat_map(|dir| files(dir));
        let is_data = |path: &std::path::Path| {
            path.extension().is_some_and(|end| end == "seg" || end == "snap" || end == "zst")
        };
        all.filter(|(path, ..)| is_data(path)).map(|(_, bytes, _)| bytes).sum()
    };
    for written in [true, false] {
        let before = taken();
        let told = fixture.json(&["compact", "world"]);
        assert_eq!((&told["written"], &told["bytes_before"]), (&written.into(), &before.into()));
        assert_eq!(told["bytes_after"], taken());
    }
    assert!(fixture.ok(&["compact", "world"]).contains("has everything already, up to LSN 5"));
}

#[test]
fn an_export_that_was_killed_is_taken_up_again() {
    let fixture = Fixture::new();
    fixture.ok(&["export", "world", "--parquet", "tables"]);
    let whole = || {
        let mut names: Vec<String> = files(&fixture.path("tables"))
            .into_iter()
            .map(|(path, ..)| path.file_name().unwrap().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    };
    let names = whole();
    assert!(names.len() > 1 && names.iter().all(|name| name.ends_with(".parquet")), "{names:?}");
    let (code, _, error) = fixture.run(&["export", "world", "--parquet", "tables"]);
    assert!(code == 6 && error.contains("is not empty"), "{error}");
    // What a kill leaves.
    std::fs::write(fixture.path("tables/UNFINISHED.export"), "").unwrap();
    std::fs::write(fixture.path("tables").join(&names[0]), "half").unwrap();
    std::fs::write(fixture.path("tables").join(format!("archetype-{:04}.parquet", names.len())), "").unwrap();
    fixture.ok(&["export", "world", "--parquet", "tables"]);
    assert_eq!(whole(), names);
}

/// As a new directory does it takes no place of anything, whether that was there before or was made meanwhile, and whatever a link leads to.
#[cfg(unix)]
#[test]
fn a_dump_takes_the_place_of_nothing() {
    use rustix::fs::{CWD, Mode, mkfifoat};
    let fixture = Fixture::new();
    std::fs::write(fixture.path("file"), "mine").unwrap();
    std::os::unix::fs::symlink("file", fixture.path("link")).unwrap();
    std::os::unix::fs::symlink("nothing", fixture.path("dangling")).unwrap();
    mkfifoat(CWD, fixture.path("pipe"), Mode::RUSR | Mode::WUSR).unwrap();
    let before = files(fixture.dir.path());
    for name in ["file", "link", "dangling", "pipe"] {
        let (code, out, error) = fixture.run(&["dump", "world", "--output", name]);
        let wanted = format!("error: {name} is there already: something new needs a name of its own\n");
        assert!(code == 6 && out.is_empty() && error == wanted, "{name}: {code} {out}{error}");
    }
    assert_eq!(files(fixture.dir.path()), before);
    // Of two at once, one.
    for round in 0..5 {
        let name = format!("dumped{round}");
        let dump = || {
            let mut command = fixture.command(&["dump", "world", "--output", &name]);
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        };
        let mut codes =
            [dump(), dump()].map(|child| child.wait_with_output().unwrap().status.code().unwrap());
        codes.sort();
        assert_eq!(codes, [0, 6]);
    }
    std::os::unix::fs::symlink("empty", fixture.path("linked")).unwrap();
    std::fs::create_dir(fixture.path("empty")).unwrap();
    fixture.ok(&["dump", "world", "--output", "linked/new"]);
    assert_eq!(std::fs::read_to_string(fixture.path("empty/new")).unwrap(), fixture.ok(&["dump", "world"]));
}

/// What can be told of an archive is asked before the database is opened, by which its files change.
#[test]
fn what_is_refused_for_its_archive_changes_nothing() {
    let fixture = Fixture::new();
    std::fs::write(fixture.path("world/archive"), "mine").unwrap();
    for command in ["snapshot", "compact", "repair"] {
        for more in [&[][..], &["--dry-run"]] {
            let before = files(fixture.dir.path());
            let (code, out, error) = fixture.run(&[&[command, "world"], more].concat());
            let is_told = error.contains("cannot list directory") && error.lines().count() == 1;
            assert!(code == 1 && out.is_empty() && is_told, "{command}: {code} {out}{error}");
            assert_eq!(files(fixture.dir.path()), before, "{command} {more:?}");
        }
    }
}
