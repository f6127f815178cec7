//! The store by itself: what the facade's threads could not be made to do on purpose.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use ecsdb_compactor::copy::write_database;
use ecsdb_compactor::{
    Archiving, Claim, Control, Error, EventSender, Retention, Store, StoreFiles, StoreSettings, Task,
};
use ecsdb_core::{Component, World};
use ecsdb_io::{Disk, FileKind, Layout, LockError, Urgency, Vfs};
use ecsdb_recovery::{Existence, Options, Policy, recover};
use ecsdb_wal::{Durability, Log, LogOptions, Lsn, Payload};

#[derive(Component, Clone, Copy)]
#[component(name = "test.number", plain)]
#[repr(C)]
struct Number(u64);

struct Open {
    world: World,
    log: Log,
    store: Store,
}

fn open(dir: &Path) -> Open {
    let vfs: Arc<dyn Vfs> = Arc::new(Disk);
    let layout = Layout::new(dir);
    let options =
        Options { existence: Existence::Any, policy: Policy::TruncateTail, threads: 1, register: true };
    let mut recovered = recover(&vfs, &layout, options, &mut |_| {}).unwrap();
    let log = Log::start(
        vfs.clone(),
        vfs.clone(),
        layout.log_dir(),
        LogOptions::default(),
        recovered.log_start.clone(),
    )
    .unwrap();
    recovered.complete(&*vfs, &layout, &mut |_| {}).unwrap();
    let settings = StoreSettings {
        compression: None,
        threads: 1,
        chain_max: 8,
        retention: Some(Retention::default()),
        archive: Archiving::Off,
        keep_all: false,
    };
    let events = EventSender::default();
    let locks = recovered.locks;
    let files = StoreFiles { snapshot: vfs.clone(), archive: vfs.clone(), direct: vfs, locks };
    let store =
        Store::new(files, layout, log.clone(), recovered.manifest, settings, events, Urgency::of_caller());
    Open { world: recovered.world, log, store }
}

impl Open {
    fn commit(&mut self, number: u64) {
        let mut open = self.world.begin();
        open.transaction().spawn(Number(number));
        let prepared = open.prepare().unwrap();
        let changes = prepared.change_set();
        let payload = Payload { inline: changes.inline, shared: changes.shared };
        let lsn = self.log.append(payload, Durability::Immediate).unwrap();
        prepared.commit(lsn);
    }

    fn control(&self) -> Control {
        self.store.control(Task::Snapshot)
    }
}

/// An older view written last used to become the newest snapshot, with the log after it gone: the next opening failed.
#[test]
fn of_two_views_the_older_one_never_becomes_the_newest_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let mut db = open(dir.path());
    db.commit(1);
    let older = db.world.view();
    for number in 2..5 {
        db.commit(number);
        let newer = db.world.view();
        db.log.rotate().unwrap();
        db.store.snapshot(newer, &db.control()).unwrap();
    }
    let info = db.store.snapshot(older, &db.control()).unwrap();
    assert_eq!(info.lsn, Lsn(4), "the newest one holds what was asked for, too");
    let expected = db.world.view().digest().unwrap();
    db.log.close().unwrap();
    drop(db);
    assert_eq!(open(dir.path()).world.view().digest().unwrap(), expected);
}

#[test]
fn while_a_pin_lives_nothing_is_deleted_and_afterwards_everything_superfluous_is() {
    let dir = tempfile::tempdir().unwrap();
    let mut db = open(dir.path());
    let settings = StoreSettings { chain_max: 1, ..db.store.settings() };
    db.store.set_settings(settings);
    let pin = db.store.pin();
    let there = |number| Disk.file_len(&Layout::new(dir.path()).file(FileKind::Snapshot, number)).unwrap();
    for number in 1..=4 {
        db.commit(number);
        db.store.snapshot(db.world.view(), &db.control()).unwrap();
    }
    assert!((1..=4).all(|number| there(number).is_some()));
    assert_eq!(db.store.manifest().snapshots.len(), 2);
    drop(pin);
    db.store.trim(&db.control()).unwrap();
    assert_eq!([1, 2, 3, 4].map(|number| there(number).is_some()), [false, false, true, true]);
}

