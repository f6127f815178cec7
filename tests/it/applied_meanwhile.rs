//! What is applied while the log is verified counts only where the log is whole, whatever is damaged, or not given for once: random lives, opened with one
//! thread and with two.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ecsdb::prelude::*;
use ecsdb::{Around, Hooks};
use ecsdb::{ByteSize, DataLoss, Digest, FileOp, IoError, Policy};
use ecsdb_io::sync::Mutex;
use ecsdb_io::{Layout, Vfs};
use ecsdb_recovery::{Existence, Options, RecoveryReport, recover};
use ecsdb_sim::{CrashVariant, SimDisk};
use ecsdb_tests::crashed::{self, DIR, EMPTY, builder};

use crate::components::{Counter, Name};
use crate::lifecycle::{archiving, by_hand, state};
use crate::model::cases;

#[derive(Default)]
struct Once {
    /// Numbers of reads and openings of segments and snapshots that fail.
    at: Mutex<Vec<u64>>,
    n: Mutex<u64>,
    fired: Mutex<Vec<String>>,
}

impl Once {
    fn ask(&self, op: FileOp, path: &Path) -> Result<(), IoError> {
        let name = path.to_string_lossy();
        if !(name.ends_with(".seg") || name.ends_with(".zst") || name.ends_with(".snap")) {
            return Ok(());
        }
        let mut n = self.n.lock();
        *n += 1;
        if self.at.lock().contains(&n) {
            self.fired.lock().push(format!("{n} {op:?} {name}"));
            return Err(IoError::new(op, path, std::io::Error::from_raw_os_error(5)));
        }
        Ok(())
    }
}

impl Hooks for Once {
    fn before(&self, op: FileOp, path: &Path) -> Result<(), IoError> {
        if op == FileOp::Open { self.ask(op, path) } else { Ok(()) }
    }
    fn reads(&self, path: &Path, _: u64, _: u64) -> Result<(), IoError> {
        self.ask(FileOp::Read, path)
    }
}

struct Life {
    disk: SimDisk,
    states: Vec<(Lsn, Digest)>,
    what: Vec<String>,
}

fn open(disk: &SimDisk, archive: bool, chain: usize, big: bool, policy: Policy) -> Database {
    builder(disk, if archive { archiving } else { by_hand })
        .config(|c| {
            c.snapshot.chain_max = chain;
            if big {
                c.wal.segment_bytes_first = ByteSize(4 << 20);
                c.wal.segment_bytes_max = ByteSize(4 << 20);
            }
        })
        .policy(policy)
        .open()
        .unwrap()
}

fn life(random: &mut fastrand::Rng) -> Life {
    let (archive, chain, big) = (random.bool(), random.usize(1..4), random.u32(0..3) == 0);
    let mut disk = crashed::disk(random.u64(..));
    let mut states = vec![(Lsn::ZERO, EMPTY)];
    let mut what = vec![format!("archive {archive} chain {chain} big {big}")];
    let mut db = open(&disk, archive, chain, big, Policy::Strict);
    for _ in 0..random.usize(2..16) {
        match random.u32(0..14) {
            0..8 => {
                let len = match random.u32(0..if big { 8 } else { 6 }) {
                    0..3 => random.usize(..300),
                    3..6 => random.usize(..50_000),
                    6 => random.usize(..1_500_000),
                    _ => random.usize(..10_000_000),
                };
                let many = if len < 300 { random.usize(1..30) } else { 1 };
                for _ in 0..many {
                    let del = random.u32(0..4) == 0;
                    db.write(|tx| {
                        let old: Option<Entity> = tx.query::<(Entity, &Counter)>().map(|(e, _)| e).next();
                        if let Some(old) = old.filter(|_| del) {
                            tx.despawn(old)?;
                        }
                        let mut left = len;
                        loop {
                            let n = left.min(200_000);
                            tx.spawn((Counter(random.u64(..)), Name("y".repeat(n))));
                            left -= n;
                            if left == 0 {
                                break;
                            }
                        }
                        Ok(())
                    })
                    .unwrap();
                    states.push(state(&db));
                }
                what.push(format!("write {many} x {len}"));
            }
            8..10 => {
                what.push("snapshot".into());
                db.snapshot().unwrap().wait().unwrap();
            }
            10 => {
                what.push("compact".into());
                db.compact().unwrap().wait().unwrap();
            }
            11 => {
                what.push("rotate".into());
                db.rotate_log().unwrap();
            }
            12 => {
                what.push("close".into());
                db.close().unwrap();
                drop(db);
                db = open(&disk, archive, chain, big, Policy::Strict);
            }
            _ => {
                what.push("crash".into());
                disk.power_off();
                drop(db);
                disk = disk.crash(CrashVariant::KEPT);
                db = open(&disk, archive, chain, big, Policy::TruncateTail);
            }
        }
    }
    if random.bool() {
        db.close().unwrap();
        what.push("closed".into());
    }
    disk.power_off();
    drop(db);
    Life { disk: disk.crash(CrashVariant::KEPT), states, what }
}

