//! A command that is refused has changed nothing, wherever the settings say that the directories are.

use std::path::{Path, PathBuf};

use ecsdb::prelude::*;

use crate::fixture::{Clock, Fixture, files};
use crate::settings::with;

/// A database with snapshots, and log that went to the archive; and directories that are none of its.
fn places() -> Fixture {
    let fixture = Fixture::new();
    for _ in 0..4 {
        let db = Database::builder(fixture.path("world")).keep_all().open().unwrap();
        db.write(|tx| {
            tx.insert_resource(Clock(1));
            Ok(())
        })
        .unwrap();
        db.compact().unwrap().wait().unwrap();
        db.close().unwrap();
    }
    let is_segment = |(path, ..): (PathBuf, _, _)| path.extension().is_some_and(|of| of == "seg");
    assert!(files(&fixture.path("world/archive")).into_iter().any(is_segment));
    std::fs::create_dir(fixture.path("empty")).unwrap();
    std::fs::create_dir(fixture.path("used")).unwrap();
    std::fs::write(fixture.path("used/mine"), "mine").unwrap();
    fixture.ok(&["init", "other"]);
    fixture
}

#[test]
fn a_change_that_is_refused_for_a_wrong_directory_leaves_nothing_there() {
    let mut fixture = places();
    let mut refused = 0;
    for variable in ["ECDB_SNAPSHOT_DIR", "ECDB_WAL_DIR", "ECDB_ARCHIVE_DIR"] {
        for dir in ["empty", "used", "used/deep/er", "used/mine", "other/log", "other/snapshots"] {
            let mut path = fixture.path(dir).display().to_string();
            for command in [
                &["snapshot", "world"][..],
                &["snapshot", "world", "--dry-run"],
                &["compact", "world"],
                &["compact", "world", "--dry-run"],
                &["repair", "world", "--dry-run"],
            ] {
                let before = files(fixture.dir.path());
                let (code, out, error) = with(&fixture, &[(variable, &path)], command);
                // What is done may change something, and is no part of this: the archive is nothing that it needs.
                if code == 0 && !command.contains(&"--dry-run") {
                    assert_eq!(variable, "ECDB_ARCHIVE_DIR", "{dir} {command:?}: {out}{error}");
                    fixture = places();
                    path = fixture.path(dir).display().to_string();
                    continue;
                }
                refused += i32::from(code != 0);
                let mut after = files(fixture.dir.path());
                // Whoever reads what its own log has has it locked meanwhile; and an archive is needed by none, until a compaction cannot do without.
                let (world, holder) = (fixture.path("world"), fixture.path("world/LOCK.holder"));
                let may = |path: &Path| {
                    path == holder || (variable == "ECDB_ARCHIVE_DIR" && path.starts_with(&world))
                };
                after.retain(|file| !may(&file.0) && !before.contains(file));
                assert!(after.is_empty(), "{variable} {dir} {command:?}: {code} {error}: {after:?}");
            }
        }
    }
    assert!(refused > 40, "{refused}");
    // It is the directory that is wrong.
    let path = fixture.path("empty").display().to_string();
    let (code, _, error) = with(&fixture, &[("ECDB_SNAPSHOT_DIR", &path)], &["snapshot", "world"]);
    assert!(code == 3 && error.starts_with("error: the snapshots are away: none of them is in "), "{error}");
    // By a salvage somebody says that they are gone.
    let salvage = [("ECDB_SNAPSHOT_DIR", &*path), ("ECDB_RECOVERY_POLICY", "salvage")];
    let (code, out, error) = with(&fixture, &salvage, &["snapshot", "world"]);
    assert_eq!(code, 0, "{out}{error}");
}

/// Nobody has said of an archive that it is wanted, but that it keeps what nobody gives up: one that is not mounted is none to go on in.
#[test]
fn an_archive_that_is_away_has_no_other_one_in_its_place() {
    for command in [&["snapshot", "world"][..], &["compact", "world"], &["repair", "world"]] {
        let fixture = places();
        let moments = || {
            let moments = &fixture.json(&["info", "world"])["moments"];
            [moments["first"]["lsn"].clone(), moments["last"]["lsn"].clone()]
        };
        let before = moments();
        let path = fixture.path("empty").display().to_string();
        let (_, _, error) = with(&fixture, &[("ECDB_ARCHIVE_DIR", &path)], command);
        assert!(error.contains(&format!("the archive in {path} is away")), "{command:?}: {error}");
        assert_eq!(std::fs::read_dir(&path).unwrap().count(), 0, "{command:?}");
        // Once it is mounted again, all is as it was.
        fixture.ok(command);
        assert_eq!(moments(), before, "{command:?}");
        assert_eq!(fixture.json(&["verify", "world"])["faults"], serde_json::json!([]), "{command:?}");
    }
}

/// Whatever may be done with it.
#[cfg(unix)]
#[test]
fn a_file_in_the_place_of_a_directory_is_said_to_be_none() {
    use std::os::unix::fs::PermissionsExt;
    let fixture = places();
    let path = fixture.path("used/mine").display().to_string();
    for mode in [0o644, 0o755] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        for variable in ["ECDB_SNAPSHOT_DIR", "ECDB_WAL_DIR", "ECDB_ARCHIVE_DIR"] {
            for command in ["snapshot", "compact", "repair"] {
                let (code, _, error) = with(&fixture, &[(variable, &path)], &[command, "world"]);
                let at = format!("{variable} {command} {mode:o}: {code} {error}");
                assert!(code == 1 && error.to_lowercase().contains("not a directory"), "{at}");
            }
        }
    }
}

/// REC-14: whoever only looks at what the log and the snapshots have needs no archive.
#[test]
fn an_archive_that_cannot_be_listed_stops_nobody_who_reads() {
    let fixture = places();
    let archive = fixture.path("world/archive");
    std::fs::rename(&archive, fixture.path("away")).unwrap();
    std::fs::write(&archive, "mine").unwrap();
    for command in ["info", "inspect", "hash", "dump", "query", "verify"] {
        fixture.ok(&[command, "world"]);
    }
    let (code, listed, _) = with(&fixture, &[], &["wal", "ls", "world"]);
    assert_eq!((code, listed.contains("MISSING")), (4, true), "{listed}");
    let away = fixture.json(&["info", "world"])["away"].clone();
    assert_eq!(away, serde_json::json!([archive.display().to_string()]));
}
