//! The parent: starts the process that writes, kills it, checks what is there, and starts it again.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use ecsdb::prelude::*;
use ecsdb::{DataLoss, Digest};
use ecsdb_compactor::Held;
use ecsdb_io::{Disk, Layout};
use ecsdb_recovery::look;
use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use serde_json::{Value as Json, json};

use super::data::Dataset;
use super::twin::{Progress, Twin};
use super::{Made, Options, REPORT_BYTES, dataset, summary};
use crate::commands::copy;
use crate::output::{self, Output, many};
use crate::target::Taken;
use crate::{failure, interrupt, target};

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
            interrupt::check()?;
            match self.twin.step(&self.db, data)? {
                Some(ticket) => ticket.wait()?,
                None => bail!("the year has only {} events, not {events}", self.twin.done()),
            }
        }
        Ok(self.db.view()?.digest()?)
    }
}

pub(crate) fn run(options: &Options, out: &mut Output) -> Result<()> {
    let target = options.dir.as_deref().map(target::for_demo).transpose()?;
    // What else is wrong with settings is nothing to it: it goes by the defaults.
    let elsewhere = target.as_ref().and_then(|layout| copy::elsewhere(layout).ok()).unwrap_or_default();
    elsewhere.iter().for_each(|other| failure::warn(other));
    let started = Instant::now();
    let data = dataset(options.flights)?;
    // Up to here there is nothing to be removed.
    interrupt::hold();
    let (events, took) = (HumanCount(data.events.len() as u64), started.elapsed().as_secs_f64());
    say(
        out,
        format_args!(
            "{events} events read in {took:.1} s: departures, arrivals, cancellations and weather of 2013, each a transaction"
        ),
    )?;
    let temporary;
    let layout = match target {
        Some(layout) => layout,
        None => {
            let new = tempfile::Builder::new().prefix("ecsdb-demo-").tempdir();
            temporary = new.context("making a temporary directory")?;
            Layout::new(temporary.path())
        }
    };
    let made = target::missing(layout.root());
    let database = create(&layout)?;
    let played = play(Made { dir: layout.root(), database }, options, &data, started, out);
    if interrupt::asked() && played.is_err() {
        target::remove_demo(&layout, database, &made)?;
    }
    played
}

/// Makes an empty database where nobody else makes anything meanwhile, and gives its identity: by that, the processes that go on with it know it
/// from any other one.
fn create(layout: &Layout) -> Result<u128> {
    let taken = Taken::of_database(Arc::new(Disk), layout)?;
    let make = || -> Result<u128> {
        let held = Held::of(Arc::new(Disk), &taken.claim);
        Database::builder(layout.root()).vfs(Arc::new(held)).create_new()?.close()?;
        Ok(look(&Disk, layout)?.database)
    };
    make().or_else(|e| taken.give_up(e))
}

/// Says something to people, at once.
fn say(out: &mut Output, line: std::fmt::Arguments<'_>) -> Result<()> {
    if out.is_json() {
        return Ok(());
    }
    out.line(line)?;
    out.flush()
}

fn play(made: Made<'_>, options: &Options, data: &Dataset, started: Instant, out: &mut Output) -> Result<()> {
    let dir = made.dir;
    let total = data.events.len() as u64;
    let seed = options.seed.unwrap_or_else(|| fastrand::u64(..));
    let mut random = fastrand::Rng::with_seed(seed);
    let mut kills: Vec<u64> = (0..options.kills).map(|_| random.u64(..total.max(1))).collect();
    kills.sort_unstable();
    // Of what is done after the same event, nothing is there to be killed.
    kills.dedup();
    let planned = many(kills.len() as u64, "kill", "kills");
    say(out, format_args!("database in {}, at most {planned} (--seed {seed})\n", dir.display()))?;

    let bar = ProgressBar::new(total).with_style(ProgressStyle::with_template(
        "{bar:40} {human_pos}/{human_len} events  {per_sec}  {msg}  {elapsed}",
    )?);
    let mut reference = Reference::new(data)?;
    let mut acknowledged = 0;
    let mut writing = Duration::ZERO;
    let mut kills = kills.into_iter();
    let mut killed = Vec::new();
    for number in 1.. {
        let kill = kills.next();
        let began = Instant::now();
        let finished = write_until(made, options.flights, kill, &mut random, &bar, &mut acknowledged)?;
        writing += began.elapsed();
        if finished {
            break;
        }
        killed.push(bar.suspend(|| check(made, data, &mut reference, number, acknowledged, out))?);
    }
    bar.finish_and_clear();

    let db = made.open()?;
    let view = db.view()?;
    let events = view.resource::<Progress>()?.events;
    ensure!(events == total, "{events} of {total} events are there");
    let digest = view.digest()?;
    // All that can be interrupted, or be wrong, comes before the answer.
    let uninterrupted = reference.digest_after(data, total)?;
    ensure!(
        digest == uninterrupted,
        "the digests differ: {digest} and uninterrupted, in memory, {uninterrupted}"
    );
    db.close()?;
    if !out.is_json() {
        summary::print(&view, out)?;
    }
    let rate = (total as f64 / writing.as_secs_f64()) as u64;
    say(
        out,
        format_args!(
            "\n{} transactions in {:.1} s of writing: {} durable commits/s, restarts included",
            HumanCount(total),
            writing.as_secs_f64(),
            HumanCount(rate)
        ),
    )?;
    let times = many(killed.len() as u64, "time", "times");
    say(out, format_args!("state digest, killed {times}: {digest}"))?;
    say(out, format_args!("state digest, uninterrupted, in memory: {uninterrupted}"))?;
    let seconds = started.elapsed().as_secs_f64();
    if out.is_json() {
        return out.json(&json!({
            "dir": output::path(dir), "seed": seed, "transactions": total, "kills": killed, "digest": digest.to_string(),
            "commits_per_second": rate, "seconds": seconds,
        }));
    }
    out.line(format_args!("equal. The whole demo took {seconds:.1} s."))
}

