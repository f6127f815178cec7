//! `ecsdb demo`: a year of flights as transactions, killed by SIGKILL on the way, and compared with a run that was not.

mod data;
mod parent;
mod summary;
mod twin;

use std::collections::VecDeque;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Args;
use ecsdb::prelude::*;
use ecsdb_io::{Disk, Layout};
use ecsdb_recovery::look;

use data::Dataset;
use twin::Twin;

use crate::output::Output;

/// Tickets in flight in the child.
const IN_FLIGHT: usize = 4096;
/// Events between two snapshots.
const SNAPSHOT_EVERY: u64 = 150_000;
/// Events between two reports to the parent.
const REPORT_EVERY: u64 = 64;

#[derive(Args)]
pub(crate) struct Options {
    /// How often the process that writes is killed.
    #[arg(long, default_value_t = 5)]
    kills: usize,
    /// How many flights, from the first of the year on; all unless given.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    flights: Option<u64>,
    /// Where to put the database, with the default settings, whatever the environment says: not there yet, or empty. A temporary directory unless
    /// given.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Decides when the kills come.
    #[arg(long)]
    seed: Option<u64>,
    /// To be the process that is killed: the identity of the database that it writes into.
    #[arg(long, hide = true, requires = "dir", value_parser = identity)]
    child: Option<u128>,
}

fn identity(text: &str) -> Result<u128, std::num::ParseIntError> {
    u128::from_str_radix(text, 16)
}

pub(crate) fn run(options: &Options, out: &mut Output) -> Result<()> {
    match (&options.dir, options.child) {
        (Some(dir), Some(database)) => child(Made { dir, database }, options.flights),
        _ => parent::run(options, out),
    }
}

/// What the child prints: an LSN of 8 bytes and the number of events of 8 bytes, both durable.
const REPORT_BYTES: usize = 16;

fn dataset(flights: Option<u64>) -> Result<Dataset> {
    let mut data = Dataset::load().context("reading the flights that come with this program")?;
    if let Some(flights) = flights {
        data.truncate(usize::try_from(flights).unwrap_or(usize::MAX));
    }
    Ok(data)
}

/// The database that a demonstration has made.
#[derive(Clone, Copy)]
struct Made<'a> {
    dir: &'a Path,
    database: u128,
}

impl Made<'_> {
    /// Opens it, and no other one that took its place.
    fn open(self) -> Result<Database> {
        self.check()?;
        let db = Database::open_existing(self.dir)?;
        // And again, once nobody can change that.
        self.check()?;
        Ok(db)
    }

    fn check(self) -> Result<()> {
        let found = look(&Disk, &Layout::new(self.dir))?.database;
        let dir = self.dir.display();
        ensure!(found == self.database, "in {dir} there is another database by now than the demo's");
        Ok(())
    }
}

/// Opens the database, goes on where it stands, and reports what became durable.
fn child(made: Made<'_>, flights: Option<u64>) -> Result<()> {
    let data = dataset(flights)?;
    let db = made.open()?;
    let mut twin = Twin::open(&db, &data)?;
    let mut out = std::io::stdout().lock();
    let mut flight: VecDeque<(ecsdb::Ticket<()>, u64)> = VecDeque::with_capacity(IN_FLIGHT);
    let mut snapshot: Option<ecsdb::Job<ecsdb::SnapshotInfo>> = None;
    let mut finish = |(ticket, done): (ecsdb::Ticket<()>, u64), always: bool| -> Result<()> {
        let lsn = ticket.lsn();
        ticket.wait()?;
        if always || done % REPORT_EVERY == 0 {
            let mut report = [0; REPORT_BYTES];
            report[..8].copy_from_slice(&lsn.0.to_le_bytes());
            report[8..].copy_from_slice(&done.to_le_bytes());
            out.write_all(&report)?;
            out.flush()?;
        }
        Ok(())
    };
    while let Some(ticket) = twin.step(&db, &data)? {
        flight.push_back((ticket, twin.done()));
        if flight.len() == IN_FLIGHT
            && let Some(oldest) = flight.pop_front()
        {
            finish(oldest, false)?;
        }
        if twin.done() % SNAPSHOT_EVERY == 0 && snapshot.as_ref().is_none_or(ecsdb::Job::is_finished) {
            snapshot = Some(db.snapshot()?);
        }
    }
    for entry in flight {
        finish(entry, true)?;
    }
    db.close()?;
    Ok(())
}
