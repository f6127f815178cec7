//! One bad file stops nothing that does not need it (REC-14): neither opening, under any policy, nor writing, archiving, going back, and
//! opening again.

use std::path::{Path, PathBuf};

use ecsdb::Policy;
use ecsdb::prelude::*;
use ecsdb_io::{FileKind, FileOp, Layout};
use ecsdb_sim::{CrashVariant, Failure, Fault, SimDisk};
use ecsdb_tests::crashed::{self, DIR, open_with};

use crate::components::{Counter, Name};
use crate::golden::copy_dir;
use crate::lifecycle::{archiving, by_hand};

const POLICIES: [Policy; 3] = [Policy::Strict, Policy::TruncateTail, Policy::Salvage];

/// Transactions, snapshots, increments, archived segments of both kinds.
fn lived(dir: &Path) {
    for level in [3, 0] {
        let db = Database::builder(dir)
            .config(archiving)
            .config(|config| config.archive.compression_level = level)
            .open()
            .unwrap();
        for i in 0..4 {
            for _ in 0..6 {
                db.write(|tx| Ok(tx.spawn((Counter(i), Name("x".repeat(12_000)))))).unwrap();
            }
            db.snapshot().unwrap().wait().unwrap();
        }
        db.close().unwrap();
    }
}

fn open(dir: &Path, policy: Policy) -> ecsdb::Result<Database> {
    Database::builder(dir).config(archiving).policy(policy).open()
}

/// Opens it, writes, lets everything that happens in the background happen, and opens it again.
fn lives_on(dir: &Path, policy: Policy, len: usize) {
    let db = open(dir, policy).unwrap();
    assert_eq!(db.view().unwrap().len(), len);
    assert!(db.recovery_report().unwrap().lost.is_empty());
    db.write(|tx| Ok(tx.spawn(Counter(77)))).unwrap();
    db.stats().unwrap();
    db.snapshot().unwrap().wait().unwrap();
    db.compact().unwrap().wait().unwrap();
    let lsn = db.lsn();
    db.close().unwrap();
    let db = open(dir, policy).unwrap();
    assert_eq!((db.view().unwrap().len(), db.lsn()), (len + 1, lsn));
}

/// The files of a directory with such names, in the order of their names.
pub(crate) fn files(dir: &Path, ending: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.to_string_lossy().ends_with(ending));
    files.sort();
    files
}

/// A directory for each try, all alike.
struct Template(tempfile::TempDir);

impl Template {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        lived(&dir.path().join("template"));
        Template(dir)
    }

    fn copy(&self) -> PathBuf {
        let copy = self.0.path().join("copy");
        drop(std::fs::remove_dir_all(&copy));
        copy_dir(&self.0.path().join("template"), &copy);
        copy
    }
}

const LEN: usize = 48;

#[test]
fn stray_files_with_names_of_ours_are_passed_over() {
    let template = Template::new();
    let names = ["18446744073709551615", "9999999999999999", "0281474976710656", "0000000099999999"];
    let kinds = [
        (".", "manifest"),
        ("log", "seg"),
        ("archive", "seg"),
        ("archive", "seg.zst"),
        ("snapshots", "snap"),
    ];
    for (i, (place, ending)) in kinds.into_iter().enumerate() {
        for (j, name) in names.iter().enumerate() {
            let dir = template.copy();
            let path = dir.join(place).join(format!("{name}.{ending}"));
            println!("{}", path.display());
            let content: &[u8] = [&b"noise"[..], &[7; 9_000], b""][(i + j) % 3];
            std::fs::write(&path, content).unwrap();
            // Strict refuses what is no manifest; it says so.
            let policies = if ending == "manifest" { &POLICIES[1..] } else { &POLICIES[..] };
            lives_on(&dir, policies[(i + j) % policies.len()], LEN);
        }
    }
}

/// What a file says that it is counts, and its name: a copy of the first segment under a higher number made the true one look as if nothing
/// needed it, and everything was lost.
#[test]
fn a_copy_of_a_segment_under_another_number_is_passed_over() {
    for number in [3, 99] {
        for policy in POLICIES {
            let dir = tempfile::tempdir().unwrap();
            let db = Database::open(dir.path()).unwrap();
            for i in 0..3 {
                db.write(|tx| Ok(tx.spawn(Counter(i)))).unwrap();
            }
            db.close().unwrap();
            let log = dir.path().join("log");
            let copy = log.join(format!("{number:016}.seg"));
            std::fs::copy(log.join("0000000000000001.seg"), copy).unwrap();
            println!("{number} {policy:?}");
            lives_on(dir.path(), policy, 3);
        }
    }
}

