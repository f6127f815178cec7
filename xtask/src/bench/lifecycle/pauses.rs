//! What a writer and a reader notice of a snapshot: delays against a fixed schedule, so that one long stall counts
//! for everything it holds up, as it would for users who come at their own times.

use std::hint::{black_box, spin_loop};
use std::path::Path;
use std::time::{Duration, Instant};

use ecsdb::prelude::*;
use ecsdb::{Job, PersistenceConfig};
use hdrhistogram::Histogram;

use super::account::{Account, Spent};
use super::increments::{change_all, scattered};
use super::world::{Big, step};
use super::write;
use crate::bench::Position;
use crate::bench::report::{Report, median};

pub(super) const ROWS: &[&str] = &[
    "snapshot_pause_max",
    "snapshot_pause_p99",
    "snapshot_pause_p9999",
    "snapshot_pause_tmpfs_max",
    "snapshot_pause_tmpfs_p9999",
    "direct_write_pause_max",
    "reader_pause_max",
    "bare_spin_pause_max",
    "compact_pause_max",
    "archive_pause_max",
];

const PERIOD: Duration = Duration::from_micros(20);
/// The level that snapshots have unless it is set.
const LEVEL: i32 = 1;

/// Increments of a chain that is merged, and the part of the entities that each has.
const INCREMENTS: u64 = 4;
const INCREMENT: usize = 100;
/// Transactions that change a component of every entity, for the log that is archived.
const ARCHIVED_TICKS: usize = 4;

/// What was seen of one run of paced steps.
pub(in crate::bench) struct Paced {
    /// How late each step was done, in nanoseconds.
    delays: Histogram<u64>,
    /// Where the time of the steps went, the longest of each.
    spent: Spent,
}

pub(super) fn run(report: &mut Report, big: &Big, dir: &Path) -> anyhow::Result<()> {
    if !report.wants_any(ROWS) {
        return Ok(());
    }
    let mut random = fastrand::Rng::with_seed(7);
    let mut commit = || {
        let entity = big.entities[random.usize(..big.entities.len())];
        Ok(big.db.write_with(Durability::Buffered, |tx| step(tx, entity))?)
    };
    let nothing = |_: &Big| Ok(());
    big.next_snapshot(LEVEL, true)?;
    if report.wants_any(&ROWS[..3]) {
        eprintln!("pauses of a writer …");
        let rounds = rounds(report.rounds, big, nothing, snapshot, &mut commit)?;
        record(report, ROWS[0], &rounds, 1.0);
        record(report, ROWS[1], &rounds, 0.99);
        record(report, ROWS[2], &rounds, 0.9999);
    }
    if report.wants_any(&ROWS[3..5]) && write::tmpfs_has_room(big) {
        eprintln!("pauses of a writer, the snapshot going to memory …");
        let rounds = rounds(report.rounds, big, nothing, copy_to_memory, &mut commit)?;
        record(report, ROWS[3], &rounds, 1.0);
        record(report, ROWS[4], &rounds, 0.9999);
    }
    if report.wants(ROWS[5]) {
        eprintln!("pauses of a writer beside bare writes …");
        let bare = |big: &Big| write::bare(big, dir).map(drop);
        record(report, ROWS[5], &rounds(report.rounds, big, nothing, bare, &mut commit)?, 1.0);
        report.note(format!(
            "{}: what the machine does to a writer while another thread writes as many bytes past the system's cache",
            ROWS[5]
        ));
    }
    if report.wants(ROWS[6]) {
        eprintln!("pauses of a reader …");
        let mut view = || {
            black_box(big.db.view()?);
            Ok(())
        };
        record(report, ROWS[6], &rounds(report.rounds, big, nothing, snapshot, &mut view)?, 1.0);
    }
    if report.wants(ROWS[7]) {
        eprintln!("pauses of a bare loop …");
        record(report, ROWS[7], &rounds(report.rounds, big, nothing, burn, &mut || Ok(()))?, 1.0);
        report.note(format!(
            "{}: what the machine does to a loop that does nothing, while another thread does nothing either, as hard",
            ROWS[7]
        ));
    }
    if report.wants(ROWS[8]) {
        eprintln!("pauses of a writer beside a compaction …");
        record(report, ROWS[8], &rounds(report.rounds, big, chain, compaction, &mut commit)?, 1.0);
    }
    if report.wants(ROWS[9]) {
        eprintln!("pauses of a writer while the log is archived …");
        let settings = |keeps| {
            move |config: &mut PersistenceConfig| {
                config.archive.enabled = Some(keeps);
                config.snapshot.chain_max = 8;
            }
        };
        ecsdb_tests::reconfigure(&big.db, settings(true))?;
        record(report, ROWS[9], &rounds(report.rounds, big, ticks, snapshot, &mut commit)?, 1.0);
        ecsdb_tests::reconfigure(&big.db, settings(false))?;
        big.db.compact()?.wait()?;
    }
    Ok(())
}

