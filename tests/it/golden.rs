//! Databases written by earlier versions open for ever (REC-10).
//!
//! `golden/<name>/` is never changed. A new format version adds a directory:
//! `cargo test -p ecsdb-tests -- --ignored write_golden`.

use std::path::{Path, PathBuf};

use ecsdb::prelude::*;
use ecsdb_sim::SimDisk;
use ecsdb_tests::crashed::{self, DIR, builder, open_with, snapshot_file};

use crate::components::{Counter, Name, Position, Progress};
use crate::lifecycle::{by_hand, state};

/// Directory, and the digest of the world in it.
const GOLDEN: &[(&str, &str)] = &[
    ("v2", "9196236a1e60e538db5e02a3efeecec9"),
    ("v3", "9196236a1e60e538db5e02a3efeecec9"),
    ("v4", "9196236a1e60e538db5e02a3efeecec9"),
    ("v5", "9196236a1e60e538db5e02a3efeecec9"),
    ("v6", "9196236a1e60e538db5e02a3efeecec9"),
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
    db.rotate_log().unwrap();
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

/// On a disk of its own, where a session takes no time.
pub(crate) fn old(name: &str) -> SimDisk {
    let disk = crashed::disk(1);
    let golden = golden_dir().join(name);
    for (path, ..) in files_below(&golden).unwrap() {
        disk.put(Path::new(DIR).join(path.strip_prefix(&golden).unwrap()), &std::fs::read(&path).unwrap())
            .unwrap();
    }
    disk
}

fn nothing_was_set_aside(disk: &SimDisk) -> bool {
    disk.files().iter().all(|(path, _)| !path.starts_with(Path::new(DIR).join("quarantine")))
}

#[test]
fn old_databases_go_on_with_increments_and_merges() {
    for (name, _) in GOLDEN {
        // In base 3: a snapshot, a compaction or none after each of four transactions.
        for plan in (0..81u32).step_by(4) {
            let disk = old(name);
            let open = || {
                let builder = builder(&disk, by_hand).config(|config| config.snapshot.chain_max = 8);
                builder.policy(ecsdb::Policy::Strict).open().unwrap()
            };
            let mut db = open();
            for step in 0..4 {
                db.write(|tx| Ok(tx.spawn(Counter(step.into())))).unwrap();
                let (_, last) = state(&db);
                match plan / 3u32.pow(step) % 3 {
                    0 => drop(db.snapshot().unwrap().wait().unwrap()),
                    1 => drop(db.compact().unwrap().wait().unwrap()),
                    _ => {}
                }
                db.close().unwrap();
                db = open();
                assert_eq!(state(&db).1, last, "{name}, plan {plan}, step {step}");
            }
            assert!(nothing_was_set_aside(&disk), "{name}, plan {plan}");
        }
    }
}

/// CKP-4: its manifest did not say what it was writing when it was killed, and it would have deleted it. It was set aside, for good.
#[test]
fn what_an_older_version_was_writing_is_deleted_after_an_upgrade() {
    for name in ["v2", "v3"] {
        let disk = old(name);
        // The next snapshot, whole, and in no manifest.
        let mut bytes = disk.read(snapshot_file(1)).unwrap();
        let salt = u32::from_le_bytes(bytes[12..16].try_into().unwrap());
        bytes[32..40].copy_from_slice(&2u64.to_le_bytes());
        let sum = ecsdb_io::checksum(0, &bytes[..92]);
        bytes[92..96].copy_from_slice(&sum.to_le_bytes());
        let footer = bytes.len() - 32;
        bytes[footer + 16..footer + 20].copy_from_slice(&2u32.to_le_bytes());
        let sum = ecsdb_io::checksum(salt, &bytes[footer..footer + 20]);
        bytes[footer + 20..footer + 24].copy_from_slice(&sum.to_le_bytes());
        disk.put(snapshot_file(2), &bytes).unwrap();
        drop(open_with(&disk, by_hand).unwrap());
        assert!(disk.read(snapshot_file(2)).is_err() && nothing_was_set_aside(&disk), "{name}");
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
    for _ in 0..1_000 {
        let before = files_below(from);
        if to.exists() {
            std::fs::remove_dir_all(to).unwrap();
        }
        if before.is_some() && copy_once(from, to).is_ok() && files_below(from) == before {
            return;
        }
    }
    panic!("{} is not there, or does not come to rest", from.display());
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