#[test]
fn directories_with_names_of_ours_are_passed_over() {
    let template = Template::new();
    for (place, name) in [
        (".", "0000000000000099.manifest"),
        ("log", "0000000000000099.seg"),
        ("archive", "0000000000000099.seg.zst"),
        ("archive", "0000000000000002.seg"),
        ("snapshots", "0000000000000099.snap"),
        ("log", "0000000000000099.seg.tmp"),
    ] {
        for policy in POLICIES {
            let dir = template.copy();
            println!("{place}/{name} {policy:?}");
            std::fs::create_dir(dir.join(place).join(name)).unwrap();
            lives_on(&dir, policy, LEN);
        }
    }
}

#[test]
fn damage_in_the_archive_stops_nothing_that_does_not_need_it() {
    let template = Template::new();
    let mut random = fastrand::Rng::with_seed(5);
    for i in 0..60 {
        let dir = template.copy();
        let locks = |path: &PathBuf| path.to_string_lossy().contains("LOCK");
        let archived: Vec<_> =
            files(&dir.join("archive"), "").into_iter().filter(|path| !locks(path)).collect();
        let path = &archived[random.usize(..archived.len())];
        let mut bytes = std::fs::read(path).unwrap();
        // The ends of the files, where headers and seek tables are, as often as the rest.
        let len = bytes.len();
        let at = [random.usize(..len), random.usize(..len.min(128)), len - 1 - random.usize(..len.min(64))];
        let bit = at[random.usize(..3)] * 8 + random.usize(..8);
        match i % 4 {
            0 => bytes.truncate(bit / 8),
            1 => bytes.fill(random.u8(..)),
            _ => bytes[bit / 8] ^= 1 << (bit % 8),
        }
        println!("{i}: {} bit {bit}", path.display());
        std::fs::write(path, bytes).unwrap();
        lives_on(&dir, POLICIES[i % 3], LEN);
        // Going back may be refused, and gives nothing wrong.
        let db = open(&dir, Policy::TruncateTail).unwrap();
        for lsn in [3, 9, 20, 30, 47].map(Lsn) {
            if db.restore(Moment::Lsn(lsn)).unwrap().wait().is_ok() {
                assert_eq!(db.view().unwrap().len() as u64, lsn.0);
            }
        }
    }
}

/// REC-16: what a missing segment leaves no way to is refused, and the error says what there is.
#[test]
fn going_back_over_a_missing_segment_is_refused_with_the_range_that_is_there() {
    let template = Template::new();
    let segments = files(&template.copy().join("archive"), "");
    let segments: Vec<_> = segments
        .iter()
        .filter(|path| path.to_string_lossy().contains(".seg"))
        .map(|path| path.file_name().unwrap())
        .collect();
    assert!(segments.len() > 4, "{segments:?}");
    for name in segments {
        let dir = template.copy();
        std::fs::remove_file(dir.join("archive").join(name)).unwrap();
        let db = open(&dir, Policy::TruncateTail).unwrap();
        let mut from = 0;
        for lsn in (1..=LEN as u64).step_by(4) {
            match db.restore(Moment::Lsn(Lsn(lsn))).and_then(|job| job.wait()) {
                // Where a snapshot stands nothing else is needed.
                Ok(_) => assert_eq!(db.view().unwrap().len() as u64, lsn),
                Err(e) => {
                    assert_eq!(e.kind(), ErrorKind::NotFound, "{name:?}: {e}");
                    let text = e.to_string();
                    let (_, there) = text.split_once("LSN ").unwrap().1.split_once("LSN ").unwrap();
                    from = there.split(' ').next().unwrap().parse().unwrap();
                    assert!(from > lsn, "{name:?}: {e}");
                }
            }
        }
        assert!(from > 1, "{name:?} is missed");
    }
}

#[test]
fn an_archive_that_is_no_directory_stops_nothing() {
    let template = Template::new();
    for policy in POLICIES {
        let dir = template.copy();
        std::fs::remove_dir_all(dir.join("archive")).unwrap();
        std::fs::write(dir.join("archive"), b"not mounted").unwrap();
        let db = open(&dir, policy).unwrap();
        assert_eq!(db.view().unwrap().len(), LEN);
        db.write(|tx| Ok(tx.spawn(Counter(1)))).unwrap();
    }
}