/// A chain of snapshots to be merged.
fn chain(big: &Big) -> anyhow::Result<()> {
    big.full(LEVEL)?;
    big.next_snapshot(LEVEL, false)?;
    for seed in 0..INCREMENTS {
        change_all(big, scattered(big, big.entities.len() / INCREMENT, seed))?;
        big.db.snapshot()?.wait()?;
    }
    Ok(())
}

fn compaction(big: &Big) -> anyhow::Result<()> {
    ended(&big.db.compact()?);
    Ok(())
}

/// A log of several segments.
fn ticks(big: &Big) -> anyhow::Result<()> {
    for _ in 0..ARCHIVED_TICKS {
        big.db.write(|tx| {
            tx.query::<&mut Position>().for_each(|position| position.x += 1.0);
            Ok(())
        })?;
    }
    // The snapshot that has it archived has little to write then.
    big.db.snapshot()?.wait()?;
    Ok(())
}

fn snapshot(big: &Big) -> anyhow::Result<()> {
    big.touch()?;
    ended(&big.db.snapshot()?);
    Ok(())
}

/// Lets it come to its end without waiting for it, which would give it the priority of the application.
pub(in crate::bench) fn ended<T>(job: &Job<T>) {
    while !job.is_finished() {
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The same work for the engine without any for the disk, whose driver holds up whole virtual machines.
fn copy_to_memory(big: &Big) -> anyhow::Result<()> {
    let dir = tempfile::tempdir_in(write::TMPFS)?;
    ended(&big.db.backup_to(dir.path().join("backup"))?);
    Ok(())
}

/// Keeps a core busy for about as long as a snapshot does, without memory, disk or engine.
fn burn(_: &Big) -> anyhow::Result<()> {
    let end = Instant::now() + Duration::from_secs(4);
    while Instant::now() < end {
        spin_loop();
    }
    Ok(())
}

fn us(ns: u64) -> f64 {
    ns as f64 / 1000.0
}

fn record(report: &mut Report, name: &'static str, rounds: &[(Paced, Paced)], quantile: f64) {
    let delay = |paced: &Paced| us(paced.delays.value_at_quantile(quantile));
    let pairs: Vec<(f64, f64)> =
        rounds.iter().map(|(value, reference)| (delay(value), delay(reference))).collect();
    report.record(name, "µs", &pairs);
    if !report.wants(name) {
        return;
    }
    let above = median(pairs.iter().map(|(value, reference)| value - reference).collect());
    let each: Vec<String> =
        pairs.iter().map(|(value, reference)| format!("{value:.0} ({reference:.0})")).collect();
    report.note(format!("{name}: {above:.1} µs above the reference; each round: {}", each.join(", ")));
    if quantile == 1.0 {
        let each: Vec<String> =
            rounds.iter().map(|(during, without)| format!("{} ({})", during.spent, without.spent)).collect();
        report.note(format!(
            "{name}: longest wait for a core / asleep / stolen by the host / at work within a step, in µs: {}",
            each.join(", ")
        ));
    }
}

impl Paced {
    /// The longest delay, in nanoseconds.
    pub(in crate::bench) fn longest(&self) -> u64 {
        self.delays.max()
    }
}

/// Delays while a thread does `work`, for which `before` makes ready, and for as long while nothing else goes on.
fn rounds(
    n: usize,
    big: &Big,
    before: impl Fn(&Big) -> anyhow::Result<()>,
    work: impl Fn(&Big) -> anyhow::Result<()> + Sync,
    step: &mut impl FnMut() -> anyhow::Result<()>,
) -> anyhow::Result<Vec<(Paced, Paced)>> {
    let mut rounds = Vec::new();
    for _ in 0..n {
        before(big)?;
        let started = Instant::now();
        let during = std::thread::scope(|scope| {
            let thread = scope.spawn(|| work(big));
            let during = paced(|| thread.is_finished(), step);
            thread.join().map_err(|_| anyhow::anyhow!("the other thread panicked"))??;
            during
        })?;
        let time = started.elapsed();
        big.db.sync()?;
        let started = Instant::now();
        let without = paced(|| started.elapsed() >= time, step)?;
        big.db.sync()?;
        rounds.push((during, without));
    }
    Ok(rounds)
}

/// Does `step` once per period until `done`.
pub(in crate::bench) fn paced(
    done: impl Fn() -> bool,
    step: &mut impl FnMut() -> anyhow::Result<()>,
) -> anyhow::Result<Paced> {
    let mut seen = Paced { delays: Histogram::new_with_max(60_000_000_000, 3)?, spent: Spent::default() };
    let mut account = Account::of_this_thread();
    let started = Instant::now();
    let mut due = Duration::ZERO;
    while !done() {
        // Sleeping would measure the operating system's timer.
        while started.elapsed() < due {
            spin_loop();
        }
        account.begin();
        let began = started.elapsed();
        step()?;
        let ended = started.elapsed();
        seen.delays.saturating_record((ended - due).as_nanos() as u64);
        seen.spent = seen.spent.longest(account.end(ended - began));
        due += PERIOD;
    }
    Ok(seen)
}
