//! Whatever moment an attempt is killed at, the next one has its place, or there is a whole database.
#![allow(clippy::unwrap_used, reason = "a test")]

use ecsdb_compactor::copy::write_database;
use ecsdb_compactor::{Archiving, Control, Error, EventSender, StoreSettings, Task};
use ecsdb_core::{View, World};
use ecsdb_io::Layout;
use ecsdb_sim::{CrashVariant, NameOrder, SimDisk};

fn attempt(disk: &SimDisk, layout: &Layout, view: &View) -> Result<(), Error> {
    let settings = StoreSettings {
        compression: None,
        threads: 1,
        chain_max: 8,
        retention: None,
        archive: Archiving::Off,
        keep_all: false,
    };
    let control = Control::new(Task::Copy, EventSender::default());
    control.begin();
    write_database(disk.vfs(), layout, view.clone(), &settings, Default::default(), &control).map(drop)
}

#[test]
fn an_attempt_that_is_killed_anywhere_is_taken_up_by_the_next_one() {
    let of = |root: &str, log: &str, snapshots: &str| {
        Layout::new(root).with_log_dir(log).with_snapshot_dir(snapshots)
    };
    let layouts = [
        Layout::new("/a/world"),
        of("/world", "/x/log", "/x/snapshots"),
        of("/world", "/x/log", "/x"),
        of("/world", "/x", "/x/y/snapshots"),
        of("/x/y/world", "/x", "/x/y"),
    ];
    let view = World::new().view();
    let seed = fastrand::u64(..);
    let (mut again, mut whole) = (0, 0);
    for layout in &layouts {
        let counted = SimDisk::new(1);
        attempt(&counted, layout, &view).unwrap();
        for stop in 0..counted.operations() {
            let disk = SimDisk::new(1);
            disk.stop_after(stop);
            let ended = attempt(&disk, layout, &view);
            let cuts = disk.crash_variants(4, seed, NameOrder::Journal);
            for variant in [CrashVariant::KEPT, CrashVariant::KILLED].into_iter().chain(cuts) {
                let at = format!("seed {seed}, {layout:?}, after operation {stop}, {variant:?}, {ended:?}");
                let left = disk.crash(variant);
                match attempt(&left, layout, &view) {
                    Ok(()) => again += 1,
                    Err(Error::TargetNotEmpty(dir)) if dir == layout.root() => whole += 1,
                    Err(e) => panic!("{at}: {e}: {:#?}", left.trace()),
                }
                ecsdb_recovery::look(&left, layout).unwrap_or_else(|e| panic!("{at}: {e}"));
            }
        }
    }
    println!("seed {seed}: {again} taken up, {whole} whole");
    assert!(again > 100 && whole > 0, "{again} {whole}");
}