#[test]
fn reports_that_cannot_be_written_stop_nothing() {
    let template = Template::new();
    let dir = template.copy();
    std::fs::remove_dir_all(dir.join("recovery")).unwrap();
    std::fs::write(dir.join("recovery"), b"").unwrap();
    lives_on(&dir, Policy::TruncateTail, LEN);
}

#[test]
fn any_byte_of_the_newest_manifest_may_be_wrong() {
    let template = Template::new();
    let len = std::fs::read(files(&template.copy(), ".manifest").last().unwrap()).unwrap().len();
    for byte in (0..len).step_by(if cfg!(debug_assertions) { 7 } else { 1 }).chain(8..12) {
        let dir = template.copy();
        let path = files(&dir, ".manifest").pop().unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[byte] ^= 0x40;
        std::fs::write(&path, bytes).unwrap();
        let db = open(&dir, Policy::TruncateTail).unwrap();
        assert_eq!(db.view().unwrap().len(), LEN, "byte {byte}");
    }
}

/// The disk does not give the newest snapshot, or a segment of the log: an older snapshot and the log have it all; and a salvage
/// goes on without the segment.
#[test]
fn what_the_disk_does_not_give_is_passed_over_like_what_is_damaged() {
    let disk = SimDisk::new(1);
    let open = |policy| {
        let builder = Database::builder("/db").vfs(disk.vfs()).without_threads().config(archiving);
        builder.policy(policy).open()
    };
    let db = open(Policy::Strict).unwrap();
    for i in 0..2 {
        db.write(|tx| Ok(tx.spawn(Counter(i)))).unwrap();
        db.snapshot().unwrap().wait().unwrap();
    }
    db.write(|tx| Ok(tx.spawn(Counter(3)))).unwrap();
    db.close().unwrap();
    let unreadable = |name: &str| {
        let fault = Fault::on(FileOp::Read).of_names_ending(name);
        disk.inject(fault.times(u64::MAX).failing(Failure::Io));
    };
    unreadable("0000000000000002.snap");
    assert!(open(Policy::Strict).is_err());
    let db = open(Policy::TruncateTail).unwrap();
    assert_eq!(db.view().unwrap().len(), 3);
    db.write(|tx| Ok(tx.spawn(Counter(4)))).unwrap();
    db.snapshot().unwrap().wait().unwrap();
    db.write(|tx| Ok(tx.spawn(Counter(5)))).unwrap();
    db.close().unwrap();

    let live = disk.vfs().read_dir(Path::new("/db/log")).unwrap();
    let names = live.into_iter().map(|entry| entry.name).filter(|name| name.ends_with(".seg"));
    let last = names.max().unwrap();
    unreadable(&last);
    assert!(open(Policy::TruncateTail).is_err());
    let db = open(Policy::Salvage).unwrap();
    assert_eq!(db.view().unwrap().len(), 4);
    assert_eq!(db.recovery_report().unwrap().lost.len(), 1);
    db.close().unwrap();
    assert_eq!(open(Policy::Strict).unwrap().view().unwrap().len(), 4);
}

/// Case r88461 of `corrupt`: an old manifest under a new number was taken for the newest one, and with it what was known to be durable went
/// back.
#[test]
fn a_manifest_under_another_number_is_none() {
    let template = Template::new();
    let dir = template.copy();
    let manifests = files(&dir, ".manifest");
    for number in [102u64, 1 << 40] {
        std::fs::copy(&manifests[0], dir.join(format!("{number:016}.manifest"))).unwrap();
    }
    let refused = open(&dir, Policy::Strict).unwrap_err();
    assert!(refused.to_string().contains("it is the manifest of generation"), "{refused}");
    let db = open(&dir, Policy::TruncateTail).unwrap();
    assert_eq!((db.view().unwrap().len(), db.recovery_report().unwrap().rejected.len()), (LEN, 2));
}