/// Whoever waited to trim comes after who did: what that left is nobody's to look at again.
#[test]
fn what_is_trimmed_is_not_trimmed_again() {
    let dir = tempfile::tempdir().unwrap();
    let open = || {
        let db = open(dir.path());
        let retention = Some(Retention::UNLIMITED);
        db.store.set_settings(StoreSettings { chain_max: 1, retention, ..db.store.settings() });
        db
    };
    let mut db = open();
    for number in 1..=3 {
        db.commit(number);
        db.store.snapshot(db.world.view(), &db.control()).unwrap();
    }
    db.log.close().unwrap();
    drop(db);
    let db = open();
    let second = Layout::new(dir.path()).file(FileKind::Snapshot, 2);
    std::fs::write(&second, "spoilt").unwrap();
    db.store.compact(|| Ok(db.world.view()), true, &db.control()).unwrap();
    assert!(second.exists());
    db.store.trim(&db.control()).unwrap();
    assert_eq!(db.store.stats().unwrap().failures, []);
}

/// CKP-3: a compaction finds damaged what it compacts, and captures anew; meanwhile somebody else takes a newer snapshot, which the log goes on from.
#[test]
fn a_compaction_that_begins_anew_puts_nothing_older_above_a_newer_snapshot() {
    for (chain_max, alone) in [(1, false), (1, true), (8, false), (8, true)] {
        let dir = tempfile::tempdir().unwrap();
        let mut db = open(dir.path());
        db.store.set_settings(StoreSettings { chain_max, ..db.store.settings() });
        for _ in 0..3 {
            (0..9_000).for_each(|number| db.commit(number));
            db.log.rotate().unwrap();
            db.store.snapshot(db.world.view(), &db.control()).unwrap();
        }
        let first = db.world.view();
        let newest = db.store.manifest().snapshots.last().unwrap().sequence;
        let newest = Layout::new(dir.path()).file(FileKind::Snapshot, newest);
        let mut bytes = std::fs::read(&newest).unwrap();
        bytes[20_000..20_040].fill(7);
        std::fs::write(&newest, bytes).unwrap();
        let mut views = Vec::new();
        for number in 0..3 {
            db.commit(number);
            db.log.rotate().unwrap();
            views.push(db.world.view());
        }
        let captured = AtomicU32::new(0);
        let capture = || -> ecsdb_compactor::Result<_> {
            if captured.fetch_add(1, Ordering::Relaxed) == 0 {
                return Ok(first.clone());
            }
            db.store.snapshot(views[1].clone(), &db.control())?;
            Ok(views[0].clone())
        };
        db.store.compact(capture, alone, &db.control()).unwrap();
        assert_eq!(captured.into_inner(), 2, "nothing was found damaged");
        let listed: Vec<u64> = db.store.manifest().snapshots.iter().map(|entry| entry.lsn).collect();
        assert!(listed.is_sorted(), "{chain_max}, {alone}: {listed:?}");
        assert_eq!(listed.last(), Some(&views[1].lsn().0));
        let expected = db.world.view().digest().unwrap();
        db.log.close().unwrap();
        drop(db);
        assert_eq!(open(dir.path()).world.view().digest().unwrap(), expected, "{chain_max}, {alone}");
    }
}

#[test]
fn a_cancelled_copy_can_be_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut db = open(&dir.path().join("world"));
    db.commit(1);
    let copy = Layout::new(dir.path().join("copy"));
    let control = db.control();
    control.cancel();
    let settings = db.store.settings();
    let write = |control: &Control| {
        write_database(Arc::new(Disk), &copy, db.world.view(), &settings, Default::default(), control)
    };
    assert!(write(&control).unwrap_err().is_cancelled());
    write(&db.control()).unwrap();
}

