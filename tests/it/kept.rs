//! Whatever a medium does not give, wherever directories lie and whatever is full: no segment is deleted that nobody gave up.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ecsdb::prelude::*;
use ecsdb::{Around, Hooks};
use ecsdb::{FileOp, IoError, PersistenceConfig, Policy};
use ecsdb_io::Vfs;
use ecsdb_io::sync::Mutex;
use ecsdb_sim::{CrashVariant, SimDisk};
use ecsdb_tests::crashed::{self, DIR};
use ecsdb_wal::LogScan;

use crate::components::{Counter, Name};
use crate::lifecycle::{archiving, large};
use crate::model::cases;
use crate::past;

#[derive(Default)]
struct State {
    /// Sectors that are never given.
    bad: Vec<(String, u64)>,
    apart: Vec<&'static str>,
    /// Operations that fail now and then: of a thousand, reading and changing.
    now_and_then: Option<(fastrand::Rng, u32, u32)>,
    log: Vec<String>,
}

#[derive(Default)]
struct Media(Mutex<State>);

fn refused(op: FileOp, path: &Path, code: i32) -> Result<(), IoError> {
    Err(IoError::new(op, path, std::io::Error::from_raw_os_error(code)))
}

impl Hooks for Media {
    fn before(&self, op: FileOp, path: &Path) -> Result<(), IoError> {
        let mut state = self.0.lock();
        let parent =
            path.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned();
        if matches!(op, FileOp::Remove | FileOp::Rename) {
            state.log.push(format!("{op:?} {}", path.display()));
        }
        let is_reading = matches!(op, FileOp::Open | FileOp::Read | FileOp::Metadata);
        // What the log writes is another matter.
        let is_log = parent == "log" && path.extension().is_some_and(|end| end == "seg" || end == "tmp");
        if let Some((random, reading, changing)) = &mut state.now_and_then {
            if is_reading && random.u32(..1000) < *reading {
                return refused(op, path, 5);
            }
            if !is_reading && !is_log && random.u32(..1000) < *changing {
                return refused(op, path, [5, 28][random.usize(..2)]);
            }
        }
        Ok(())
    }

    fn renames(&self, from: &Path, to: &Path) -> Result<(), IoError> {
        let is_apart = |dir: &&str| from.parent().is_some_and(|parent| parent.ends_with(dir));
        let is_other = from.parent() != to.parent() && self.0.lock().apart.iter().any(is_apart);
        if is_other { refused(FileOp::Rename, from, 18) } else { Ok(()) }
    }

    fn reads(&self, path: &Path, offset: u64, len: u64) -> Result<(), IoError> {
        let state = self.0.lock();
        let name = path.to_string_lossy();
        let is_bad =
            |(end, at): &(String, u64)| name.ends_with(&**end) && offset < at + 512 && offset + len > *at;
        if state.bad.iter().any(is_bad) { refused(FileOp::Read, path, 5) } else { Ok(()) }
    }
}

/// Number and salt of a segment, and what it holds.
type Kept = BTreeMap<(u64, u32), Lsn>;

fn kept(disk: &SimDisk) -> Kept {
    let vfs = disk.vfs();
    let mut kept = Kept::new();
    for (path, _) in disk.files() {
        let name = path.to_string_lossy();
        if !name.contains(".seg") || name.ends_with(".tmp") {
            continue;
        }
        let Ok(scanned) = LogScan::file(&*vfs, &path) else { continue };
        if scanned.end.last_lsn < scanned.header.first_lsn {
            continue;
        }
        let there = kept.entry((scanned.header.sequence, scanned.header.salt)).or_default();
        *there = (*there).max(scanned.end.last_lsn);
    }
    kept
}

/// What happens beside sectors that are never given.
struct With {
    several_disks: bool,
    /// Now and then.
    failing_reads: bool,
    failing_changes: bool,
    damaged_copies: bool,
    put_back: bool,
}

struct Life {
    disk: SimDisk,
    around: Arc<Around<Media>>,
    level: i32,
    chain: usize,
}