type Told = Result<(RecoveryReport, Digest), String>;

fn opened(disk: &SimDisk, policy: Policy, threads: usize, at: &[u64]) -> (Told, u64, Vec<String>) {
    let disk = disk.crash(CrashVariant::KEPT);
    let around = Arc::new(Around::new(disk.vfs(), Once::default()));
    around.hooks.at.lock().extend(at);
    let vfs: Arc<dyn Vfs> = around.clone();
    let options = Options { existence: Existence::Required, policy, threads, register: true };
    let found = recover(&vfs, &Layout::new(DIR), options, &mut |_| {});
    let n = *around.hooks.n.lock();
    let fired = around.hooks.fired.lock().clone();
    let told = found
        .map(|found| (found.report.clone(), found.world.view().digest().unwrap()))
        .map_err(|e| e.to_string());
    (told, n, fired)
}

fn text(told: &Told) -> String {
    match told {
        Ok((report, digest)) => {
            let mut report = report.clone();
            report.timings.clear();
            format!("{report:?} {digest}")
        }
        Err(e) => e.clone(),
    }
}

fn is_a_state(life: &Life, told: &Told, seed: u64, how: &str) {
    if let Ok((report, digest)) = told {
        let was = life.states.iter().find(|(lsn, _)| *lsn == report.last_lsn).map(|(_, was)| *was);
        assert_eq!(was, Some(*digest), "seed {seed} {how}: no state: {report}\n{:?}", life.what);
        let from = report.snapshot.map_or(Lsn::ZERO, |one| one.lsn);
        let n = life.states.iter().filter(|(lsn, _)| *lsn > from && *lsn <= report.last_lsn).count();
        assert_eq!(
            report.transactions, n as u64,
            "seed {seed} {how}: transactions: {report}\n{:?}",
            life.what
        );
        assert_eq!(report.skipped, 0, "seed {seed} {how}: {report}");
        let total = life.states.last().unwrap().0;
        // Zeros up to the end are how a log ends.
        let may_be = how.contains(" zero ") || how.contains(" copy ");
        if report.last_lsn < total && report.data_loss == DataLoss::None && !may_be {
            panic!("seed {seed} {how}: lost and not told: {report}\n{:?}", life.what);
        }
    }
}

fn damaged(disk: &SimDisk, random: &mut fastrand::Rng, how: &mut String) {
    let all: Vec<PathBuf> = disk
        .files()
        .into_iter()
        .filter(|(path, len)| {
            let name = path.to_string_lossy();
            *len > 0
                && !name.contains("quarantine")
                && (name.ends_with(".seg")
                    || name.ends_with(".zst")
                    || (name.ends_with(".snap") && random.u32(0..3) == 0))
        })
        .map(|(path, _)| path)
        .collect();
    let Some(path) = all.get(random.usize(..all.len().max(1))) else { return };
    let bytes = disk.read(path).unwrap();
    let Some(last) = bytes.iter().rposition(|b| *b != 0) else { return };
    let at = random.u64(..=last as u64);
    match random.u32(0..5) {
        0 => {
            disk.erase(path).unwrap();
            *how += &format!(" erase {path:?}");
        }
        1 => {
            disk.flip_bit(path, at, random.u32(0..8)).unwrap();
            *how += &format!(" flip {path:?} {at}");
        }
        2 => {
            disk.truncate(path, at).unwrap();
            *how += &format!(" cut {path:?} {at}");
        }
        3 => {
            let at = at - at % 512;
            let n = (512 * random.usize(1..20)).min(bytes.len() - at as usize);
            disk.corrupt(path, at, &vec![0; n]).unwrap();
            *how += &format!(" zero {path:?} {at} {n}");
        }
        _ => {
            let to = &all[random.usize(..all.len())];
            disk.put(to, &bytes).unwrap();
            *how += &format!(" copy {path:?} over {to:?}");
        }
    }
}

