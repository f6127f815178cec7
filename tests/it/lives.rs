//! Two lives of one database, which was put back from a copy between them: what the one has left has the names, the numbers and the LSNs of what
//! the other has, and is not taken for it (REC-8, REC-13).

use std::path::Path;

use ecsdb::Policy;
use ecsdb::prelude::*;
use ecsdb_sim::{CrashVariant, SimDisk};
use ecsdb_tests::crashed::{self, builder, files};

use crate::components::{Counter, Name};
use crate::lifecycle::{State, by_hand, state};

/// A closed database, and where it had come to.
struct Life {
    disk: SimDisk,
    last: State,
}

fn open(disk: &SimDisk, chain: usize, policy: Policy) -> ecsdb::Result<Database> {
    builder(disk, by_hand).config(|config| config.snapshot.chain_max = chain).policy(policy).open()
}

fn write(db: &Database, value: u64) {
    db.write(|tx| Ok(tx.spawn(Counter(value)))).unwrap();
}

fn snapshot(db: &Database) {
    db.snapshot().unwrap().wait().unwrap();
}

/// Both are alike but for their values.
fn two_lives(chain: usize) -> [Life; 2] {
    let disk = crashed::disk(1);
    let db = open(&disk, chain, Policy::Strict).unwrap();
    // Blocks that increments share.
    db.write(|tx| Ok(tx.spawn_batch((0..20).map(|i| (Name(i.to_string()),))))).unwrap();
    (0..4).for_each(|i| write(&db, i));
    snapshot(&db);
    db.close().unwrap();
    [1_000, 2_000].map(|value| {
        let disk = disk.crash(CrashVariant::KEPT);
        // No two processes draw the same random numbers.
        for _ in 0..value {
            disk.vfs().random_u64();
        }
        let db = open(&disk, chain, Policy::Strict).unwrap();
        db.write(|tx| Ok(tx.spawn_batch((0..20).map(|i| (Name((value + i).to_string()), Counter(i))))))
            .unwrap();
        for i in 0..3 {
            write(&db, value + i);
            snapshot(&db);
        }
        write(&db, value + 7);
        let last = state(&db);
        db.close().unwrap();
        Life { disk, last }
    })
}

/// True when it opens, as it was.
fn opens(disk: &SimDisk, chain: usize, last: State, what: &str) -> bool {
    match open(disk, chain, Policy::TruncateTail) {
        Ok(db) => {
            assert_eq!(state(&db), last, "{what}\n{}", db.recovery_report().unwrap());
            true
        }
        Err(e) => {
            assert_eq!(e.kind(), ErrorKind::Damaged, "{what}: {e}");
            false
        }
    }
}

/// REC-8: any of them in the place of this one's.
#[test]
fn a_snapshot_of_another_life_is_not_taken_for_this_ones() {
    for chain in [1, 8] {
        let [other, this] = two_lives(chain);
        let mut both = files(&this.disk, ".snap");
        both.retain(|path| other.disk.read(path).is_ok());
        assert!(both.len() > 1, "{both:?}");
        let mut opened = 0;
        for chosen in 1..1 << both.len() {
            let disk = this.disk.crash(CrashVariant::KEPT);
            for (_, path) in both.iter().enumerate().filter(|(i, _)| chosen & (1 << i) != 0) {
                disk.put(path, &other.disk.read(path).unwrap()).unwrap();
            }
            opened +=
                u32::from(opens(&disk, chain, this.last, &format!("{chosen:b} of {both:?}, chain {chain}")));
        }
        assert!(opened > 0);
    }
}

/// REC-13: it has a segment for each opening, and all of the transactions.
#[test]
fn a_log_of_another_life_is_not_taken_for_this_ones() {
    let [other, this] = two_lives(1);
    files(&this.disk, ".seg").iter().for_each(|path| this.disk.erase(path).unwrap());
    for path in files(&other.disk, ".seg") {
        this.disk.put(&path, &other.disk.read(&path).unwrap()).unwrap();
    }
    assert!(!opens(&this.disk, 1, this.last, "the log"));
}

/// REC-8: what is not there means an older one and more of the log, and so does what is another's.
#[test]
fn another_databases_snapshot_in_the_newest_ones_place_means_an_older_one() {
    let [_, this] = two_lives(1);
    let newest = files(&this.disk, ".snap").pop().unwrap();
    let disk = crashed::disk(2);
    let db = open(&disk, 1, Policy::Strict).unwrap();
    for i in 0..4 {
        write(&db, i);
        snapshot(&db);
    }
    assert_eq!(files(&disk, ".snap").last(), Some(&newest));
    this.disk.put(&newest, &disk.read(Path::new(&newest)).unwrap()).unwrap();
    assert!(opens(&this.disk, 1, this.last, "another database's snapshot"));
}