impl Life {
    fn open(&self) -> ecsdb::Result<Database> {
        let (level, chain) = (self.level, self.chain);
        let settings = move |config: &mut PersistenceConfig| {
            archiving(config);
            config.archive.compression_level = level;
            config.snapshot.compression_level = 0;
            config.snapshot.chain_max = chain;
        };
        let vfs: Arc<dyn Vfs> = self.around.clone();
        Database::builder(DIR).vfs(vfs).without_threads().policy(Policy::TruncateTail).config(settings).open()
    }

    fn again(&mut self, disk: SimDisk) {
        let old = std::mem::take(&mut *self.around.hooks.0.lock());
        self.around = Arc::new(Around::new(disk.vfs(), Media(Mutex::new(old))));
        self.disk = disk;
    }
}

fn live(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let with = With {
        several_disks: random.bool(),
        failing_reads: random.bool(),
        failing_changes: random.bool(),
        damaged_copies: random.bool(),
        put_back: random.bool(),
    };
    let disk = crashed::disk(seed);
    let around = Arc::new(Around::new(disk.vfs(), Media::default()));
    let mut life = Life { disk, around, level: [0, 3][random.usize(..2)], chain: random.usize(1..4) };
    if with.several_disks {
        life.around.hooks.0.lock().apart = vec!["log", "archive", "snapshots"];
    }
    let mut what: Vec<String> = vec![format!("{:?}", life.around.hooks.0.lock().apart)];
    let mut db = life.open().unwrap();
    let mut before = Kept::new();
    let mut copy: Option<Vec<(PathBuf, Vec<u8>)>> = None;
    for _ in 0..random.usize(10..40) {
        let act = random.u32(..24);
        what.push(act.to_string());
        match act {
            0..5 => drop(large(&db, 1)),
            5..8 => db.write(|tx| Ok(tx.spawn((Counter(1), Name("y".repeat(300)))))).map(drop).unwrap(),
            8..14 => {
                if with.failing_reads && random.u32(..3) == 0 {
                    let of = [5, 20, 100][random.usize(..3)];
                    let changing = if with.failing_changes { of } else { 0 };
                    life.around.hooks.0.lock().now_and_then = Some((random.fork(), of, changing));
                }
                let done = db.snapshot().and_then(|job| job.wait());
                life.around.hooks.0.lock().now_and_then = None;
                what.push(format!("snapshot {:?}", done.map(|_| ()).map_err(|e| e.to_string())));
            }
            14 => drop(db.compact().and_then(|job| job.wait())),
            15 => drop(db.rotate_log()),
            16..18 => {
                // A sector of a segment, in the log or in the archive, is not given from here on.
                let mut all = life.disk.files();
                all.retain(|(path, _)| {
                    let parent = path.parent().unwrap();
                    (parent.ends_with("log") || parent.ends_with("archive"))
                        && path.to_string_lossy().contains(".seg")
                });
                if let Some((path, len)) = all.get(random.usize(..all.len().max(1))) {
                    let parent = path.parent().unwrap().file_name().unwrap().to_string_lossy().into_owned();
                    let name = format!("{parent}/{}", path.file_name().unwrap().to_string_lossy());
                    let at = random.u64(..len / 512 + 1) * 512;
                    what.push(format!("bad {name} {at}"));
                    life.around.hooks.0.lock().bad.push((name, at));
                }
            }
            18 => life.around.hooks.0.lock().bad.clear(),
            19 if with.damaged_copies => {
                let all: Vec<PathBuf> = life
                    .disk
                    .files()
                    .into_iter()
                    .map(|(path, _)| path)
                    .filter(|path| {
                        path.to_string_lossy().contains(".seg") && path.parent().unwrap().ends_with("archive")
                    })
                    .collect();
                if let Some(path) = all.get(random.usize(..all.len().max(1))) {
                    let len = life.disk.read(path).unwrap().len() as u64;
                    if len > 70 {
                        life.disk.corrupt(path, random.u64(..len - 64), &[9; 64]).unwrap();
                        what.push(format!("corrupt {}", path.display()));
                    }
                    before = kept(&life.disk);
                }
            }
            20 if with.put_back && copy.is_none() => {
                life.around.hooks.0.lock().bad.clear();
                db.close().unwrap();
                copy = Some(
                    life.disk
                        .files()
                        .into_iter()
                        .map(|(path, _)| (path.clone(), life.disk.read(&path).unwrap()))
                        .collect(),
                );
                db = life.open().unwrap();
                what.push("copied".into());
            }
            21 if with.put_back && copy.is_some() => {
                life.around.hooks.0.lock().bad.clear();
                db.close().unwrap();
                drop(db);
                for (path, _) in life.disk.files() {
                    if !path.to_string_lossy().contains("/archive/") {
                        life.disk.erase(&path).unwrap();
                    }
                }
                for (path, bytes) in copy.take().into_iter().flatten() {
                    if !path.to_string_lossy().contains("/archive/") {
                        life.disk.put(path, &bytes).unwrap();
                    }
                }
                before = kept(&life.disk);
                db = life.open().unwrap();
                what.push("put back".into());
            }
            22 | 23 => {
                let disk = if random.bool() {
                    drop(db.close());
                    drop(db);
                    life.disk.crash(CrashVariant::KEPT)
                } else {
                    life.disk.power_off();
                    drop(db);
                    life.disk.crash(
                        [CrashVariant::KEPT, CrashVariant::LOST, CrashVariant::KILLED][random.usize(..3)],
                    )
                };
                life.again(disk);
                match life.open() {
                    Ok(opened) => db = opened,
                    Err(e) => {
                        what.push(format!("refused {e}"));
                        life.around.hooks.0.lock().bad.clear();
                        let disk = life.disk.crash(CrashVariant::KEPT);
                        life.again(disk);
                        db = match life.open() {
                            Ok(db) => db,
                            Err(e) => panic!("{seed}: refused for good: {e}: {what:?}"),
                        };
                    }
                }
            }
            _ => {}
        }
        let now = kept(&life.disk);
        for (id, last) in &before {
            let there = now.get(id);
            if there.is_none_or(|there| there < last) {
                let log = &life.around.hooks.0.lock().log;
                let tail = &log[log.len().saturating_sub(40)..];
                panic!(
                    "{seed}: segment {id:?} held up to LSN {last}, and by now {there:?}: {what:?}\n{tail:#?} {:?}",
                    life.disk.files()
                );
            }
        }
        for (id, last) in now {
            let there = before.entry(id).or_default();
            *there = (*there).max(last);
        }
    }
}

