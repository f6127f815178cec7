//! What the simulated disk keeps and loses, and what the explorer finds.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod contents;
mod explorer;
mod faults;
mod model;
mod names;
mod rate;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use ecsdb_io::{OpenMode, Vfs, VfsFile};
use ecsdb_sim::{NameOrder, SimDisk};

fn create(disk: &SimDisk, path: &str) -> Arc<dyn VfsFile> {
    disk.create(Path::new(path)).unwrap()
}

fn open(disk: &SimDisk, path: &str) -> Arc<dyn VfsFile> {
    disk.open(Path::new(path), OpenMode::ReadWrite).unwrap()
}

fn rename(disk: &SimDisk, from: &str, to: &str) {
    disk.rename(Path::new(from), Path::new(to)).unwrap();
}

fn sync_dir(disk: &SimDisk, path: &str) {
    disk.sync_dir(Path::new(path)).unwrap();
}

/// What the disk may look like after a crash, over all systematic variants and many random ones.
fn outcomes<T: Ord>(disk: &SimDisk, names: NameOrder, look: impl Fn(&SimDisk) -> T) -> BTreeSet<T> {
    disk.crash_variants(600, 1, names).into_iter().map(|variant| look(&disk.crash(variant))).collect()
}

/// The files there are, as `name=content`, separated by spaces.
fn listing(disk: &SimDisk) -> String {
    let entry = |(path, _): (std::path::PathBuf, u64)| {
        format!("{}={}", path.display(), String::from_utf8_lossy(&disk.read(&path).unwrap()))
    };
    disk.files().into_iter().map(entry).collect::<Vec<_>>().join(" ")
}

fn set(of: &[&str]) -> BTreeSet<String> {
    of.iter().map(ToString::to_string).collect()
}
