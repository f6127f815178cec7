//! A copy is begun without a turn, beside whatever publishes manifests.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ecsdb::prelude::*;

use crate::components::Counter;
use crate::lifecycle::by_hand;

/// It said that the directory was moved, since the manifest that it had looked up was two generations old by the time that it looked for the file. About
/// one of 2,000 on two busy cores.
#[test]
fn a_copy_beside_snapshots_does_not_find_the_directory_moved() {
    let dir = tempfile::tempdir().unwrap();
    let db = Database::builder(dir.path().join("world")).config(by_hand).open().unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    db.write(|tx| Ok(tx.spawn(Counter(1)))).unwrap();
                    db.snapshot().unwrap().wait().unwrap();
                }
            });
        }
        let began = Instant::now();
        let mut failed = None;
        let mut n = 0;
        while began.elapsed() < Duration::from_secs(60) && failed.is_none() {
            n += 1;
            let copy = dir.path().join(format!("copy{n}"));
            failed = db.backup_to(&copy).unwrap().wait().err();
            drop(std::fs::remove_dir_all(&copy));
        }
        stop.store(true, Ordering::Relaxed);
        assert!(failed.is_none(), "copy {n}: {}", failed.unwrap());
    });
    db.close().unwrap();
}