#[test]
fn no_segment_is_deleted_that_nobody_gave_up() {
    (0..u64::from(cases(200))).for_each(live);
}

/// CKP-11: whatever is away of the archive while less of the past is kept by a setting: it is no part of what is given up, unless it is before something
/// that is.
#[test]
fn what_is_away_while_others_are_given_up_may_come_back() {
    for seed in 0..cases(60) {
        let random = &mut fastrand::Rng::with_seed(seed.into());
        let disk = crashed::disk(seed.into());
        let open = |kept: usize| {
            let db = crashed::builder(&disk, |config| {
                archiving(config);
                config.snapshot.chain_max = 1;
                config.retention.snapshots_max = kept;
            });
            db.open().unwrap()
        };
        let db = open(100);
        let mut states = Vec::new();
        for i in 0..random.u64(3..9) {
            (0..random.u64(1..4)).for_each(|k| states.push(large(&db, 10 * i + k)));
            db.snapshot().unwrap().wait().unwrap();
        }
        db.close().unwrap();
        drop(db);
        let archived = crashed::files(&disk, ".seg.zst");
        let (from, to) = (random.usize(..=archived.len()), random.usize(..=archived.len()));
        let away: Vec<_> = archived[from.min(to)..from.max(to)].iter().collect();
        let bytes: Vec<_> = away.iter().map(|path| disk.read(path).unwrap()).collect();
        away.iter().for_each(|path| disk.erase(path).unwrap());
        let kept = random.usize(1..8);
        let db = open(kept);
        // There is nothing to write: what is kept is trimmed.
        db.snapshot().unwrap().wait().unwrap();
        let oldest = Lsn(db.snapshots().unwrap()[0].lsn);
        db.close().unwrap();
        drop(db);
        away.iter().zip(bytes).for_each(|(path, bytes)| disk.put(path, &bytes).unwrap());
        open(kept).close().unwrap();
        states.retain(|state| state.0 >= oldest);
        past::every_moment_is_there(&disk, &states, &format!("seed {seed}, away {away:?}, {kept} kept"));
    }
}