/// What is published then has to be kept beside another whole one, or the next damage is one too many (REC-8).
#[test]
fn an_opening_after_a_damaged_manifest_leaves_two_whole_ones() {
    let template = Template::new();
    let dir = template.copy();
    for round in 0..2 {
        let newest = files(&dir, ".manifest").pop().unwrap();
        let mut bytes = std::fs::read(&newest).unwrap();
        bytes[60] ^= 0x40;
        std::fs::write(&newest, bytes).unwrap();
        let db = open(&dir, Policy::TruncateTail).unwrap();
        assert_eq!(db.view().unwrap().len(), LEN, "round {round}");
        db.close().unwrap();
    }
}

/// It is refused by what needs it alone.
#[test]
fn a_snapshot_of_a_newer_format_that_nobody_needs_stops_nothing() {
    let template = Template::new();
    for policy in POLICIES {
        let dir = template.copy();
        let mut bytes = std::fs::read(files(&dir.join("snapshots"), ".snap").pop().unwrap()).unwrap();
        bytes[8] = 77;
        let sum = ecsdb_io::checksum(0, &bytes[..92]);
        bytes[92..96].copy_from_slice(&sum.to_le_bytes());
        std::fs::write(dir.join("snapshots").join(FileKind::Snapshot.name(99)), bytes).unwrap();
        lives_on(&dir, policy, LEN);
    }
}

/// Nor does one of the log, in the log or in the archive, and what is needed no more goes.
#[test]
fn a_segment_of_another_format_that_nobody_needs_stops_nothing() {
    let template = Template::new();
    let mut policies = POLICIES.into_iter().cycle();
    for version in [1, 9] {
        for (place, number) in [("log", 1), ("archive", 1), ("archive", 2), ("archive", 99)] {
            let dir = template.copy();
            let log = files(&dir.join("log"), ".seg");
            let mut bytes = std::fs::read(&log[0]).unwrap();
            bytes[8] = version;
            let sum = ecsdb_io::checksum(0, &bytes[..124]);
            bytes[124..128].copy_from_slice(&sum.to_le_bytes());
            let path = dir.join(place).join(FileKind::Segment.name(number));
            assert!(!path.exists());
            std::fs::write(&path, bytes).unwrap();
            println!("version {version}, {}", path.display());
            lives_on(&dir, policies.next().unwrap(), LEN);
            let left = files(&dir.join("log"), ".seg").len();
            assert!(left <= log.len() + 1, "{} segments became {left}", log.len());
        }
    }
}

/// A torn tail is set aside under a name that something has which nobody made, or can read.
#[test]
fn something_odd_in_the_quarantine_stops_no_opening() {
    let disk = crashed::disk(1);
    let open = |disk: &SimDisk| open_with(disk, by_hand).unwrap();
    let db = open(&disk);
    db.write(|tx| Ok(tx.spawn(Counter(1)))).unwrap();
    drop(db);
    let segment = Layout::new(DIR).file(FileKind::Segment, 1);
    let end = disk.read(&segment).unwrap().iter().rposition(|byte| *byte != 0).unwrap() as u64;
    disk.corrupt(&segment, end.next_multiple_of(512) + 512, &[7; 100]).unwrap();
    let trial = disk.crash(CrashVariant::KEPT);
    drop(open(&trial));
    let mut paths = trial.files().into_iter().map(|(path, _)| path);
    let aside = paths.find(|path| path.starts_with(Layout::new(DIR).quarantine_dir())).unwrap();
    for is_directory in [true, false] {
        let disk = disk.crash(CrashVariant::KEPT);
        if is_directory {
            disk.put_dir(&aside).unwrap();
        } else {
            disk.put(&aside, b"something").unwrap();
            let name = aside.file_name().unwrap().to_str().unwrap();
            disk.inject(Fault::on(FileOp::Open).of_names_ending(name).times(u64::MAX));
        }
        assert_eq!(open(&disk).view().unwrap().len(), 1);
    }
}

/// A directory where a file of the engine's belongs that the database can do without.
#[test]
fn directories_in_the_place_of_files_that_are_not_needed_stop_nothing() {
    let template = Template::new();
    let next = |dir: &str, kind: FileKind| {
        let dir = template.0.path().join("template").join(dir);
        kind.name(ecsdb_io::next_free_number(&ecsdb_io::Disk, &dir, kind).unwrap())
    };
    let names = [
        "UNFINISHED".into(),
        "log/OWNER".into(),
        "log/OWNER.tmp".into(),
        "snapshots/OWNER".into(),
        format!("{}.tmp", next("", FileKind::Manifest)),
        format!("log/{}.tmp", next("log", FileKind::Segment)),
        format!("snapshots/{}.tmp", next("snapshots", FileKind::Snapshot)),
        format!("recovery/{}", next("recovery", FileKind::Report)),
    ];
    for name in names {
        println!("{name}");
        let dir = template.copy();
        let path = dir.join(&name);
        drop(std::fs::remove_file(&path));
        std::fs::create_dir(&path).unwrap();
        lives_on(&dir, Policy::TruncateTail, LEN);
        assert!(path.is_dir());
    }
}