/// Several copies into one place at once: one is made, and the others leave it alone.
#[test]
fn of_copies_into_one_place_one_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let mut db = open(&dir.path().join("world"));
    db.commit(1);
    let expected = db.world.view().digest().unwrap();
    let (settings, view) = (db.store.settings(), db.world.view());
    for round in 0..30 {
        let copy = Layout::new(dir.path().join(format!("a/copy {round}")));
        let begun = std::sync::Barrier::new(3);
        let made = std::thread::scope(|scope| {
            let copying = [(); 3].map(|()| {
                let (control, view) = (db.control(), view.clone());
                let (copy, begun, settings) = (&copy, &begun, &settings);
                scope.spawn(move || {
                    begun.wait();
                    write_database(Arc::new(Disk), copy, view, settings, Default::default(), &control)
                        .map(drop)
                })
            });
            copying.map(|copying| copying.join().unwrap())
        });
        assert_eq!(made.iter().filter(|made| made.is_ok()).count(), 1, "{made:?}");
        let is_known = |made: &Result<(), Error>| {
            matches!(made, Ok(()) | Err(Error::TargetNotEmpty(_) | Error::Locked(LockError::Held { .. })))
        };
        assert!(made.iter().all(is_known), "{made:?}");
        assert_eq!(Disk.file_len(&copy.unfinished_file()).unwrap(), None);
        assert_eq!(open(copy.root()).world.view().digest().unwrap(), expected);
    }
}

/// Beside what was left unfinished there may be anything: a copy around a file of the name of a directory could not be used.
#[test]
fn a_file_in_the_place_of_a_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut db = open(&dir.path().join("world"));
    db.commit(1);
    for name in ["log", "snapshots", "archive", "recovery"] {
        let copy = Layout::new(dir.path().join(format!("copy {name}")));
        std::fs::create_dir(copy.root()).unwrap();
        std::fs::write(copy.unfinished_file(), "").unwrap();
        std::fs::write(copy.root().join(name), "mine").unwrap();
        let (settings, view) = (db.store.settings(), db.world.view());
        let made = write_database(Arc::new(Disk), &copy, view, &settings, Default::default(), &db.control());
        assert!(matches!(&made, Err(Error::TargetNotEmpty(dir)) if dir.ends_with(name)), "{made:?}");
        let mut names: Vec<_> =
            std::fs::read_dir(copy.root()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        let mut wanted = [copy.unfinished_file().file_name().unwrap().to_owned(), name.into()];
        wanted.sort();
        assert_eq!(names, wanted);
    }
}

/// Where nobody had looked yet, the first look waited for whoever was at work: for ever, if that was held back.
#[test]
fn the_first_look_waits_for_no_work() {
    let dir = tempfile::tempdir().unwrap();
    let mut db = open(dir.path());
    db.commit(1);
    let (control, view) = (db.control(), db.world.view());
    control.pause();
    std::thread::scope(|scope| {
        let (store, of_work) = (&db.store, &control);
        let snapshot = scope.spawn(move || store.snapshot(view, of_work));
        // It has its turn by then, and goes no further.
        std::thread::sleep(Duration::from_millis(200));
        let (sender, looked) = channel();
        scope.spawn(move || sender.send(store.stats().map(|stats| stats.snapshots)));
        let looked = looked.recv_timeout(Duration::from_secs(60));
        control.resume();
        assert_eq!(looked.expect("it waits for the snapshot").unwrap(), 0);
        snapshot.join().unwrap().unwrap();
    });
}

/// Somebody may have put it there since it was looked for.
#[test]
fn a_file_is_no_place_for_something_new() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "mine").unwrap();
    let layout = Layout::new(&file);
    let taken = Claim::take(Arc::new(Disk), &layout, &layout.unfinished_file());
    assert!(matches!(taken, Err(Error::TargetNotEmpty(place)) if place == file));
}

/// CKP-10: a mark says that there is nobody's but what it is the mark of. It is empty; somebody's file of that name is no mark.
#[test]
fn somebodys_file_is_no_mark_of_an_unfinished_copy() {
    for (text, is_mark) in [("", true), ("mine", false)] {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        std::fs::write(layout.unfinished_file(), text).unwrap();
        let taken = Claim::take(Arc::new(Disk), &layout, &layout.unfinished_file());
        match taken {
            Ok(claim) => assert!(is_mark && claim.unfinished),
            Err(Error::TargetNotEmpty(of)) => assert!(!is_mark && of == dir.path()),
            Err(e) => panic!("{e}"),
        }
        assert_eq!(std::fs::read(layout.unfinished_file()).unwrap(), text.as_bytes());
    }
}
