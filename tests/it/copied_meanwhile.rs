//! A copy is begun without a turn, beside whatever publishes manifests.

use std::path::Path;
use std::sync::{Arc, Mutex};

use ecsdb::prelude::*;
use ecsdb::{Around, Hooks};
use ecsdb::{FileOp, IoError};

use crate::components::Counter;
use crate::lifecycle::by_hand;

/// Whose snapshots are taken when the next manifest is looked for.
#[derive(Default)]
struct Meanwhile(Mutex<Option<Database>>);

impl Hooks for Meanwhile {
    fn before(&self, op: FileOp, path: &Path) -> Result<(), IoError> {
        if op == FileOp::Open && path.extension().is_some_and(|it| it == "manifest") {
            let db = self.0.lock().unwrap().take();
            if let Some(db) = db {
                snapshot(&db);
                snapshot(&db);
            }
        }
        Ok(())
    }
}

fn snapshot(db: &Database) {
    db.write(|tx| Ok(tx.spawn(Counter(1)))).unwrap();
    db.snapshot().unwrap().wait().unwrap();
}

/// It said that the directory was moved: the manifest that it had looked up was gone by the time that it looked for the file, since newer ones had been
/// published.
#[test]
fn a_copy_beside_snapshots_does_not_find_the_directory_moved() {
    let dir = tempfile::tempdir().unwrap();
    let around = Arc::new(Around::new(Arc::new(ecsdb_io::Disk), Meanwhile::default()));
    let db = Database::builder(dir.path().join("world")).vfs(around.clone()).without_threads();
    let db = db.config(by_hand).open().unwrap();
    snapshot(&db);
    *around.hooks.0.lock().unwrap() = Some(db.clone());
    db.backup_to(dir.path().join("copy")).unwrap().wait().unwrap();
    assert!(around.hooks.0.lock().unwrap().is_none(), "nobody looked for a manifest");
    assert_eq!(
        db.stats().unwrap().store.unwrap().snapshot_lsn,
        Lsn(3),
        "the snapshots were not taken meanwhile"
    );
    // Where it is really gone, it is said.
    let [here, there] = ["world", "elsewhere"].map(|name| dir.path().join(name));
    std::fs::rename(&here, &there).unwrap();
    let refused = db.backup_to(dir.path().join("another")).unwrap().wait().unwrap_err().to_string();
    std::fs::rename(&there, &here).unwrap();
    assert!(refused.contains("world"), "{refused}");
    db.close().unwrap();
}
