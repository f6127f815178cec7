//! Where the directories of a database are, by the file of settings that is named, by the environment, and by what is said in the call.

use std::path::Path;

use serde_json::json;

use crate::fixture::{Fixture, files};
use crate::settings::{ok, with};

#[test]
fn a_new_database_lies_where_every_command_looks_for_it() {
    let fixture = Fixture::new();
    fixture.ok(&["dump", "world", "--output", "dumped"]);
    for (i, make) in [["init", "new"].as_slice(), &["load", "new", "dumped"]].into_iter().enumerate() {
        let root = fixture.dir.path().canonicalize().unwrap();
        let log = root.join(format!("log{i}/deep")).display().to_string();
        let environment = [("ECDB_WAL_DIR", &*log), ("ECDB_SNAPSHOT__DIR", "snaps")];
        ok(&fixture, &environment, make);
        assert!(Path::new(&log).join("OWNER").exists() && !fixture.path("new/log").exists());
        for command in [&["info", "new"][..], &["verify", "new"], &["snapshot", "new"], &["hash", "new"]] {
            ok(&fixture, &environment, command);
        }
        for name in ["new", "snaps"] {
            std::fs::remove_dir_all(fixture.path(name)).unwrap();
        }
        // By a file, too.
        std::fs::write(fixture.path("other.toml"), "dir = \"new\"\n[wal]\ndir = \"fast\"\n").unwrap();
        let file = &["--config", "other.toml"];
        fixture.ok(&[make, file].concat());
        fixture.ok(&[&["hash", "new"], &file[..]].concat());
        assert!(fixture.path("fast/OWNER").exists());
        for name in ["new", "fast"] {
            std::fs::remove_dir_all(fixture.path(name)).unwrap();
        }
        // A wrong variable, and the place of another database, make none.
        let others = fixture.path("world/log").display().to_string();
        let before = files(fixture.dir.path());
        for (variable, wanted) in [(("ECDB_WAL_FLUSH_INTERVAL", "soon"), 2), (("ECDB_WAL_DIR", &*others), 1)]
        {
            let (code, out, error) = with(&fixture, &[variable], make);
            assert!(
                code >= wanted && !fixture.path("new").exists(),
                "{make:?} {variable:?}: {code} {out}{error}"
            );
        }
        assert_eq!(files(fixture.dir.path()), before);
    }
}

#[test]
fn a_copy_that_the_environment_would_hide_says_so() {
    let fixture = Fixture::new();
    let log = fixture.path("L").display().to_string();
    std::fs::rename(fixture.path("world/log"), &log).unwrap();
    let environment = [("ECDB_WAL_DIR", &*log)];
    for command in [&["backup", "world", "copy"][..], &["restore", "world", "restored", "--lsn", "3"]] {
        let (code, _, error) = with(&fixture, &environment, command);
        assert!(
            code == 0 && error.starts_with("warning: ECDB_WAL_DIR in the environment is not "),
            "{code} {error}"
        );
        fixture.ok(&["info", command[2]]);
    }
    let (code, _, error) = with(&fixture, &[("ECDB_DIR", "copy")], &["backup", "copy", "again"]);
    assert!(code == 0 && error.starts_with("warning: ECDB_DIR in the environment is not "), "{code} {error}");
}

#[test]
fn whoever_names_another_database_is_refused_and_names_of_one_place_are_one() {
    let fixture = Fixture::new();
    let world = fixture.path("world").display().to_string();
    for file in [false, true] {
        if file {
            std::fs::write(fixture.path("world/ecsdb.toml"), "").unwrap();
        }
        for (dir, wanted) in [("other", 2), ("other/../world", 0), (".", 2), ("./world", 0), (&*world, 0)] {
            for command in [&["info", "world"][..], &["config", "check", "world"]] {
                let (code, _, error) = with(&fixture, &[("ECDB_DIR", dir)], command);
                let why = format!("of the database in {dir}, not of that in world");
                assert!(code == wanted && error.contains(&why) == (wanted == 2), "{dir} {code} {error}");
            }
        }
    }
    // By way of a directory that is there, to one that is not there yet.
    std::fs::create_dir(fixture.path("conf")).unwrap();
    std::fs::write(fixture.path("conf/new.toml"), "dir = \"../new\"\n[wal]\ndir = \"../new-log\"\n").unwrap();
    fixture.ok(&["init", "new", "--config", "conf/new.toml"]);
    assert!(fixture.path("new-log/0000000000000001.seg").exists());
    fixture.ok(&["info", "new", "--config", "conf/new.toml"]);
}

