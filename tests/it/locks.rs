//! Who has a directory open, and who may beside them (REC-12). What a fork may is in `../forked.rs`.

use std::path::Path;

use ecsdb::prelude::*;
use ecsdb::{ByteSize, Error};

use crate::components::{Counter, Name};

fn open(path: &Path) -> ecsdb::Result<Database> {
    let small = |config: &mut PersistenceConfig| {
        config.manual();
        config.wal.segment_bytes_first = ByteSize(64 << 10);
        config.wal.segment_bytes_max = ByteSize(64 << 10);
    };
    Database::builder(path).config(small).open()
}

fn write(db: &Database) -> ecsdb::Result<Entity> {
    db.write(|tx| Ok(tx.spawn((Counter(1), Name("x".repeat(9_000))))))
}

#[test]
fn readers_share_a_database_and_a_writer_is_alone_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("world");
    let db = open(&path).unwrap();
    write(&db).unwrap();
    db.snapshot().unwrap().wait().unwrap();
    let config = PersistenceConfig::new(&path);
    let kind = |done: ecsdb::Result<()>| done.err().map(|e| e.kind());
    assert_eq!(kind(Database::open_read_only(&path).map(drop)), Some(ErrorKind::Locked));
    assert_eq!(kind(ecsdb::verify(&config, |_| {}).map(drop)), Some(ErrorKind::Locked));
    db.close().unwrap();
    // While one reads, at each of its steps.
    let (mut steps, mut copies) = (0, 0);
    let among_readers = |_: &ecsdb::Step| {
        steps += 1;
        assert_eq!(Database::open_read_only(&path).unwrap().view().unwrap().len(), 1);
        assert!(ecsdb::verify(&config, |_| {}).unwrap().faults.is_empty());
        let copy = dir.path().join(format!("copy{steps}"));
        let among_more = |_: &ecsdb::Step| copies += 1;
        ecsdb::restore_copy(&config, &copy, Moment::Latest, among_more).unwrap();
        let refused = Database::open(&path).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Locked);
        assert!(refused.to_string().contains("this process itself"), "{refused}");
    };
    ecsdb::restore_copy(&config, &dir.path().join("copy"), Moment::Latest, among_readers).unwrap();
    assert!(steps > 0 && copies > 0);
    let looked = Database::open_read_only(&path).unwrap();
    // What was read is in memory, and keeps nobody out.
    write(&open(&path).unwrap()).unwrap();
    assert_eq!(looked.view().unwrap().len(), 1);
}

/// Somebody removes "stale" lock files: the next opening was let in, and both wrote into the same segments.
#[test]
fn whoever_has_lost_the_lock_files_writes_no_more_segment_and_no_manifest() {
    for dirs in [&["", "log", "snapshots"][..], &["log"], &["snapshots"]] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("world");
        let db = open(&path).unwrap();
        write(&db).unwrap();
        // What the first one makes in the background would get in the way of the second one's opening.
        while !path.join("log/0000000000000002.seg").exists() {
            std::thread::yield_now();
        }
        for dir in dirs {
            std::fs::remove_file(path.join(dir).join("LOCK")).unwrap();
        }
        let second = open(&path);
        assert_eq!(second.is_ok(), dirs.len() == 3, "{dirs:?}: {second:?}");
        let told = |done: Result<(), Error>| {
            let e = done.unwrap_err().to_string();
            assert!(e.contains("lock file was removed or replaced"), "{e}");
        };
        let snapshot = db.snapshot().unwrap().wait().map(drop);
        match dirs {
            // Nobody has got in by it: the other two are there. It is taken anew, as where the right directory is mounted again.
            ["snapshots"] => snapshot.unwrap(),
            _ => told(snapshot),
        }
        if dirs.contains(&"log") {
            told((0..20).try_for_each(|_| write(&db).map(drop)));
            told(db.close());
        }
        drop(db);
        // And the other one is whole.
        let second = second.or_else(|_| open(&path)).unwrap();
        let before = second.view().unwrap().len();
        for _ in 0..20 {
            write(&second).unwrap();
        }
        second.snapshot().unwrap().wait().unwrap();
        write(&second).unwrap();
        second.close().unwrap();
        let db = open(&path).unwrap();
        assert_eq!(db.view().unwrap().len(), before + 21);
        assert!(db.verify(|_| {}).unwrap().faults.is_empty());
    }
}
