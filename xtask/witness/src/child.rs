//! The process that is killed: it opens the database, goes on with the history, and does everything else that writes files.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ecsdb::{ByteSize, Database, Durability, Event, Lsn, Moment, PersistenceConfig, RecoveryError};

use super::history::{digest_of, transaction};
use super::lines::{Journal, Line};

const FLUSH_INTERVAL: Duration = Duration::from_millis(2);
/// Tickets in flight at most.
const FLIGHT: u64 = 8;
/// Over how many transactions it goes back in time at most.
const BACK: usize = 60;

/// Of the process.
#[derive(clap::Args)]
pub struct Args {
    /// Where `database` is, and the copies go to.
    base: PathBuf,
    /// Where the claims are written to.
    journal: PathBuf,
    /// The history.
    #[arg(long)]
    history: u64,
    /// What this process does.
    #[arg(long)]
    seed: u64,
    /// How much.
    #[arg(long)]
    rounds: usize,
    /// End without closing, with commits that the system has and the disk not yet.
    #[arg(long)]
    abandon: bool,
}

/// The arguments of a process for `base`, in the order in which [`Args`] has them.
#[must_use]
pub fn command_line(base: &Path, journal: &Path, history: u64, seed: u64, rounds: usize) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = vec![base.into(), journal.into()];
    for (name, value) in [("--history", history), ("--seed", seed), ("--rounds", rounds as u64)] {
        arguments.extend([name.into(), value.to_string().into()]);
    }
    arguments
}

/// Does what the process does. What the engine refuses is a line of the journal.
///
/// # Errors
/// When the journal cannot be written.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let journal = Arc::new(Journal::open(&args.journal)?);
    match life(args, &journal) {
        Err(e) => journal.say(&Line::Error(format!("{e:#}"))),
        Ok(()) => journal.say(&Line::Done),
    }
}

pub(crate) fn settings(config: &mut PersistenceConfig) {
    config.wal.segment_bytes_first = ByteSize::kib(64);
    config.wal.segment_bytes_max = ByteSize::kib(128);
    config.wal.flush_interval = FLUSH_INTERVAL;
    config.manual();
    config.snapshot.chain_max = 3;
    config.archive.enabled = Some(true);
    config.retention.bytes_max = ByteSize::kib(512);
}

fn life(args: &Args, journal: &Arc<Journal>) -> anyhow::Result<()> {
    let mut random = fastrand::Rng::with_seed(args.seed);
    journal.say(&Line::Doing("opening".into()))?;
    let db = Database::builder(args.base.join("database")).config(settings).open()?;
    follow(&db, journal);
    let view = db.view()?;
    let (lsn, (number, digest)) = (view.lsn().0, digest_of(&view)?);
    drop(view);
    journal.say(&Line::Opened { lsn, number, digest })?;
    let mut life = Life { db: &db, args, journal, done: vec![(lsn, number)] };
    for _ in 0..args.rounds {
        life.doing("commits")?;
        if random.bool() {
            life.unsynced(random.u64(1..20), &mut random)?;
        }
        life.commits(random.u64(1..40))?;
        match random.u32(..10) {
            0..4 => {
                life.doing("snapshot")?;
                let job = db.snapshot()?;
                life.commits(random.u64(..20))?;
                job.wait()?;
            }
            4..6 => {
                life.doing("compaction")?;
                let job = db.compact()?;
                life.commits(random.u64(..20))?;
                job.wait()?;
            }
            6 => {
                life.doing("rotation")?;
                db.rotate_log()?;
            }
            7 => life.copy("backup", &mut random)?,
            _ => life.copy("restore", &mut random)?,
        }
    }
    if args.abandon {
        life.unsynced(random.u64(1..20), &mut random)?;
        std::thread::sleep(4 * FLUSH_INTERVAL);
        std::process::exit(0);
    }
    life.doing("closing")?;
    db.close()?;
    Ok(())
}

/// Says when a snapshot is published.
fn follow(db: &Database, journal: &Arc<Journal>) {
    let (mut events, journal) = (db.events(), journal.clone());
    std::thread::spawn(move || {
        while let Some(event) = events.blocking_next() {
            if !matches!(event, Event::SnapshotTaken(_) | Event::Compacted(_)) {
                continue;
            }
            // The process ends when it cannot say any more.
            if journal.say(&Line::Published).is_err() {
                break;
            }
        }
    });
}

struct Life<'a> {
    db: &'a Database,
    args: &'a Args,
    journal: &'a Journal,
    /// LSN and number of the transactions of this life.
    done: Vec<(u64, u64)>,
}

impl Life<'_> {
    fn doing(&self, what: &str) -> anyhow::Result<()> {
        self.journal.say(&Line::Doing(what.into()))
    }

    /// The next `count` transactions.
    fn commits(&mut self, count: u64) -> anyhow::Result<()> {
        let mut flight = std::collections::VecDeque::new();
        for n in 0..count {
            let ticket = self.db.submit(|tx| transaction(self.args.history, tx))?;
            self.done.push((ticket.lsn().0, ticket.value().copied().unwrap_or_default()));
            flight.push_back(ticket);
            // Alone, and several with one sync.
            let keep = if n % 16 < 8 { 0 } else { FLIGHT };
            while flight.len() as u64 > keep
                && let Some(ticket) = flight.pop_front()
            {
                self.settle(ticket)?;
            }
        }
        flight.into_iter().try_for_each(|ticket| self.settle(ticket))
    }

    /// Transactions that nobody waits for, and which the system has but not yet the disk.
    fn unsynced(&mut self, count: u64, random: &mut fastrand::Rng) -> anyhow::Result<()> {
        for _ in 0..count {
            self.db.write_with(Durability::Buffered, |tx| transaction(self.args.history, tx))?;
        }
        std::thread::sleep(FLUSH_INTERVAL * random.u32(..6));
        Ok(())
    }

    fn settle(&self, ticket: ecsdb::Ticket<u64>) -> anyhow::Result<()> {
        let lsn = ticket.lsn().0;
        let number = ticket.wait()?;
        self.journal.say(&Line::Durable { lsn, number })
    }

    /// A copy of now or of a moment before, as a database of its own.
    fn copy(&self, what: &str, random: &mut fastrand::Rng) -> anyhow::Result<()> {
        self.doing(what)?;
        // Names of their own, since a killed copy stays.
        let dir = format!("copies/{:016x}", fastrand::u64(..));
        let path = self.args.base.join(&dir);
        let back = if what == "backup" { 0 } else { random.usize(..BACK.min(self.done.len())) };
        let (lsn, number) = self.done[self.done.len() - 1 - back];
        let job = match what {
            "backup" => self.db.backup_to(&path)?,
            _ => self.db.restore_to(&path, Moment::Lsn(Lsn(lsn)))?,
        };
        match job.wait() {
            Ok(_) => self.journal.say(&Line::Copied { lsn, number, dir }),
            Err(ecsdb::Error::Recovery(RecoveryError::OutOfRange { .. })) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }
}

/// The base directory's database.
pub(crate) fn database(base: &Path) -> PathBuf {
    base.join("database")
}