#[test]
fn reports_give_way_to_no_strangers_file_and_no_strangers_file_to_them() {
    let template = Template::new();
    let dir = template.copy();
    let recovery = dir.join("recovery");
    let strangers: Vec<PathBuf> =
        ["0 notes.txt", "zz.txt", "1.txt"].into_iter().map(|name| recovery.join(name)).collect();
    for stranger in &strangers {
        std::fs::write(stranger, "mine").unwrap();
    }
    std::fs::create_dir(recovery.join("0 directory.txt")).unwrap();
    for _ in 0..12 {
        open(&dir, Policy::TruncateTail).unwrap().close().unwrap();
    }
    assert!(strangers.iter().all(|stranger| std::fs::read(stranger).unwrap() == b"mine"));
    assert_eq!(files(&recovery, ".txt").len(), 8 + strangers.len() + 1);
}

/// CKP-10: what has a name of ours and is somebody's is not deleted, nor is anything written in its place.
#[test]
fn strangers_files_under_names_of_ours_are_kept() {
    let template = Template::new();
    let dir = template.copy();
    let report = |number: u64| dir.join("recovery").join(FileKind::Report.name(number));
    let next = ecsdb_io::next_free_number(&ecsdb_io::Disk, &dir.join("recovery"), FileKind::Report).unwrap();
    let strangers = [report(0), report(next), report(next + 3), report(90), dir.join("UNFINISHED")];
    for stranger in &strangers {
        std::fs::write(stranger, "mine").unwrap();
    }
    for _ in 0..12 {
        open(&dir, Policy::TruncateTail).unwrap().close().unwrap();
    }
    for stranger in &strangers {
        assert_eq!(std::fs::read(stranger).unwrap(), b"mine", "{}", stranger.display());
    }
    assert_eq!(files(&dir.join("recovery"), ".txt").len(), 8 + strangers.len() - 1);
    // Nor is it a mark where there is no manifest any more.
    files(&dir, ".manifest").iter().for_each(|manifest| std::fs::remove_file(manifest).unwrap());
    open(&dir, Policy::Salvage).unwrap().close().unwrap();
    assert_eq!(std::fs::read(dir.join("UNFINISHED")).unwrap(), b"mine");
}

/// The same of a file `OWNER` in a directory that is given to the database.
#[test]
fn a_strangers_owner_is_kept() {
    for name in ["log", "snapshots", "archive"] {
        let place = tempfile::tempdir().unwrap();
        let (dir, shared) = (place.path().join("world"), place.path().join("shared"));
        std::fs::create_dir(&shared).unwrap();
        std::fs::write(shared.join("OWNER"), "Alice").unwrap();
        let open = || {
            Database::builder(&dir)
                .config(archiving)
                .config(|config| match name {
                    "log" => config.wal.dir = Some(shared.clone()),
                    "snapshots" => config.snapshot.dir = Some(shared.clone()),
                    _ => config.archive.dir = Some(shared.clone()),
                })
                .open()
        };
        for _ in 0..2 {
            let Ok(db) = open() else { continue };
            for _ in 0..6 {
                db.write(|tx| Ok(tx.spawn((Counter(1), Name("x".repeat(30_000)))))).unwrap();
            }
            db.snapshot().unwrap().wait().unwrap();
            db.compact().unwrap().wait().unwrap();
            db.close().unwrap();
        }
        let places = [shared.join("OWNER"), dir.join("quarantine/OWNER")];
        let is_kept = |path: &PathBuf| std::fs::read(path).is_ok_and(|bytes| bytes == b"Alice");
        assert!(places.iter().any(is_kept), "{name}: {:?}", std::fs::read(&places[0]));
        assert_eq!(open().unwrap().view().unwrap().len(), 12, "{name}");
    }
}
