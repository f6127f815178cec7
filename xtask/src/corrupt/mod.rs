//! `cargo xtask corrupt`: real databases, damaged in every way and opened under every policy. Every bit of every file, every length,
//! every sector, every file missing, stale, foreign, swapped, doubled, a directory, unreadable; and ranges and combinations at random.

mod case;
mod damage;
mod judge;
mod subject;
mod worker;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use parking_lot::Mutex;
use serde::Serialize;

use case::{Case, Cases};
use judge::Tally;
use worker::{Found, Line, Share};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Decides the random images; the others are always the same.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How long.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// The image of each part to begin with: where an earlier run has ended, which says how many it made.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Processes; as many as there are cores unless set.
    #[arg(long)]
    workers: Option<u64>,
    /// Write the figures into this file.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Only this image, as a finding names it.
    #[arg(long)]
    case: Option<Case>,
    /// One of the processes: its share of the images.
    #[arg(long, hide = true, num_args = 3)]
    worker: Option<Vec<u64>>,
}

/// An image takes less than a tenth of a second; one that takes as long as this never ends.
const HANG: Duration = Duration::from_secs(30);

#[derive(Default, Serialize)]
struct Figures {
    seed: u64,
    from: u64,
    seconds: f64,
    images_per_second: f64,
    databases: usize,
    bytes: usize,
    exhaustive_of: u64,
    exhaustive_done: u64,
    random_done: u64,
    tally: Tally,
    /// How often each kind of finding came up.
    findings: BTreeMap<String, u64>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let cases = Cases::new(subject::subjects()?, args.seed);
    let time = Duration::from_secs(args.seconds);
    if let Some(share) = &args.worker {
        let share = Share { of: share[0], exhaustive: share[1], random: share[2] };
        return worker::work(&cases, share, time);
    }
    if let Some(case) = args.case {
        return one(&cases, case);
    }
    let workers =
        args.workers.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, |n| n.get() as u64));
    for subject in &cases.subjects {
        let (files, bytes) = (subject.files.len(), subject.bytes());
        println!("{}: {files} files, {bytes} bytes, {} transactions", subject.name, subject.last);
    }
    let seen = Mutex::new(Seen::default());
    let began = Instant::now();
    std::thread::scope(|scope| -> anyhow::Result<()> {
        let threads: Vec<_> = (0..workers)
            .map(|number| {
                let share = Share { of: workers, exhaustive: args.from + number, random: args.from + number };
                let seen = &seen;
                scope.spawn(move || drive(args, share, began + time, seen))
            })
            .collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("a thread that drives a worker"))
    })?;
    let Seen { tally, exhaustive, random, found } = seen.into_inner();
    let seconds = began.elapsed().as_secs_f64();
    let figures = Figures {
        seed: args.seed,
        from: args.from,
        seconds,
        images_per_second: tally.images as f64 / seconds,
        databases: cases.subjects.len(),
        bytes: cases.subjects.iter().map(subject::Subject::bytes).sum(),
        exhaustive_of: cases.exhaustive,
        exhaustive_done: exhaustive,
        random_done: random,
        tally,
        findings: found.iter().map(|(kind, (_, count))| (kind.clone(), *count)).collect(),
    };
    print(&figures);
    if let Some(path) = &args.json {
        std::fs::write(path, serde_json::to_vec_pretty(&figures)?)
            .with_context(|| format!("writing {}", path.display()))?;
    }
    for (kind, (found, count)) in &found {
        println!("\n{count} times: {kind}");
        print_found(found, args.seed);
    }
    anyhow::ensure!(found.is_empty(), "{} kinds of finding", found.len());
    Ok(())
}

fn one(cases: &Cases, case: Case) -> anyhow::Result<()> {
    let (subject, damages) = cases.make(case);
    println!("{}", subject.name);
    for damage in &damages {
        println!("  {}", damage.describe(subject));
    }
    let mut tally = Tally::default();
    let found = worker::look(subject, damages, case, &mut tally);
    println!("{tally:#?}");
    match found {
        None => Ok(()),
        Some(found) => anyhow::bail!("{}\n{}\n{}", found.kind, found.damage.join("\n"), found.what),
    }
}

#[derive(Default)]
struct Seen {
    tally: Tally,
    exhaustive: u64,
    random: u64,
    /// The first of each kind, and how often it came up.
    found: BTreeMap<String, (Found, u64)>,
}

impl Seen {
    fn find(&mut self, found: Found) {
        self.found.entry(found.kind.clone()).or_insert_with(|| (found, 0)).1 += 1;
    }
}

