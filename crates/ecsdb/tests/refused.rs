//! An opening that is refused leaves nothing: in directories that are the wrong ones, or not mounted, least of all.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ecsdb::prelude::*;
use ecsdb_io::{DirLock, Disk, Layout, LockKind, Vfs};

/// Every file below a directory with its content, and every directory.
fn contents(dir: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            contents(&path, found);
            found.insert(path, Vec::new());
        } else {
            found.insert(path.clone(), std::fs::read(path).unwrap());
        }
    }
}

/// What there is under the name of one of a database's directories.
#[derive(Debug, Clone, Copy, PartialEq)]
enum There {
    /// Within the database's own.
    Default,
    Nothing,
    Empty,
    Stranger,
    /// The directory of another database.
    Other,
    /// Files of another database, which does not say that they are.
    Unmarked,
    File,
    /// It cannot be locked.
    Unlockable,
    Held,
}

const ALL: [There; 9] = [
    There::Default,
    There::Nothing,
    There::Empty,
    There::Stranger,
    There::Other,
    There::Unmarked,
    There::File,
    There::Unlockable,
    There::Held,
];

/// Makes it, and gives the directory to be named, and a lock that is held meanwhile.
fn make(there: There, path: PathBuf, other: &Path) -> (Option<PathBuf>, Option<Arc<dyn DirLock>>) {
    let mut held = None;
    match there {
        There::Default => return (None, None),
        There::Nothing => return (Some(path.join("deep")), None),
        There::File => std::fs::write(&path, "mine").unwrap(),
        _ => std::fs::create_dir(&path).unwrap(),
    }
    match there {
        There::Stranger => std::fs::write(path.join("mine"), "mine").unwrap(),
        There::Other | There::Unmarked => {
            for entry in std::fs::read_dir(other).unwrap() {
                let entry = entry.unwrap();
                if there == There::Other || entry.file_name() != "OWNER" {
                    std::fs::copy(entry.path(), path.join(entry.file_name())).unwrap();
                }
            }
        }
        There::Unlockable => std::fs::create_dir(path.join("LOCK")).unwrap(),
        There::Held => {
            held = Some(Disk.try_lock(&Layout::lock_file(&path), LockKind::Exclusive, "process 1").unwrap());
        }
        _ => {}
    }
    (Some(path), held)
}

fn database(dir: &Path) {
    let db = Database::create_new(dir).unwrap();
    db.write(|tx| Ok(tx.spawn(()))).unwrap();
    db.snapshot().unwrap().wait().unwrap();
    db.write(|tx| Ok(tx.spawn(()))).unwrap();
    db.close().unwrap();
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[test]
fn an_opening_that_is_refused_leaves_no_trace() {
    let dir = tempfile::tempdir().unwrap();
    let [world, other] = ["world", "other"].map(|name| dir.path().join(name));
    database(&world);
    database(&other);
    let mut refused = 0;
    for root in ["nothing", "empty", "mine", "world"] {
        for (log, snapshots) in ALL.into_iter().flat_map(|log| ALL.map(|snapshots| (log, snapshots))) {
            let place = dir.path().join("place");
            std::fs::create_dir(&place).unwrap();
            let own = place.join("own");
            match root {
                "nothing" => {}
                "world" => copy(&world, &own),
                _ => std::fs::create_dir(&own).unwrap(),
            }
            if root == "mine" {
                std::fs::write(own.join("mine"), "mine").unwrap();
            }
            let (log_dir, _log) = make(log, place.join("log"), &other.join("log"));
            let (snapshot_dir, _snapshots) =
                make(snapshots, place.join("snapshots"), &other.join("snapshots"));
            let config = |settings: &mut PersistenceConfig| {
                settings.wal.dir.clone_from(&log_dir);
                settings.snapshot.dir.clone_from(&snapshot_dir);
                settings.manual();
            };
            for call in ["open_existing", "create_new", "open"] {
                let mut before = BTreeMap::new();
                contents(&place, &mut before);
                let builder = Database::builder(&own).config(config);
                let opened = match call {
                    "open" => builder.open(),
                    "create_new" => builder.create_new(),
                    _ => builder.open_existing(),
                };
                let at = format!("{root} {log:?} {snapshots:?} {call}");
                match opened {
                    Ok(db) => {
                        db.close().unwrap();
                        break;
                    }
                    Err(e) => {
                        let mut after = BTreeMap::new();
                        contents(&place, &mut after);
                        // Its own one may be there where it is only seen then that another one cannot be had.
                        after.retain(|path, content| *path != own && before.get(path) != Some(content));
                        assert!(after.is_empty(), "{at}: {e}: {:?}", after.keys());
                        refused += 1;
                    }
                }
            }
            std::fs::remove_dir_all(&place).unwrap();
        }
    }
    assert!(refused > 300, "{refused}");
}
