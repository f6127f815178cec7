//! What opening, verifying and going back hold at a time is bounded, however many sessions there were (IO-1); and so is what failures and kills
//! leave behind (CKP-7, CKP-9).

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ecsdb::prelude::*;
use ecsdb::{Disk, FileOp, IoError, Vfs};
use ecsdb_io::Layout;
use ecsdb_recovery::{Existence, History, Options, Policy, lock_closed};
use ecsdb_sim::{CrashVariant, Failure, Fault, NameOrder, SimDisk};

use crate::components::{Counter, Name};
use crate::lifecycle::by_hand;
use ecsdb::{Around, Hooks};
use ecsdb_tests::crashed::{self, DIR, files, open_with};

/// Files that may be open at a time: as with `ulimit -n`.
const FILES_MAX: usize = 8;

/// Opens no more than [`FILES_MAX`] files at a time.
#[derive(Default)]
struct Limited(AtomicUsize);

impl Hooks for Limited {
    fn before(&self, op: FileOp, path: &Path) -> Result<(), IoError> {
        if matches!(op, FileOp::Open | FileOp::Create) && self.0.fetch_add(1, Ordering::SeqCst) >= FILES_MAX {
            self.closed();
            // `EMFILE`
            return Err(IoError::new(op, path, std::io::Error::from_raw_os_error(24)));
        }
        Ok(())
    }

