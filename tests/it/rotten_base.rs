//! The file that a chain of increments begins with is damaged where nobody needs it to load them: in its directory, or its footer. What is told of it is
//! told, nothing fails for it, and what rests on it does not for long (CKP-3, CKP-7, REC-14).

use std::time::{Duration, Instant};

use ecsdb::prelude::*;
use ecsdb::{Event, PersistenceConfig, Policy, Task};
use ecsdb_sim::SimDisk;
use ecsdb_tests::crashed::{self, DIR, builder, files, snapshot_file};

use crate::components::{Counter, Name};
use crate::lifecycle::{State, by_hand, state};

fn chained(config: &mut PersistenceConfig) {
    by_hand(config);
    config.snapshot.chain_max = 9;
}

/// A closed database: snapshot 2 is an increment on snapshot 1, with blocks there, and the log goes on behind it.
fn chain() -> (SimDisk, State) {
    let disk = crashed::disk(1);
    let db = builder(&disk, chained).open().unwrap();
    db.write(|tx| Ok(tx.spawn_batch((0..50).map(|i| (Name(i.to_string()),))))).unwrap();
    db.snapshot().unwrap().wait().unwrap();
    db.write(|tx| Ok(tx.spawn(Counter(1)))).unwrap();
    assert_eq!(db.snapshot().unwrap().wait().unwrap().parent, 1);
    db.write(|tx| Ok(tx.spawn(Counter(2)))).unwrap();
    let last = state(&db);
    db.close().unwrap();
    (disk, last)
}

/// Bytes from the end of the file: in its footer, and in the frame of its directory.
const PLACES: [u64; 2] = [8, 60];

fn spoil(disk: &SimDisk, place: u64) {
    let len = disk.read(snapshot_file(1)).unwrap().len() as u64;
    disk.flip_bit(snapshot_file(1), len - place, 1).unwrap();
}

fn opens_strictly(disk: &SimDisk, last: State) {
    let db = builder(disk, chained).policy(Policy::Strict).open().unwrap();
    assert_eq!(state(&db), last);
    db.stats().unwrap();
}

#[test]
fn everything_goes_on_and_the_next_snapshot_is_a_full_one() {
    for place in PLACES {
        for compacts in [false, true] {
            for writes in [false, true] {
                let (disk, mut last) = chain();
                spoil(&disk, place);
                let db = builder(&disk, chained).policy(Policy::Strict).open().unwrap();
                assert_eq!(state(&db), last);
                let stats = db.stats().unwrap().store.unwrap();
                assert_eq!((stats.chain_files, stats.failures.len()), (2, 1), "{stats:?}");
                if writes {
                    db.write(|tx| Ok(tx.spawn(Counter(3)))).unwrap();
                    last = state(&db);
                }
                if compacts {
                    db.compact().unwrap().wait().unwrap();
                } else {
                    assert_eq!(db.snapshot().unwrap().wait().unwrap().parent, 0);
                }
                assert_eq!(db.stats().unwrap().store.unwrap().chain_files, 1);
                db.close().unwrap();
                drop(db);
                disk.erase(snapshot_file(1)).ok();
                opens_strictly(&disk, last);
            }
        }
    }
}

/// Where nothing was committed behind the newest snapshot, it is the answer to whoever asks for one: but not one that rests on a damaged file.
#[test]
fn a_snapshot_of_the_same_state_takes_the_place_of_one_that_rests_on_it() {
    let disk = crashed::disk(1);
    let db = builder(&disk, chained).open().unwrap();
    db.write(|tx| Ok(tx.spawn_batch((0..50).map(|i| (Name(i.to_string()),))))).unwrap();
    db.snapshot().unwrap().wait().unwrap();
    db.write(|tx| Ok(tx.spawn(Counter(1)))).unwrap();
    db.snapshot().unwrap().wait().unwrap();
    let last = state(&db);
    db.close().unwrap();
    drop(db);
    spoil(&disk, PLACES[0]);
    let db = builder(&disk, chained).open().unwrap();
    db.stats().unwrap();
    let taken = db.snapshot().unwrap().wait().unwrap();
    assert_eq!((taken.parent, taken.lsn), (0, last.0));
    db.close().unwrap();
    drop(db);
    disk.erase(snapshot_file(1)).ok();
    opens_strictly(&disk, last);
}

