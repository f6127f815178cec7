//! Whole files of any bytes, each read as every kind of file.
#![no_main]

use std::path::Path;

use ecsdb_io::{OpenMode, Owner, frame, seekable};
use ecsdb_sim::SimDisk;
use ecsdb_snapshot::{Manifest, Snapshot};
use ecsdb_wal::{Known, LogScan};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let disk = SimDisk::new(1);
    let vfs = disk.vfs();
    for name in ["/l/0000000000000001.seg", "/a/0000000000000001.seg.zst", "/s/0000000000000001.snap", "/m", "/o/OWNER"] {
        disk.put(name, bytes).expect("a file");
    }
    Manifest::read(&*vfs, Path::new("/m")).ok();
    Owner::read(&*vfs, Path::new("/o")).expect("damage is no error");
    if let Ok(snapshot) = Snapshot::open(&*vfs, Path::new("/s/0000000000000001.snap")) {
        snapshot.verify_own().ok();
    }
    for dir in ["/l", "/a"] {
        LogScan::run(&*vfs, &[Path::new(dir).into()], 0, Known::default(), 0).ok();
    }
    frame::read_frame(bytes, 0).ok();
    let file = vfs.open(Path::new("/m"), OpenMode::Read).expect("opens");
    if let Ok(file) = seekable::open(file) {
        let mut buffer = [0; 512];
        for at in [0, 1, 4096, u64::MAX - 10] {
            file.read_at(&mut buffer, at).ok();
        }
    }
});