#[test]
fn what_is_applied_on_the_way_is_a_state_that_there_was() {
    let (mut ok, mut refused, mut salvaged) = (0u64, 0u64, 0u64);
    for seed in 0..u64::from(cases(8)) {
        let mut random = fastrand::Rng::with_seed(seed);
        let life = life(&mut random);
        let total = life.states.last().unwrap().0;
        // Whole.
        for threads in [1, 2] {
            for policy in [Policy::TruncateTail, Policy::Salvage] {
                let (told, n, _) = opened(&life.disk, policy, threads, &[]);
                is_a_state(&life, &told, seed, "whole");
                let told = told.unwrap();
                assert_eq!((told.0.last_lsn, told.0.lost.len()), (total, 0), "seed {seed}");
                // Not given once or twice.
                for _ in 0..6 {
                    let at: Vec<u64> =
                        (0..random.usize(1..3)).map(|_| random.u64(1..=n + n / 2 + 1)).collect();
                    let (told, _, fired) = opened(&life.disk, policy, threads, &at);
                    let how = format!("{policy:?} {threads} not given {fired:?}");
                    is_a_state(&life, &told, seed, &how);
                    if let Ok((report, _)) = &told {
                        ok += 1;
                        assert!(
                            report.last_lsn == total && report.lost.is_empty(),
                            "seed {seed} {how}: {report}\n{:?}",
                            life.what
                        );
                    } else {
                        refused += 1;
                    }
                }
            }
        }
        // Damaged.
        for k in 0..12 {
            let disk = life.disk.crash(CrashVariant::KEPT);
            let mut how = String::new();
            for _ in 0..random.usize(1..3) {
                damaged(&disk, &mut random, &mut how);
            }
            for policy in [Policy::TruncateTail, Policy::Salvage] {
                let (one, n, _) = opened(&disk, policy, 1, &[]);
                let (two, _, _) = opened(&disk, policy, 2, &[]);
                let how = format!("{k} {policy:?}{how}");
                is_a_state(&life, &one, seed, &how);
                assert_eq!(text(&one), text(&two), "seed {seed} {how}");
                match &one {
                    Ok((r, _)) if !r.lost.is_empty() => salvaged += 1,
                    Ok(_) => ok += 1,
                    Err(_) => refused += 1,
                }
                let at = [random.u64(1..=n + n / 2 + 1)];
                let (told, _, fired) = opened(&disk, policy, 2, &at);
                let how = format!("{how} not given {fired:?}");
                is_a_state(&life, &told, seed, &how);
                if let (Ok((r, _)), Ok((one, _))) = (&told, &one) {
                    assert!(
                        r.last_lsn >= one.last_lsn,
                        "seed {seed} {how}: {r}\nwithout: {one}\n{:?}",
                        life.what
                    );
                    assert_eq!(r.lost.len(), one.lost.len(), "seed {seed} {how}: {r}\nwithout: {one}");
                }
            }
        }
    }
    assert!(ok > 0 && refused > 0 && salvaged > 0, "{ok} opened, {refused} refused, {salvaged} salvaged");
}

#[derive(Default)]
struct Bad {
    ranges: Mutex<Vec<(PathBuf, std::ops::Range<u64>)>>,
    apart: Mutex<bool>,
}

impl Hooks for Bad {
    fn renames(&self, from: &Path, to: &Path) -> Result<(), IoError> {
        if from.parent() == to.parent() || !*self.apart.lock() {
            return Ok(());
        }
        Err(IoError::new(FileOp::Rename, from, std::io::Error::from_raw_os_error(18)))
    }
    fn reads(&self, path: &Path, offset: u64, len: u64) -> Result<(), IoError> {
        let name = path.file_name().unwrap();
        let is_bad = |(bad, range): &(PathBuf, std::ops::Range<u64>)| {
            path.to_string_lossy().contains(&*bad.file_name().unwrap().to_string_lossy())
                && (path == bad
                    || (!*self.apart.lock() && path.to_string_lossy().contains("quarantine"))
                    || name.to_string_lossy().ends_with(".aside"))
                && offset < range.end
                && offset + len > range.start
        };
        match self.ranges.lock().iter().any(is_bad) {
            true => Err(IoError::new(FileOp::Read, path, std::io::Error::from_raw_os_error(5))),
            false => Ok(()),
        }
    }
}

