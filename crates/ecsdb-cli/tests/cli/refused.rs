//! A command that is refused has changed nothing, wherever the settings say that the directories are.

use std::path::Path;

use ecsdb::prelude::*;

use crate::fixture::{Clock, Fixture, files};
use crate::settings::with;

/// A database with two snapshots, and log that went to the archive; and directories that are none of its.
fn places() -> Fixture {
    let fixture = Fixture::new();
    for _ in 0..2 {
        let db = Database::builder(fixture.path("world")).keep_all().open().unwrap();
        db.write(|tx| {
            tx.insert_resource(Clock(1));
            Ok(())
        })
        .unwrap();
        db.snapshot().unwrap().wait().unwrap();
        db.close().unwrap();
    }
    assert!(fixture.path("world/archive").exists());
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
