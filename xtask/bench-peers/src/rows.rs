//! What is measured, each of all stores in turn, round by round.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::ensure;

use crate::store::{Kind, Promise, Store, value};

/// Values of a batch.
const BATCH: u64 = 1000;

/// One quantity, of all stores.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    /// More is better.
    pub(crate) more: bool,
    pub(crate) promise: Promise,
    pub(crate) what: &'static str,
    measure: fn(&Field<'_>) -> anyhow::Result<f64>,
}

/// A store in the field.
pub(crate) struct Field<'a> {
    pub(crate) kind: Kind,
    pub(crate) dir: &'a Path,
    pub(crate) values: u64,
    promise: Promise,
    /// How long a rate is measured.
    time: Duration,
}

pub(crate) const ROWS: &[Row] = &[
    rate("durable_1_thread", Promise::Durable, "commits of one value, one thread", |field| threads(field, 1)),
    rate("durable_16_threads", Promise::Durable, "the same, 16 threads", |field| threads(field, 16)),
    rate("durable_64_threads", Promise::Durable, "the same, 64 threads", |field| threads(field, 64)),
    rate(
        "durable_1000_in_flight",
        Promise::Durable,
        "commits of one value, of which 1,000 may be under way; a store without tickets has 64 threads",
        in_flight,
    ),
    rate(
        "relaxed_1_thread",
        Promise::Relaxed,
        "commits of one value that survive the process, one thread",
        |field| threads(field, 1),
    ),
    rate("durable_batches", Promise::Durable, "commits of 1,000 values, one thread", batches),
    Row {
        name: "tick",
        unit: "MB/s",
        more: true,
        promise: Promise::Durable,
        what: "a commit that changes every value",
        measure: ticks,
    },
    Row {
        name: "open_and_read",
        unit: "ms",
        more: false,
        promise: Promise::Durable,
        what: "opening, and reading every value",
        measure: open_and_read,
    },
    Row {
        name: "bytes_on_disk",
        unit: "bytes/value",
        more: false,
        promise: Promise::Durable,
        what: "bytes on disk of what was loaded, after closing",
        measure: bytes,
    },
    Row {
        name: "reopen_after_kill",
        unit: "ms",
        more: false,
        promise: Promise::Durable,
        what: "opening after the process was killed in the middle of 20,000 relaxed commits, and reading every value",
        measure: reopen,
    },
];

const fn rate(
    name: &'static str,
    promise: Promise,
    what: &'static str,
    measure: fn(&Field<'_>) -> anyhow::Result<f64>,
) -> Row {
    Row { name, unit: "commits/s", more: true, promise, what, measure }
}

impl Row {
    pub(crate) fn measure(&self, kind: Kind, dir: &Path, values: u64, time: Duration) -> anyhow::Result<f64> {
        (self.measure)(&Field { kind, dir, values, promise: self.promise, time })
    }
}

impl Field<'_> {
    /// Where this store's copy of the loaded values lies.
    fn home(&self) -> PathBuf {
        self.dir.join(self.kind.name())
    }

    fn open(&self) -> anyhow::Result<Box<dyn Store>> {
        self.kind.open(&self.home(), self.promise)
    }
}

/// Makes the values, once for all rows.
pub(crate) fn load(kind: Kind, dir: &Path, values: u64) -> anyhow::Result<()> {
    let store = kind.open(&dir.join(kind.name()), Promise::Durable)?;
    for from in (0..values).step_by(100_000) {
        store.write(&mut (from..values.min(from + 100_000)).map(|i| (i, value(i, 0))))?;
    }
    ensure!(store.read_all()?.0 == values, "{}: not all values are there", kind.name());
    Ok(())
}

fn threads(field: &Field<'_>, n: u64) -> anyhow::Result<f64> {
    let store = field.open()?;
    let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
    let started = Instant::now();
    let writer = |thread: u64| {
        let (mut random, mut k) = (fastrand::Rng::with_seed(thread), 0);
        while !stop.load(Ordering::Relaxed) {
            let i = random.u64(..field.values);
            store.write(&mut std::iter::once((i, value(i, step()))))?;
            k += 1;
        }
        done.fetch_add(k, Ordering::Relaxed);
        Ok::<(), anyhow::Error>(())
    };
    let writer = &writer;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..n).map(|thread| scope.spawn(move || writer(thread))).collect();
        std::thread::sleep(field.time);
        stop.store(true, Ordering::Relaxed);
        for thread in threads {
            thread.join().map_err(|_| anyhow::anyhow!("a writer panicked"))??;
        }
        Ok::<(), anyhow::Error>(())
    })?;
    let rate = done.load(Ordering::Relaxed) as f64 / started.elapsed().as_secs_f64();
    store.sync()?;
    Ok(rate)
}