fn open_bad(around: &Arc<Around<Bad>>, archive: bool, policy: Policy) -> ecsdb::Result<Database> {
    let vfs: Arc<dyn Vfs> = around.clone();
    Database::builder(DIR)
        .vfs(vfs)
        .without_threads()
        .policy(policy)
        .config(|c| {
            if archive {
                archiving(c)
            } else {
                by_hand(c)
            }
            c.snapshot.compression_level = 0;
        })
        .open()
}

#[test]
fn a_salvage_opens_whatever_is_not_given_and_deletes_nothing() {
    let (mut plain, mut salvaged, mut faults) = (0u64, 0u64, Vec::new());
    for seed in 0..u64::from(cases(8)) {
        let mut random = fastrand::Rng::with_seed(seed);
        let life = life(&mut random);
        let archive = life.what[0].starts_with("archive true");
        for k in 0..10 {
            let disk = life.disk.crash(CrashVariant::KEPT);
            let mut how = format!("seed {seed} {k}");
            for _ in 0..random.usize(0..3) {
                damaged(&disk, &mut random, &mut how);
            }
            let around = Arc::new(Around::new(disk.vfs(), Bad::default()));
            *around.hooks.apart.lock() = random.bool();
            let all: Vec<(PathBuf, u64)> = disk
                .files()
                .into_iter()
                .filter(|(path, len)| {
                    let name = path.to_string_lossy();
                    *len > 0 && (name.ends_with(".seg") || name.ends_with(".zst") || name.ends_with(".snap"))
                })
                .collect();
            for _ in 0..random.usize(1..3) {
                let Some((path, len)) = all.get(random.usize(..all.len().max(1))) else { continue };
                let bytes = disk.read(path).unwrap();
                let last = bytes.iter().rposition(|b| *b != 0).unwrap_or(0) as u64;
                let to = if random.bool() { *len } else { last + 1 };
                let at = random.u64(..to) / 512 * 512;
                how += &format!(" bad {path:?} {at}");
                around.hooks.ranges.lock().push((path.clone(), at..at + 512));
            }
            how += &format!(" apart {}", *around.hooks.apart.lock());
            let before: Vec<(PathBuf, Vec<u8>)> = all
                .iter()
                .filter(|(path, _)| path.to_string_lossy().contains("/log/"))
                .filter_map(|(path, _)| {
                    let found = ecsdb_wal::LogScan::file(&*disk.vfs(), path).ok()?;
                    (found.end.last_lsn >= found.header.first_lsn).then(|| {
                        let mut bytes = disk.read(path).unwrap();
                        bytes.truncate(found.end.offset as usize);
                        (path.clone(), bytes)
                    })
                })
                .collect();
            let first = open_bad(&around, archive, Policy::TruncateTail);
            let is_plain = first.is_ok();
            let db = match first {
                Ok(db) => {
                    plain += 1;
                    db
                }
                Err(refused) => match open_bad(&around, archive, Policy::Salvage) {
                    Ok(db) => {
                        salvaged += 1;
                        db
                    }
                    Err(e) => {
                        faults.push(format!("{how}: no policy opens: {e} (first {refused}) {:?}", life.what));
                        continue;
                    }
                },
            };
            let report = db.recovery_report().unwrap().clone();
            let digest = db.view().unwrap().digest().unwrap();
            let was = life.states.iter().find(|(lsn, _)| *lsn == report.last_lsn).map(|(_, was)| *was);
            if was != Some(digest) {
                faults.push(format!("{how}: no state: {report}"));
            }
            let may_be = how.contains(" zero ") || how.contains(" copy ");
            if report.last_lsn < life.states.last().unwrap().0
                && report.data_loss == DataLoss::None
                && !may_be
            {
                faults.push(format!("{how}: lost and not told: {report}"));
            }
            // Everything is there.
            let now: Vec<Vec<u8>> = disk.files().iter().map(|(path, _)| disk.read(path).unwrap()).collect();
            for (path, bytes) in &before {
                let packed = now.iter().any(|one| one.starts_with(bytes));
                if !packed && !is_plain {
                    faults.push(format!("{how}: {path:?} is deleted: {report}"));
                }
            }
            // A new file under an old name lies elsewhere on the disk.
            let logs: Vec<PathBuf> = crashed::files(&disk, ".seg")
                .into_iter()
                .filter(|path| path.starts_with(Path::new(DIR).join("log")))
                .collect();
            around
                .hooks
                .ranges
                .lock()
                .retain(|(path, _)| !logs[logs.len().saturating_sub(2)..].contains(path));
            let new = crate::lifecycle::large(&db, 7);
            let snapped = db.snapshot().unwrap().wait();
            let closed = db.close();
            drop(db);
            match open_bad(&around, archive, Policy::TruncateTail) {
                Ok(db) if state(&db).1 == new.1 => {}
                Ok(db) => {
                    faults.push(format!("{how}: another state afterwards: {}", db.recovery_report().unwrap()))
                }
                Err(e) => faults.push(format!(
                    "{how}: not opened again: {e}; plain {is_plain} snap {:?} close {:?}",
                    snapped.map(drop),
                    closed
                )),
            }
        }
    }
    assert!(faults.is_empty(), "{} faults: {:#?}", faults.len(), faults.first());
    assert!(plain > 0 && salvaged > 0, "{plain} opened, {salvaged} salvaged");
}