/// What is seen to be damaged, or gone, is replaced by itself, while the world that it has is still there.
#[test]
fn it_is_replaced_by_itself() {
    for place in [PLACES[0], PLACES[1], 0] {
        let (disk, last) = chain();
        let far = |config: &mut PersistenceConfig| {
            chained(config);
            config.snapshot.after_transactions = 1_000;
        };
        if place > 0 {
            spoil(&disk, place);
        }
        let bytes = disk.read(snapshot_file(1)).unwrap();
        let open = || Database::builder(DIR).vfs(disk.vfs()).config(far).open().unwrap();
        let db = if place > 0 {
            open()
        } else {
            // Gone as soon as it was loaded.
            let by_hand = Database::builder(DIR).vfs(disk.vfs()).config(chained).open().unwrap();
            disk.erase(snapshot_file(1)).unwrap();
            ecsdb_tests::reconfigure(&by_hand, |config| config.snapshot.after_transactions = 1_000).unwrap();
            by_hand
        };
        let began = Instant::now();
        let newest = || db.stats().unwrap().store.unwrap();
        while newest().last_snapshot.is_none_or(|taken| taken.parent != 0) {
            assert!(began.elapsed() < Duration::from_secs(60), "{place}: {:?}", newest());
            std::thread::sleep(Duration::from_millis(2));
        }
        // Once, though it stays.
        std::thread::sleep(Duration::from_millis(50));
        let taken = newest().last_snapshot.unwrap();
        assert_eq!((taken.sequence, taken.lsn), (3, last.0), "{place}: {bytes:?}");
        assert_eq!(state(&db), last);
        db.close().unwrap();
        drop(db);
        disk.erase(snapshot_file(1)).ok();
        opens_strictly(&disk, last);
    }
}

/// It had closed the database for good.
#[test]
fn a_salvage_comes_to_its_end() {
    for place in PLACES {
        let (disk, last) = chain();
        spoil(&disk, place);
        let segment = files(&disk, ".seg").pop().unwrap();
        // The last transaction, which the manifest knows to have been durable.
        disk.corrupt(&segment, 4096, &[7; 400]).unwrap();
        let db = builder(&disk, chained).policy(Policy::Salvage).open().unwrap();
        let salvaged = state(&db);
        assert!(salvaged != last && !db.recovery_report().unwrap().lost.is_empty(), "{place}");
        db.write(|tx| Ok(tx.spawn(Counter(7)))).unwrap();
        let last = state(&db);
        db.close().unwrap();
        drop(db);
        opens_strictly(&disk, last);
    }
}

/// It is told once, not with each look.
#[test]
fn it_is_told_once() {
    let (disk, _) = chain();
    spoil(&disk, PLACES[0]);
    let db = builder(&disk, chained).open().unwrap();
    let mut events = db.events();
    for _ in 0..5 {
        db.stats().unwrap();
    }
    let told = std::iter::from_fn(|| events.try_next());
    let told = told.filter(|event| matches!(event, Event::Failed { task: Task::Snapshot, .. })).count();
    assert_eq!(told, 1);
}

/// What was away, or unreadable, at one time and is there at the next rests on no damaged file, and is neither replaced nor deleted.
#[test]
fn what_is_there_again_is_left() {
    let (disk, last) = chain();
    let db = builder(&disk, chained).open().unwrap();
    let whole = db.snapshot().unwrap().wait().unwrap();
    let name = snapshot_file(1);
    let bytes = disk.read(&name).unwrap();
    disk.erase(&name).unwrap();
    assert_eq!(db.stats().unwrap().store.unwrap().failures.len(), 1);
    disk.put(&name, &bytes).unwrap();
    assert_eq!(db.snapshot().unwrap().wait().unwrap().sequence, whole.sequence);
    db.write(|tx| Ok(tx.spawn(Counter(9)))).unwrap();
    assert_eq!(db.snapshot().unwrap().wait().unwrap().parent, whole.sequence);
    let now = state(&db);
    assert_ne!(now, last);
    db.close().unwrap();
    drop(db);
    opens_strictly(&disk, now);
}

/// A full snapshot for which there is no room is tried once, and not for ever: increments, which can be loaded, have some.
#[test]
fn where_there_is_no_room_for_a_full_one_increments_go_on() {
    let (disk, _) = chain();
    spoil(&disk, PLACES[0]);
    let db = builder(&disk, chained).open().unwrap();
    db.stats().unwrap();
    let used: usize = files(&disk, "").iter().map(|file| disk.read(file).unwrap().len()).sum();
    disk.set_quota(Some(used as u64));
    db.snapshot().unwrap().wait().unwrap_err();
    disk.set_quota(None);
    db.write(|tx| Ok(tx.spawn(Counter(9)))).unwrap();
    assert_ne!(db.snapshot().unwrap().wait().unwrap().parent, 0);
    // And that one rests on the damaged file, too.
    db.stats().unwrap();
    db.write(|tx| Ok(tx.spawn(Counter(9)))).unwrap();
    assert_eq!(db.snapshot().unwrap().wait().unwrap().parent, 0);
    let last = state(&db);
    db.close().unwrap();
    drop(db);
    opens_strictly(&disk, last);
}
