//! An archive that cannot be listed: a file lies in its place, or the disk that it is on does not answer. Nobody who does not need it waits for it, and who
//! misses something is told (REC-14, CKP-7).

use ecsdb::{Moment, PersistenceConfig, Policy};
use ecsdb_io::{FileOp, Layout};
use ecsdb_recovery::verify;
use ecsdb_sim::{CrashVariant, Fault, SimDisk};
use ecsdb_tests::crashed::{self, DIR, builder, files};

use crate::lifecycle::{State, archiving, by_hand, large, state};

fn each_full(config: &mut PersistenceConfig) {
    archiving(config);
    config.snapshot.chain_max = 1;
}

/// A closed database that archives, with something in its archive or before there was anything, of which the archive cannot be listed.
fn unlisted(settings: fn(&mut PersistenceConfig), writes: u64) -> (SimDisk, Vec<State>) {
    let disk = crashed::disk(1);
    let db = builder(&disk, settings).open().unwrap();
    let mut states = Vec::new();
    for value in 0..writes {
        states.extend([large(&db, value), large(&db, value + 100)]);
        db.snapshot().unwrap().wait().unwrap();
    }
    states.push(large(&db, writes));
    db.close().unwrap();
    drop(db);
    disk.inject(Fault::on(FileOp::ReadDir).of_names_ending("world/archive").times(u64::MAX));
    (disk, states)
}

/// The settings, whether they archive, and how many snapshots there were: an archive that was never used, one that is empty, one that is not.
type Case = (fn(&mut PersistenceConfig), bool, u64);
const CASES: [Case; 3] = [(by_hand, false, 2), (each_full, true, 1), (each_full, true, 5)];

#[test]
fn whoever_does_not_need_it_goes_on_without() {
    for (settings, archives, writes) in CASES {
        let (disk, states) = unlisted(settings, writes);
        let last = *states.last().unwrap();
        let db = builder(&disk, settings).policy(Policy::Strict).open().unwrap();
        assert_eq!(state(&db), last);
        let stats = db.stats().unwrap().store.unwrap();
        assert_eq!((stats.archive_bytes, stats.snapshots > 0), (0, true), "{writes}");
        db.snapshot().unwrap().wait().unwrap();
        let made = db.view_at(Moment::Lsn(last.0)).unwrap().wait().unwrap();
        assert_eq!(made.digest().unwrap(), last.1, "{writes}");
        // What it would delete has no copy yet.
        let compacted = db.compact().unwrap().wait();
        assert_eq!(compacted.is_ok(), !archives, "{writes}: {compacted:?}");
        db.close().unwrap();
        drop(db);
        let seen = builder(&disk, settings).open_read_only().unwrap();
        assert_eq!(seen.view().unwrap().digest().unwrap(), last.1, "{writes}");
    }
}

/// What is wanted of it is told by whoever verifies, and by whoever asks for a moment that only it has.
#[test]
fn what_only_it_has_is_told() {
    let (disk, states) = unlisted(each_full, 5);
    let verified = verify(&*disk.vfs(), &Layout::new(DIR), &mut |_| {}).unwrap();
    assert!(verified.faults.iter().any(|fault| fault.contains("archive")), "{verified:?}");
    let db = builder(&disk, each_full).open().unwrap();
    let error = db.view_at(Moment::Lsn(states[2].0)).and_then(|view| view.wait()).err().unwrap().to_string();
    assert!(error.contains("archive"), "{error}");
    // One that was never used is nobody's fault.
    let (disk, _) = unlisted(by_hand, 2);
    let verified = verify(&*disk.vfs(), &Layout::new(DIR), &mut |_| {}).unwrap();
    assert_eq!((&verified.faults[..], &verified.away[..]), (&[][..], &[][..]));
}

/// REC-5: a salvage comes to its end.
#[test]
fn a_salvage_comes_to_its_end_without() {
    for (settings, _, writes) in CASES {
        let (disk, states) = unlisted(settings, writes);
        disk.corrupt(files(&disk, ".seg").pop().unwrap(), 5000, &[7; 64]).unwrap();
        let db = builder(&disk, settings).policy(Policy::Salvage).open().unwrap();
        assert!(!db.recovery_report().unwrap().lost.is_empty(), "{writes}");
        let (_, digest) = state(&db);
        assert!(states.iter().any(|(_, of)| *of == digest), "{writes}");
        drop(db);
        let disk = disk.crash(CrashVariant::KEPT);
        disk.inject(Fault::on(FileOp::ReadDir).of_names_ending("world/archive").times(u64::MAX));
        builder(&disk, settings).policy(Policy::Strict).open().unwrap();
    }
}