/// REC-17: a loss is believed that is found twice. Here each place is not given for once.
#[test]
fn no_loss_is_believed_that_is_found_once() {
    let mut wrong = Vec::new();
    for seed in 0..u64::from(cases(8)) {
        let mut random = fastrand::Rng::with_seed(seed);
        let life = life(&mut random);
        let total = life.states.last().unwrap().0;
        let (_, n, _) = opened(&life.disk, Policy::Salvage, 1, &[]);
        for k in [2usize, 3, 4, 6, 8] {
            for _ in 0..20 {
                let at: Vec<u64> = (0..k).map(|_| random.u64(1..=n * 3 + 1)).collect();
                let (told, _, fired) = opened(&life.disk, Policy::Salvage, 1, &at);
                is_a_state(&life, &told, seed, "many");
                let Ok((report, _)) = told else { continue };
                // One that is not given in two looks is a loss that is found twice.
                let mut names: Vec<&str> = fired.iter().filter_map(|one| one.rsplit(' ').next()).collect();
                let all = names.len();
                names.sort();
                names.dedup();
                if report.last_lsn < total && names.len() == all {
                    wrong.push(format!("seed {seed} {k} {fired:?}: {report} {:?}", life.what));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}: {:#?}", wrong.len(), wrong.first());
}

/// REC-8: the newest snapshots are damaged, and what follows the one that loads is in the archive alone: what was applied of the log on the way does not
/// count, though nothing refused it.
#[test]
fn what_the_log_has_behind_a_gap_does_not_count() {
    let disk = crashed::disk(1);
    let settings = |config: &mut PersistenceConfig| {
        archiving(config);
        config.snapshot.chain_max = 1;
        config.retention.snapshots_max = 100;
    };
    let db = builder(&disk, settings).open().unwrap();
    for i in 0..8 {
        crate::lifecycle::large(&db, i);
        db.snapshot().unwrap().wait().unwrap();
    }
    let last = crate::lifecycle::large(&db, 8);
    db.close().unwrap();
    drop(db);
    for path in crashed::files(&disk, ".snap").iter().skip(1) {
        disk.corrupt(path, 20, &[7; 40]).unwrap();
    }
    for policy in [Policy::TruncateTail, Policy::Salvage] {
        let disk = disk.crash(CrashVariant::KEPT);
        let db = builder(&disk, settings).policy(policy).open().unwrap();
        let report = db.recovery_report().unwrap();
        assert!(report.snapshot.is_some() && report.skipped == 0, "{report}");
        assert_eq!(state(&db).1, last.1, "{policy:?}: {report}");
    }
}