/// A file that names no `dir` is one for the database that is named beside it, and not for one in the file's own directory.
#[test]
fn directories_of_a_file_elsewhere_are_those_that_an_opening_uses() {
    let fixture = Fixture::new();
    let file = |text: &str| std::fs::write(fixture.path("conf/w.toml"), text).unwrap();
    std::fs::create_dir(fixture.path("conf")).unwrap();
    // Beside the file, and nothing of the database's.
    for dir in ["log", "snapshots", "archive"] {
        let other = if dir == "snapshots" { "wal" } else { "snapshot" };
        file(&format!("{other}.dir = \"{dir}\""));
        fixture.ok(&["init", "new", "--config", "conf/w.toml"]);
        let shown = fixture.json(&["config", "show", "new", "--config", "conf/w.toml"])["config"].clone();
        let is_in = |dir: &str| json!(fixture.path(dir).canonicalize().unwrap());
        assert_eq!((&shown["dir"], &shown[other]["dir"]), (&is_in("new"), &is_in(&format!("conf/{dir}"))));
        for name in ["new", "conf"] {
            std::fs::remove_dir_all(fixture.path(name)).unwrap();
        }
        std::fs::create_dir(fixture.path("conf")).unwrap();
    }
    // The database's own, by another name, and it says where it is written.
    file("\nsnapshot.dir = \"../world/log\"");
    for command in [&["info", "world"][..], &["verify", "world"], &["init", "world", "--dry-run"]] {
        let (code, _, error) = fixture.run(&[command, &["--config", "conf/w.toml"]].concat());
        assert!(
            code == 2 && error.contains("conf/w.toml:2:") && error.contains("which is wal.dir, too"),
            "{error}"
        );
    }
    // One that is said is not the one that is named.
    file("dir = \".\"");
    let (code, _, error) = fixture.run(&["info", "world", "--config", "conf/w.toml"]);
    assert!(code == 2 && error.contains("of the database in conf/., not of that in world"), "{error}");
}

/// It makes what every command finds once the environment is as it says, and goes by no setting.
#[test]
fn a_demo_says_that_the_environment_names_other_places_than_its_own() {
    let fixture = Fixture { dir: tempfile::tempdir().unwrap() };
    let usual = fixture.path("usual");
    let demo = ["demo", "--kills", "0", "--flights", "20", "--dir", "usual"];
    let names = ["ECDB_DIR", "ECDB_WAL_DIR", "ECDB_SNAPSHOT_DIR", "ECDB_ARCHIVE_DIR"];
    let elsewhere = names.map(|name| fixture.path(name).display().to_string());
    let environment: Vec<(&str, &str)> = names.into_iter().zip(elsewhere.iter().map(|dir| &**dir)).collect();
    let (code, _, error) = with(&fixture, &environment, &demo);
    let warned = |name: &str| error.contains(&format!("warning: {name} in the environment is not "));
    assert!(code == 0 && names.into_iter().all(warned) && error.lines().count() == 4, "{code} {error}");
    fixture.ok(&["verify", "usual"]);
    std::fs::remove_dir_all(&usual).unwrap();
    // What is wrong there otherwise is nothing to it.
    let environment = [("ECDB_DIR", usual.to_str().unwrap()), ("ECDB_RECOVERY_THREADS", "many")];
    let (code, _, error) = with(&fixture, &environment, &demo);
    assert!(code == 0 && error.is_empty(), "{code} {error}");
    std::fs::remove_dir_all(&usual).unwrap();
    assert!(elsewhere.iter().all(|dir| !Path::new(dir).exists()));
    // Its settings are the defaults: a file of others is no place for it.
    std::fs::create_dir(&usual).unwrap();
    std::fs::write(usual.join("ecsdb.toml"), "").unwrap();
    let (code, _, error) = fixture.run(&demo);
    assert!(code == 6 && error.contains("usual is not empty"), "{code} {error}");
}