/// Runs one worker until the time is over; another from the next image on when it dies or hangs.
fn drive(args: &Args, mut share: Share, until: Instant, seen: &Mutex<Seen>) -> anyhow::Result<()> {
    while until > Instant::now() {
        let left = (until - Instant::now()).as_secs().max(1);
        let (of, seed) = (share.of, args.seed);
        let mut child = Command::new(std::env::current_exe()?)
            .arg("corrupt")
            .args(["--seed", &seed.to_string(), "--seconds", &left.to_string(), "--worker"])
            .args([of, share.exhaustive, share.random].map(|n| n.to_string()))
            // The same memory is needed again for each image: it is not worth giving it back.
            .env("MALLOC_TRIM_THRESHOLD_", "268435456")
            .env("MALLOC_MMAP_THRESHOLD_", "268435456")
            .stdout(Stdio::piped())
            .spawn()?;
        let output = BufReader::new(child.stdout.take().context("a worker without an output")?);
        let at = Arc::new(Mutex::new((String::new(), Instant::now())));
        let watched = watch(child, at.clone());
        for line in output.lines() {
            match serde_json::from_str(&line?)? {
                Line::At(case) => *at.lock() = (case, Instant::now()),
                Line::Found(found) => seen.lock().find(found),
                Line::Done { tally, exhaustive, random } => {
                    let mut seen = seen.lock();
                    seen.tally.add(&tally);
                    seen.exhaustive += (exhaustive - share.exhaustive) / of;
                    seen.random += (random - share.random) / of;
                    share = Share { of, exhaustive, random };
                }
            }
        }
        let Some(why) = watched.join().expect("the watchdog")? else { return Ok(()) };
        let case = at.lock().0.clone();
        seen.lock().find(Found {
            kind: format!("the process {why}"),
            subject: "see --case".into(),
            damage: Vec::new(),
            what: String::new(),
            case,
        });
        // What it had done since it told its figures is done again, but for the image that ended it: a run with such a finding is no good run.
        share.exhaustive += of * 1_000;
        share.random += of * 1_000;
    }
    Ok(())
}

type Watchdog = std::thread::JoinHandle<anyhow::Result<Option<String>>>;

/// Waits for a worker, and kills it if it stays at one image. Gives how it ended, unless well.
fn watch(mut child: Child, at: Arc<Mutex<(String, Instant)>>) -> Watchdog {
    std::thread::spawn(move || {
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok((!status.success()).then(|| format!("ended: {status}")));
            }
            let (case, since) = at.lock().clone();
            if !case.is_empty() && since.elapsed() > HANG {
                child.kill()?;
                child.wait()?;
                return Ok(Some(format!("hung for {} s", HANG.as_secs())));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    })
}

fn print_found(found: &Found, seed: u64) {
    println!("  again with: cargo xtask corrupt --seed {seed} --case {}", found.case);
    println!("  {}", found.subject);
    for damage in &found.damage {
        println!("  {damage}");
    }
    for line in found.what.lines() {
        println!("    {line}");
    }
}

fn print(figures: &Figures) {
    let Figures { tally, .. } = figures;
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(["corrupt", ""]);
    let mut row = |name: &str, value: String| {
        table.add_row([name.to_string(), value]);
    };
    row("seed", figures.seed.to_string());
    row("images", tally.images.to_string());
    row("images/s", format!("{:.0}", figures.images_per_second));
    let part = figures.exhaustive_done as f64 / figures.exhaustive_of as f64 * 100.0;
    let (done, of) = (figures.exhaustive_done, figures.exhaustive_of);
    row("exhaustive part", format!("{done} of {of} ({part:.1} %), from {} on", figures.from));
    row("random part", figures.random_done.to_string());
    row("openings", tally.openings.to_string());
    row("  refused", tally.refused.to_string());
    row("  all there", tally.whole.to_string());
    row("    and said that more may be lost", tally.cautious.to_string());
    row("  less, and said so", tally.less.to_string());
    row("  less, as an earlier power cut leaves it", tally.less_unseen.to_string());
    row("verified", tally.verified.to_string());
    row("  without a fault", tally.verified_whole.to_string());
    row("moments gone back to", tally.moments.to_string());
    row("  refused", tally.moments_refused.to_string());
    row("snapshots afterwards", tally.snapshots.to_string());
    row("  failed", tally.snapshots_failed.to_string());
    row("kinds of finding", figures.findings.len().to_string());
    println!("{table}");
}
