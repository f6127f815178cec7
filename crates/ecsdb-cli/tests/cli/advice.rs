//! What `verify` advises: each kind of damage, and of what is no damage, has what can be done about it.

use std::path::PathBuf;

use crate::fixture::{Fixture, told};

/// The files of a directory with such names, in their order.
fn files(fixture: &Fixture, dir: &str, ending: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(fixture.path(dir)).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.to_string_lossy().ends_with(ending));
    paths.sort();
    paths
}

fn flip(path: &PathBuf) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[100] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

/// A database with a snapshot and some log behind it.
fn world() -> Fixture {
    let fixture = Fixture::new();
    fixture.ok(&["snapshot", "world"]);
    fixture.ok(&["repair", "world"]);
    fixture
}

/// Another database, whose newest manifest has a higher number.
fn other(fixture: &Fixture) {
    drop(fixture.open("other"));
    for _ in 0..4 {
        fixture.ok(&["repair", "other"]);
    }
}

#[test]
fn a_damaged_older_manifest_is_set_aside_by_a_snapshot() {
    let fixture = world();
    flip(&files(&fixture, "world", ".manifest")[0]);
    let (code, _, error) = fixture.run(&["verify", "world"]);
    assert!(code == 4 && error.contains("`ecsdb snapshot` sets it aside"), "{error}");
    assert!(!error.contains("nothing to repair"), "{error}");
    fixture.ok(&["snapshot", "world"]);
    fixture.ok(&["verify", "world"]);
}

#[test]
fn an_empty_directory_may_be_the_wrong_one() {
    let fixture = world();
    std::fs::remove_dir_all(fixture.path("world/log")).unwrap();
    let (code, out, error) = fixture.run(&["verify", "world"]);
    assert!(code == 4 && out.contains("DAMAGED") && error.contains("Nothing is in"), "{out}{error}");
}

#[test]
fn the_segment_of_another_database_is_to_be_moved() {
    let fixture = world();
    other(&fixture);
    let (own, stranger) = (files(&fixture, "world/log", ".seg"), files(&fixture, "other/log", ".seg"));
    std::fs::copy(&stranger[0], own.last().unwrap()).unwrap();
    let (code, out, error) = fixture.run(&["verify", "world"]);
    assert!(code == 4 && out.contains("belongs to database"), "{out}{error}");
    assert!(error.contains("move it elsewhere") && !error.contains("go on with"), "{error}");
}

#[test]
fn the_manifest_of_another_database_is_told_and_no_damage() {
    let fixture = world();
    other(&fixture);
    let stranger = files(&fixture, "other", ".manifest").pop().unwrap();
    let place = fixture.path("world").join(stranger.file_name().unwrap());
    assert!(place > files(&fixture, "world", ".manifest").pop().unwrap());
    std::fs::copy(stranger, &place).unwrap();
    assert!(fixture.ok(&["verify", "world"]).contains("left alone"));
    let told = fixture.json(&["verify", "world"]);
    assert_eq!(told["left_alone"].as_array().map(Vec::len), Some(1), "{told}");
    assert!(fixture.ok(&["repair", "world"]).contains("left alone"));
}

#[test]
fn where_nothing_is_left_a_repair_is_not_advised() {
    let fixture = world();
    for dir in ["world/log", "world/snapshots"] {
        std::fs::remove_dir_all(fixture.path(dir)).unwrap();
    }
    files(&fixture, "world", ".manifest").iter().for_each(flip);
    for command in ["verify", "repair"] {
        let (code, _, error) = fixture.run(&[command, "world"]);
        assert!(code == 4 && !error.contains("ecsdb repair") && error.contains("backup"), "{error}");
    }
}

#[cfg(unix)]
#[test]
fn a_link_to_itself_is_listed_like_any_other_damage() {
    let fixture = world();
    let snapshot = files(&fixture, "world/snapshots", ".snap").remove(0);
    std::fs::remove_file(&snapshot).unwrap();
    std::os::unix::fs::symlink(&snapshot, &snapshot).unwrap();
    let (code, out, error) = fixture.run(&["verify", "world"]);
    assert!(code == 4 && out.contains("snapshots") && out.contains("DAMAGED"), "{out}{error}");
}

/// What is not there is called as it was: an archive has compressed segments, or plain ones.
#[test]
fn what_is_gone_of_an_archive_is_named_as_it_was() {
    for level in ["0", "3"] {
        let fixture = Fixture::new();
        let archiving = |arguments: &[&str]| {
            let mut command = fixture.command(arguments);
            command.env("ECDB_ARCHIVE_ENABLED", "true").env("ECDB_ARCHIVE_COMPRESSION_LEVEL", level);
            told(command.output().unwrap())
        };
        for _ in 0..2 {
            assert_eq!(archiving(&["compact", "world"]).0, 0);
        }
        let mut archived = files(&fixture, "world/archive", ".seg");
        archived.append(&mut files(&fixture, "world/archive", ".seg.zst"));
        let last = archived.last().unwrap().file_name().unwrap().to_owned();
        archived.iter().for_each(|path| std::fs::remove_file(path).unwrap());
        let (code, out, error) = archiving(&["wal", "show", "world"]);
        let wanted = format!("{} is not there", last.display());
        assert!(code == 4 && error.trim_end().ends_with(&wanted), "{wanted}: {code} {out}{error}");
    }
}

/// One of two manifests that is gone is told, whichever it is; where there was never more than one, as in a copy, none is. The next opening writes two.
#[test]
fn a_manifest_that_is_gone_is_told() {
    let fixture = Fixture::new();
    fixture.ok(&["snapshot", "world"]);
    fixture.ok(&["backup", "world", "copy"]);
    fixture.ok(&["init", "new"]);
    let lacks = |name: &str| {
        let found = ["info", "verify"].map(|command| {
            let told = fixture.ok(&[command, name]).contains("there is one, where there were two");
            assert_eq!(fixture.json(&[command, name])["lacks_manifest"], told, "{command} {name}");
            told
        });
        assert_eq!(found[0], found[1], "{name}");
        found[0]
    };
    assert_eq!(["world", "copy", "new"].map(lacks), [false; 3]);
    for which in [0, 1] {
        let manifests = files(&fixture, "world", ".manifest");
        assert_eq!(manifests.len(), 2);
        std::fs::remove_file(&manifests[which]).unwrap();
        assert!(lacks("world"));
        fixture.ok(&["repair", "world"]);
        assert!(!lacks("world"));
    }
    for name in ["copy", "new"] {
        fixture.ok(&["repair", name]);
        assert!(!lacks(name), "{name}");
    }
}