    fn closed(&self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn open(disk: &SimDisk) -> Database {
    open_with(disk, |_| {}).unwrap()
}

fn segments(vfs: &dyn Vfs, dir: &Path) -> usize {
    let entries = vfs.read_dir(&dir.join("log")).unwrap();
    entries.iter().filter(|entry| entry.name.ends_with(".seg")).count()
}

/// Each segment of the log was open while it was read.
#[test]
fn many_short_sessions_open_verify_and_go_back_with_few_files_open() {
    let disk = crashed::disk(1);
    for _ in 0..40 {
        let db = open(&disk);
        db.write(|tx| Ok(tx.spawn(Counter(1)))).unwrap();
        db.close().unwrap();
    }
    assert!(segments(&disk, Path::new(DIR)) >= 40);
    let limited = Around::new(disk.vfs(), Limited::default());
    let layout = Layout::new(DIR);
    let verified = ecsdb_recovery::verify(&limited, &layout, &mut |_| {}).unwrap();
    assert_eq!((verified.last_lsn, verified.faults), (Lsn(40), Vec::new()));
    let (lock, manifest) = lock_closed(&limited, &layout).unwrap();
    let history = History::of_closed(&limited, &layout, &manifest).unwrap();
    let options =
        Options { existence: Existence::Required, policy: Policy::Strict, threads: 1, register: true };
    let past =
        history.reconstruct(Moment::Lsn(Lsn(30)), options, &mut |_| ControlFlow::Continue(())).unwrap();
    assert_eq!(past.world.view().len(), 30);
    drop((lock, past));
    assert_eq!(limited.hooks.0.load(Ordering::SeqCst), 0);
    let db = Database::builder(DIR).vfs(Arc::new(limited)).without_threads().open().unwrap();
    assert_eq!(db.view().unwrap().len(), 40);
}

/// Each opening began a segment of its own, and nothing ever gave them up.
#[test]
fn sessions_that_write_nothing_leave_no_segment_closed_or_killed() {
    let mut disk = crashed::disk(1);
    let db = open(&disk);
    db.write(|tx| Ok(tx.spawn(Counter(1)))).unwrap();
    drop(db);
    for round in 0..6 {
        let db = open(&disk);
        if round % 2 == 0 {
            db.close().unwrap();
        } else {
            disk.power_off();
            drop(db);
            disk = disk.crash(CrashVariant::KEPT);
        }
        assert_eq!(segments(&disk, Path::new(DIR)), 2, "round {round}");
    }
    let db = open(&disk);
    assert_eq!(db.recovery_report().unwrap().incarnation, 8);
    db.write(|tx| Ok(tx.spawn(Counter(2)))).unwrap();
    drop(db);
    let db = Database::builder(DIR).vfs(disk.vfs()).without_threads().policy(Policy::Strict).open().unwrap();
    assert_eq!((db.view().unwrap().len(), db.lsn()), (2, Lsn(2)));
}

/// With threads a segment is prepared ahead, where the next session goes on.
#[test]
fn a_session_that_was_killed_with_a_segment_prepared_leaves_none_either() {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..3 {
        let db = Database::open(dir.path()).unwrap();
        db.close().unwrap();
        // What a killed process leaves.
        std::fs::write(dir.path().join("log/0000000000000002.seg"), vec![0; 64 << 10]).unwrap();
        let db = Database::builder(dir.path()).without_threads().open().unwrap();
        assert_eq!(segments(&Disk, dir.path()), 1);
        db.close().unwrap();
    }
}

#[test]
fn sessions_that_write_little_are_folded_into_snapshots() {
    let dir = tempfile::tempdir().unwrap();
    let session = || {
        Database::builder(dir.path())
            .config(|config| {
                config.snapshot.after_segments = 3;
                config.snapshot.interval = std::time::Duration::ZERO;
                config.snapshot.chain_max = 1;
            })
            .open()
            .unwrap()
    };
    for _ in 0..20 {
        let db = session();
        let found = db.recovery_report().unwrap().clone();
        db.write(|tx| Ok(tx.spawn(Counter(1)))).unwrap();
        let store = || db.stats().unwrap().store.unwrap();
        // The snapshot comes by itself when it is due; in a session this short it would be cancelled.
        let due = found.segments >= 2;
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while due && store().snapshot_lsn < found.last_lsn {
            assert!(std::time::Instant::now() < deadline, "no snapshot is taken");
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        db.close().unwrap();
    }
    let left = segments(&Disk, dir.path());
    assert!(left <= 8, "{left} segments");
    assert_eq!(session().view().unwrap().len(), 20);
}

/// A session that closes at once cancels the snapshot that is due in it; so did all of them.
#[test]
fn sessions_too_short_for_a_snapshot_leave_a_bounded_log() {
    let dir = tempfile::tempdir().unwrap();
    let mut most = 0;
    for i in 0..80u64 {
        let db = Database::builder(dir.path())
            .config(|config| {
                config.snapshot.after_segments = 3;
                config.snapshot.interval = std::time::Duration::ZERO;
            })
            .open()
            .unwrap();
        assert_eq!(db.view().unwrap().len() as u64, i);
        db.write(|tx| Ok(tx.spawn(Counter(i)))).unwrap();
        db.close().unwrap();
        most = most.max(segments(&Disk, dir.path()));
    }
    // Four times three, and as many for the snapshot to fall back to, in chains of increments.
    assert!(most < 60, "{most} segments");
}

fn write(db: &Database) {
    db.write(|tx| Ok(tx.spawn(Counter(1)))).unwrap();
}

/// The files below the quarantine with such names.
fn quarantined(disk: &SimDisk, ending: &str) -> Vec<PathBuf> {
    let mut paths = files(disk, ending);
    paths.retain(|path| path.starts_with(Path::new(DIR).join("quarantine")));
    paths
}

/// CKP-7, CKP-9: there is room for snapshots, in a directory of their own, and none for a manifest.
#[test]
fn snapshots_whose_manifest_fails_do_not_pile_up() {
    let disk = crashed::disk(1);
    let open = || open_with(&disk, by_hand).unwrap();
    let db = open();
    for _ in 0..3 {
        write(&db);
        db.snapshot().unwrap().wait().unwrap();
    }
    let before = files(&disk, ".snap").len();
    write(&db);
    let full = Fault::on(FileOp::Write).of_names_containing(".manifest").failing(Failure::NoSpace);
    disk.inject(full.times(u64::MAX));
    for _ in 0..20 {
        db.snapshot().unwrap().wait().unwrap_err();
    }
    let after = files(&disk, ".snap").len();
    assert!(after <= before + 1, "{before} snapshot files became {after}");
    drop(db);
    disk.clear_faults();
    drop(open());
    assert!(quarantined(&disk, ".snap").len() <= 1);
}

/// CKP-9: what is whole and was never listed is set aside, and nobody takes it away from there.
#[test]
fn kills_within_snapshots_do_not_fill_the_quarantine() {
    let mut disk = crashed::disk(1);
    for stop in (0..25).cycle().take(75) {
        let db = open_with(&disk, by_hand).unwrap();
        write(&db);
        disk.stop_after(disk.operations() + stop);
        drop(db.snapshot().unwrap().wait());
        drop(db);
        disk = disk.crash(CrashVariant::KEPT);
    }
    let aside = quarantined(&disk, ".snap");
    assert!(aside.len() <= 2, "{aside:?}");
}

/// REC-3: what is set aside of a torn tail is what was written of it, not the rest of its segment.
#[test]
fn a_torn_tail_sets_aside_what_was_written() {
    let open = |disk: &SimDisk| {
        open_with(disk, |config| {
            config.manual();
            config.wal.segment_bytes_first = ecsdb::ByteSize(1 << 20);
            config.wal.segment_bytes_max = ecsdb::ByteSize(1 << 20);
        })
    };
    let disk = crashed::disk(1);
    let db = open(&disk).unwrap();
    write(&db);
    disk.stop_after(disk.operations());
    db.write(|tx| Ok(tx.spawn(Name("x".repeat(10_000))))).unwrap_err();
    drop(db);
    let mut torn = 0;
    for variant in disk.crash_variants(6, 1, NameOrder::Any) {
        let disk = disk.crash(variant);
        drop(open(&disk).unwrap());
        let aside: u64 =
            quarantined(&disk, "").iter().map(|path| disk.read(path).unwrap().len() as u64).sum();
        assert!(aside <= 4 * 12_288, "{variant:?}: {aside} bytes");
        torn += u64::from(aside > 0);
    }
    assert!(torn > 0);
}

#[derive(Component, Clone, Copy, PartialEq)]
#[component(name = "test.page", plain)]
#[repr(C)]
struct Page([u8; 64 << 10]);

/// What `docs/limits.md` says of plain values and stacks.
#[test]
fn a_plain_value_of_64_kib_passes_over_an_ordinary_stack_in_any_operation() {
    let whole = || {
        let dir = tempfile::tempdir().unwrap();
        let db = Database::open(dir.path()).unwrap();
        let id = db.write(|tx| Ok(tx.spawn((Page([1; 64 << 10]), Counter(1))))).unwrap();
        db.write(|tx| {
            tx.get_mut::<Page>(id)?.0[5] = 2;
            tx.insert(id, (Page([3; 64 << 10]), Counter(2)))?;
            let taken = tx.take::<Page>(id)?;
            tx.insert(id, taken)?;
            tx.spawn_batch((0..3).map(|_| Page([4; 64 << 10])));
            tx.insert_resource(Page([5; 64 << 10]));
            tx.query::<&mut Page>().for_each(|page| page.0[0] = 6);
            Ok(())
        })
        .unwrap();
        db.snapshot().unwrap().wait().unwrap();
        db.close().unwrap();
        let db = Database::open(dir.path()).unwrap();
        assert_eq!(db.view().unwrap().get::<Page>(id).unwrap().0[..2], [6, 3]);
    };
    std::thread::Builder::new().stack_size(2 << 20).spawn(whole).unwrap().join().unwrap();
}
