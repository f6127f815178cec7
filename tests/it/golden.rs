//! Databases written by earlier versions open for ever (REC-10).
//!
//! `golden/<name>/` is never changed. A new format version adds a directory:
//! `cargo test -p ecsdb-tests -- --ignored write_golden`.

use std::path::{Path, PathBuf};

use ecsdb::prelude::*;

use crate::components::{Counter, Name, Position, Progress};

/// Directory, and the digest of the world in it.
const GOLDEN: &[(&str, &str)] = &[
    ("v2", "9196236a1e60e538db5e02a3efeecec9"),
    ("v3", "9196236a1e60e538db5e02a3efeecec9"),
    ("v4", "9196236a1e60e538db5e02a3efeecec9"),
];

fn fill(path: &Path) -> ecsdb::Digest {
    let db = Database::builder(path)
        .config(|config| config.wal.segment_bytes_first = ecsdb::ByteSize(64 << 10))
        .open()
        .unwrap();
    let ids = db
        .write(|tx| {
            tx.insert_resource(Progress(1));
            Ok(tx.spawn_batch(
                (0..300).map(|i| (Position { x: i as f32, y: -1.0 }, Name(format!("entity {i}")))),
            ))
        })
        .unwrap();
    db.write(|tx| {
        tx.insert(ids[3], Counter(3))?;
        tx.remove::<Name>(ids[4])?;
        Ok(tx.despawn(ids[5])?)
    })
    .unwrap();
    db.snapshot().unwrap().wait().unwrap();
    db.write(|tx| {
        tx.spawn(Counter(99));
        tx.get_mut::<Position>(ids[7])?.y = 7.0;
        for position in tx.query::<&mut Position>() {
            position.x += 0.5;
        }
        tx.resource_mut::<Progress>()?.0 = 2;
        Ok(())
    })
    .unwrap();
    let digest = db.view().unwrap().digest().unwrap();
    db.close().unwrap();
    digest
}

fn golden_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")
}

#[test]
#[ignore = "writes a new golden database; run once for each format version"]
fn write_golden() {
    let path = golden_dir().join("next");
    println!("{}: {}", path.display(), fill(&path));
}

#[test]
fn golden_databases_open_with_the_digest_they_were_written_with() {
    assert!(!GOLDEN.is_empty());
    for (name, digest) in GOLDEN {
        // Opened in a copy: opening for writing begins a new segment.
        let copy = tempfile::tempdir().unwrap();
        copy_dir(&golden_dir().join(name), copy.path());
        let db = Database::open(copy.path()).unwrap();
        assert_eq!(db.view().unwrap().digest().unwrap().to_string(), *digest, "{name}");
        assert_eq!(db.recovery_report().unwrap().data_loss, ecsdb::DataLoss::None);
        db.write(|tx| Ok(tx.spawn(Counter(1)))).unwrap();
    }
}

/// Version 1 was of development versions; it is refused, not misread.
#[test]
fn a_database_from_before_the_formats_were_fixed_is_refused_with_a_clear_word() {
    let copy = tempfile::tempdir().unwrap();
    copy_dir(&golden_dir().join("v1"), copy.path());
    for policy in [ecsdb::Policy::Strict, ecsdb::Policy::TruncateTail, ecsdb::Policy::Salvage] {
        let refused = Database::builder(copy.path()).policy(policy).open().map(drop).unwrap_err().to_string();
        assert!(refused.contains("format version 1, of a development version"), "{refused}");
    }
}

#[test]
fn a_database_written_today_opens_with_the_same_digest() {
    let dir = tempfile::tempdir().unwrap();
    let digest = fill(dir.path());
    assert_eq!(Database::open(dir.path()).unwrap().view().unwrap().digest().unwrap(), digest);
}

/// Copies a directory as it is at one moment, a live one too: again for as long as it changes beneath the copy.
pub(crate) fn copy_dir(from: &Path, to: &Path) {
    loop {
        let before = files_below(from);
        if to.exists() {
            std::fs::remove_dir_all(to).unwrap();
        }
        if before.is_some() && copy_once(from, to).is_ok() && files_below(from) == before {
            return;
        }
    }
}

fn copy_once(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?.path();
        let target = to.join(entry.file_name().unwrap());
        if entry.is_dir() {
            copy_once(&entry, &target)?;
        } else {
            std::fs::copy(&entry, &target)?;
        }
    }
    Ok(())
}

/// What there is in a directory and below, with lengths and times; nothing while it changes.
fn files_below(dir: &Path) -> Option<Vec<(PathBuf, u64, std::time::SystemTime)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).ok()? {
        let entry = entry.ok()?;
        let metadata = std::fs::metadata(entry.path()).ok()?;
        if metadata.is_dir() {
            found.extend(files_below(&entry.path())?);
        } else {
            found.push((entry.path(), metadata.len(), metadata.modified().ok()?));
        }
    }
    found.sort();
    Some(found)
}
