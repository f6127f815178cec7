//! The parent: starts the process that writes, kills it, checks what is there, and starts it again.

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use ecsdb::prelude::*;
use ecsdb::{DataLoss, Digest};
use indicatif::{HumanCount, ProgressBar, ProgressStyle};

use super::data::Dataset;
use super::twin::{Progress, Twin};
use super::{Options, REPORT_BYTES, dataset, summary};

/// The uninterrupted run, in memory, brought forward as far as the comparison needs.
struct Reference {
    db: Database,
    twin: Twin,
}

impl Reference {
    fn new(data: &Dataset) -> Result<Self> {
        let db = Database::in_memory();
        let twin = Twin::open(&db, data)?;
        Ok(Reference { db, twin })
    }

    fn digest_after(&mut self, data: &Dataset, events: u64) -> Result<Digest> {
        while self.twin.done() < events {
            match self.twin.step(&self.db, data)? {
                Some(ticket) => ticket.wait()?,
                None => bail!("the year has only {} events, not {events}", self.twin.done()),
            }
        }
        Ok(self.db.view()?.digest()?)
    }
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let started = Instant::now();
    let data = dataset(options.flights)?;
    let total = data.events.len() as u64;
    println!(
        "{} events read in {:.1} s: departures, arrivals, cancellations and weather of 2013, each a transaction",
        HumanCount(total),
        started.elapsed().as_secs_f64()
    );
    let temporary = match &options.dir {
        Some(_) => None,
        None => Some(
            tempfile::Builder::new()
                .prefix("ecsdb-demo-")
                .tempdir()
                .context("making a temporary directory")?,
        ),
    };
    let dir = match (&options.dir, &temporary) {
        (Some(dir), _) => dir.as_path(),
        (None, Some(temporary)) => temporary.path(),
        (None, None) => bail!("there is no directory to work in"),
    };
    let is_empty = std::fs::read_dir(dir).map_or(true, |mut entries| entries.next().is_none());
    ensure!(is_empty, "{} is not empty: the demo needs a directory of its own", dir.display());
    ensure!(options.flights != Some(0), "at least one flight is needed");
    let seed = options.seed.unwrap_or_else(|| fastrand::u64(..));
    let mut random = fastrand::Rng::with_seed(seed);
    let mut kills: Vec<u64> = (0..options.kills).map(|_| random.u64(..total.max(1))).collect();
    kills.sort_unstable();
    println!("database in {}, {} kills (--seed {seed})\n", dir.display(), kills.len());

    let bar = ProgressBar::new(total).with_style(ProgressStyle::with_template(
        "{bar:40} {human_pos}/{human_len} events  {per_sec}  {msg}  {elapsed}",
    )?);
    let mut reference = Reference::new(&data)?;
    let mut acknowledged = 0;
    let mut writing = Duration::ZERO;
    let mut kills = kills.into_iter();
    for number in 1.. {
        let kill = kills.next();
        let began = Instant::now();
        let finished = write_until(dir, options.flights, kill, &mut random, &bar, &mut acknowledged)?;
        writing += began.elapsed();
        if finished {
            break;
        }
        bar.suspend(|| check(dir, &data, &mut reference, number, acknowledged))?;
    }
    bar.finish_and_clear();

    let db = Database::open(dir)?;
    let view = db.view()?;
    let events = view.resource::<Progress>()?.events;
    ensure!(events == total, "{events} of {total} events are there");
    let digest = view.digest()?;
    summary::print(&view)?;
    println!(
        "\n{} transactions in {:.1} s of writing: {} durable commits/s, restarts included",
        HumanCount(total),
        writing.as_secs_f64(),
        HumanCount((total as f64 / writing.as_secs_f64()) as u64)
    );
    let uninterrupted = reference.digest_after(&data, total)?;
    println!("state digest, killed {} times:       {digest}", options.kills);
    println!("state digest, uninterrupted, memory: {uninterrupted}");
    ensure!(digest == uninterrupted, "the digests differ");
    println!("equal. The whole demo took {:.1} s.", started.elapsed().as_secs_f64());
    db.close()?;
    Ok(())
}

/// Runs the child until it is done (true) or killed (false), and keeps count of what it reports as durable: the parent learns that
/// through a pipe, outside the database under test.
fn write_until(
    dir: &Path,
    flights: Option<usize>,
    kill: Option<u64>,
    random: &mut fastrand::Rng,
    bar: &ProgressBar,
    acknowledged: &mut u64,
) -> Result<bool> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("demo-child").arg("--dir").arg(dir);
    if let Some(flights) = flights {
        command.arg("--flights").arg(flights.to_string());
    }
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("starting the child")?;
    let mut pipe = child.stdout.take().context("the child's output")?;
    let mut report = [0; REPORT_BYTES];
    let mut killed = false;
    // What the child wrote before it died is still in the pipe, and counts.
    while read_whole(&mut pipe, &mut report)? {
        let number = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| report[at + i]));
        let (lsn, events) = (number(0), number(8));
        ensure!(events >= *acknowledged, "the child went back from {acknowledged} to {events}");
        *acknowledged = events;
        bar.set_position(events);
        bar.set_message(format!("durable LSN {lsn}"));
        if kill.is_some_and(|at| events >= at) && !killed {
            std::thread::sleep(Duration::from_micros(random.u64(..20_000)));
            killed = true;
            kill_child(&mut child)?;
        }
    }
    let status = child.wait()?;
    if killed {
        // It may have finished in the moment before.
        return Ok(status.success());
    }
    ensure!(status.success(), "the child failed: {status}");
    Ok(true)
}

fn kill_child(child: &mut Child) -> Result<()> {
    // SIGKILL on Unix; TerminateProcess on Windows.
    child.kill().context("killing the child")
}

/// Reads one report; false at the end, where a kill may have cut one short.
fn read_whole(pipe: &mut impl Read, report: &mut [u8]) -> Result<bool> {
    let mut got = 0;
    while got < report.len() {
        match pipe.read(&mut report[got..])? {
            0 => return Ok(false),
            n => got += n,
        }
    }
    Ok(true)
}

/// After a kill: everything acknowledged is there, and the state is exactly that of the uninterrupted run at the same event, so no
/// transaction is half there.
fn check(
    dir: &Path,
    data: &Dataset,
    reference: &mut Reference,
    number: usize,
    acknowledged: u64,
) -> Result<()> {
    let db = Database::open(dir)?;
    let view = db.view()?;
    let events = view.resource::<Progress>().map_or(0, |progress| progress.events);
    println!(
        "kill {number}: {} transactions acknowledged, {} there",
        HumanCount(acknowledged),
        HumanCount(events)
    );
    if let Some(report) = db.recovery_report() {
        println!("  {}", report.to_string().replace('\n', "\n  "));
        ensure!(report.data_loss != DataLoss::Acknowledged, "acknowledged data is lost");
    }
    ensure!(events >= acknowledged, "{} acknowledged transactions are missing", acknowledged - events);
    // Before the first transaction was durable there is nothing to compare.
    if events > 0 {
        let (found, expected) = (view.digest()?, reference.digest_after(data, events)?);
        ensure!(found == expected, "digest {found} after event {events}, and {expected} without the kill");
        println!("  none missing, none half there: digest {found} as without the kill\n");
    }
    db.close()?;
    Ok(())
}