/// Runs the child until it is done (true) or killed (false), and keeps count of what it reports as durable: the parent learns that
/// through a pipe, outside the database under test.
fn write_until(
    made: Made<'_>,
    flights: Option<u64>,
    kill: Option<u64>,
    random: &mut fastrand::Rng,
    bar: &ProgressBar,
    acknowledged: &mut u64,
) -> Result<bool> {
    let mut command = Command::new(std::env::current_exe()?);
    // What it says is read by this program.
    command.args(["demo", "--json", "--child", &format!("{:x}", made.database), "--dir"]).arg(made.dir);
    if let Some(flights) = flights {
        command.arg("--flights").arg(flights.to_string());
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // Where its error came from is of no use beside the parent's own.
    command.env("RUST_LIB_BACKTRACE", "0");
    let mut child = Writer(command.spawn().context("starting the child")?);
    let errors = child.0.stderr.take().context("the child's errors")?;
    let errors = std::thread::Builder::new().spawn(move || said_by(errors))?;
    let mut pipe = child.0.stdout.take().context("the child's output")?;
    let mut report = [0; REPORT_BYTES];
    let mut killed = false;
    // What the child wrote before it died is still in the pipe, and counts.
    while read_whole(&mut pipe, &mut report)? {
        interrupt::check()?;
        let number = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| report[at + i]));
        let (lsn, events) = (number(0), number(8));
        ensure!(events >= *acknowledged, "the child went back from {acknowledged} to {events}");
        *acknowledged = events;
        bar.set_position(events);
        bar.set_message(format!("durable LSN {lsn}"));
        if kill.is_some_and(|at| events >= at) && !killed {
            std::thread::sleep(Duration::from_micros(random.u64(..20_000)));
            killed = true;
            // SIGKILL on Unix; TerminateProcess on Windows.
            child.0.kill().context("killing the child")?;
        }
    }
    let status = child.0.wait()?;
    // The signal of a terminal reaches both.
    interrupt::check()?;
    if killed {
        // It may have finished in the moment before.
        return Ok(status.success());
    }
    let said = errors.join().ok().flatten().unwrap_or_else(|| status.to_string());
    ensure!(status.success(), "the process that writes failed: {said}");
    Ok(true)
}

/// What the child says is wrong, which is the parent's to tell. What else it says is passed on, once.
fn said_by(errors: impl Read) -> Option<String> {
    let mut said = None;
    for line in BufReader::new(errors).lines().map_while(Result::ok) {
        let told: Json = serde_json::from_str(&line).unwrap_or_default();
        let text = |key: &str| told.get(key).and_then(Json::as_str);
        match (text("error"), text("warning"), text("log")) {
            (Some(what), ..) => said = Some(what.to_string()),
            (_, Some(warning), _) => failure::warn(warning),
            (.., Some(log)) => drop(failure::pass_on(log)),
            // A panic's.
            _ => failure::warn(&format!("the process that writes: {line}")),
        }
    }
    said
}

/// The process that writes, which does not outlive whoever started it.
struct Writer(Child);

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
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
    made: Made<'_>,
    data: &Dataset,
    reference: &mut Reference,
    number: usize,
    acknowledged: u64,
    out: &mut Output,
) -> Result<Json> {
    let db = made.open()?;
    let view = db.view()?;
    let events = view.resource::<Progress>().map_or(0, |progress| progress.events);
    let counts = (many(acknowledged, "transaction", "transactions"), HumanCount(events));
    say(out, format_args!("kill {number}: {} acknowledged, {} there", counts.0, counts.1))?;
    if let Some(report) = db.recovery_report() {
        say(out, format_args!("  {}", report.to_string().replace('\n', "\n  ")))?;
        ensure!(report.data_loss != DataLoss::Acknowledged, "acknowledged data is lost");
    }
    ensure!(events >= acknowledged, "{} acknowledged transactions are missing", acknowledged - events);
    let mut digest = None;
    // Before the first transaction was durable there is nothing to compare.
    if events > 0 {
        let (found, expected) = (view.digest()?, reference.digest_after(data, events)?);
        ensure!(found == expected, "digest {found} after event {events}, and {expected} without the kill");
        say(out, format_args!("  none missing, none half there: digest {found} as without the kill\n"))?;
        digest = Some(found.to_string());
    }
    db.close()?;
    Ok(json!({ "acknowledged": acknowledged, "there": events, "digest": digest }))
}