fn in_flight(field: &Field<'_>) -> anyhow::Result<f64> {
    let store = field.open()?;
    let started = Instant::now();
    match store.tickets(started + field.time) {
        Some(done) => Ok(done? as f64 / started.elapsed().as_secs_f64()),
        None => {
            drop(store);
            threads(field, 64)
        }
    }
}

fn batches(field: &Field<'_>) -> anyhow::Result<f64> {
    let store = field.open()?;
    let started = Instant::now();
    let mut k = 0;
    while started.elapsed() < field.time {
        let from = k * BATCH % (field.values - BATCH + 1);
        let step = step();
        store.write(&mut (from..from + BATCH).map(|i| (i, value(i, step))))?;
        k += 1;
    }
    Ok(k as f64 / started.elapsed().as_secs_f64())
}

fn ticks(field: &Field<'_>) -> anyhow::Result<f64> {
    let store = field.open()?;
    let started = Instant::now();
    let mut k = 0;
    while k < 3 || started.elapsed() < field.time {
        k += 1;
        store.tick(step(), field.values)?;
    }
    store.sync()?;
    let bytes = f64::from(k) * (field.values * 12) as f64;
    Ok(bytes / 1e6 / started.elapsed().as_secs_f64())
}

/// The loaded values in a copy of their own, since what other rows did is no measure of it; and what `look` finds there.
fn fresh<T>(field: &Field<'_>, look: impl FnOnce(&Field<'_>) -> anyhow::Result<T>) -> anyhow::Result<T> {
    let dir = field.dir.join("fresh");
    load(field.kind, &dir, field.values)?;
    let found = look(&Field { dir: &dir, ..*field })?;
    std::fs::remove_dir_all(dir)?;
    Ok(found)
}

fn open_and_read(field: &Field<'_>) -> anyhow::Result<f64> {
    fresh(field, timed_opening)
}

fn timed_opening(field: &Field<'_>) -> anyhow::Result<f64> {
    let started = Instant::now();
    let store = field.open()?;
    let (n, _) = store.read_all()?;
    let time = started.elapsed();
    ensure!(n == field.values, "{}: {n} of {} values are there", field.kind.name(), field.values);
    Ok(time.as_secs_f64() * 1e3)
}

fn bytes(field: &Field<'_>) -> anyhow::Result<f64> {
    fresh(field, |field| {
        let mut total = 0;
        let mut dirs = vec![field.home()];
        while let Some(next) = dirs.pop() {
            for entry in std::fs::read_dir(next)? {
                let entry = entry?;
                let meta = entry.metadata()?;
                if meta.is_dir() {
                    dirs.push(entry.path());
                } else {
                    // What is allocated: LMDB's file is as long as its map.
                    total += std::os::unix::fs::MetadataExt::blocks(&meta) * 512;
                }
            }
        }
        Ok(total as f64 / field.values as f64)
    })
}

/// No value is ever written twice: one that changes nothing is no commit everywhere.
fn step() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Commits until it is killed. For the child process.
pub(crate) fn commit_until_killed(kind: Kind, home: &Path, values: u64) -> anyhow::Result<()> {
    let store = kind.open(home, Promise::Relaxed)?;
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..20_000 {
        let i = random.u64(..values);
        store.write(&mut std::iter::once((i, value(i, step()))))?;
    }
    std::process::abort()
}

fn reopen(field: &Field<'_>) -> anyhow::Result<f64> {
    fresh(field, |field| {
        let mut child = Command::new(std::env::current_exe()?);
        child.arg("--child").arg(field.kind.name().to_lowercase()).arg("--home").arg(field.home());
        let ended = child.args(["--values", &field.values.to_string()]).status()?;
        ensure!(ended.code().is_none(), "the child ended by itself: {ended}");
        timed_opening(field)
    })
}
