//! What the targets share: components, and a database that has been lived in.

use std::path::PathBuf;

use ecsdb::prelude::*;
use ecsdb::{ByteSize, Digest, Lsn, PersistenceConfig};
use ecsdb_sim::SimDisk;

#[derive(Component, Clone, Copy, PartialEq, Debug)]
#[component(name = "fuzz.position", plain)]
#[repr(C)]
pub struct Position {
    pub x: f32,
    pub y: f32,
}

#[derive(Component, Clone, Copy, PartialEq, Debug)]
#[component(name = "fuzz.counter", plain)]
#[repr(C)]
pub struct Counter(pub u64);

#[derive(Component, Clone, PartialEq, Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
#[component(name = "fuzz.name", archived)]
pub struct Name(pub String);

#[derive(Component, Clone, PartialEq, Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
#[component(name = "fuzz.bag", archived)]
pub struct Bag(pub Vec<(u32, Option<String>)>);

/// Nothing by itself, small segments, everything kept.
pub fn settings(config: &mut PersistenceConfig) {
    config.wal.segment_bytes_first = ByteSize(64 << 10);
    config.wal.segment_bytes_max = ByteSize(64 << 10);
    config.snapshot.chain_max = 3;
    config.archive.enabled = Some(true);
    config.archive.compression_level = 1;
    config.retention.snapshots_max = 4;
}

pub fn builder(disk: &SimDisk) -> ecsdb::Builder {
    Database::builder("/db").vfs(disk.vfs()).without_threads().config(settings)
}

/// The files of a database with segments, an archive, a chain of snapshots, and the digest after each transaction.
pub struct Lived {
    pub files: Vec<(PathBuf, Vec<u8>)>,
    pub history: Vec<(Lsn, Digest)>,
}

pub fn lived() -> Lived {
    let disk = SimDisk::new(1);
    let db = builder(&disk).open().expect("opens");
    let mut history = vec![(Lsn(0), db.view().expect("a view").digest().expect("a digest"))];
    for i in 0..9u64 {
        db.write(|tx| {
            let e = tx.spawn((Counter(i), Name("n".repeat(3000 * i as usize))));
            tx.spawn((Position { x: i as f32, y: 0.0 }, Bag(vec![(1, None), (2, Some("two".into()))])));
            tx.get_mut::<Counter>(e)?.0 += 1;
            Ok(())
        })
        .expect("commits");
        history.push((db.lsn(), db.view().expect("a view").digest().expect("a digest")));
        if i % 3 == 2 {
            db.snapshot().expect("begins").wait().expect("a snapshot");
        }
    }
    // As if it was killed now: the last segment is not closed.
    let files = disk.files().into_iter().map(|(path, _)| (path.clone(), disk.read(&path).expect("reads"))).collect();
    drop(db);
    Lived { files, history }
}

/// A disk with these files.
pub fn disk_of(files: &[(PathBuf, Vec<u8>)]) -> SimDisk {
    let disk = SimDisk::new(7);
    disk.put_dir("/db").expect("a directory");
    for (path, bytes) in files {
        disk.put(path, bytes).expect("a file");
    }
    disk
}
