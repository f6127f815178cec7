//! `ecsdb demo`: a year of flights as transactions, killed by SIGKILL on the way, and compared with a run that was not.

mod data;
mod parent;
mod summary;
mod twin;

use std::collections::VecDeque;
use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use ecsdb::prelude::*;

pub(crate) use parent::run;

use data::Dataset;
use twin::Twin;

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
    /// Only the first so many flights.
    #[arg(long)]
    flights: Option<usize>,
    /// Where to put the database; a temporary directory unless given.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Decides when the kills come.
    #[arg(long)]
    seed: Option<u64>,
}

#[derive(Args)]
pub(crate) struct ChildOptions {
    #[arg(long)]
    dir: PathBuf,
    #[arg(long)]
    flights: Option<usize>,
}

/// What the child prints: an LSN of 8 bytes and the number of events of 8 bytes, both durable.
const REPORT_BYTES: usize = 16;

fn dataset(flights: Option<usize>) -> anyhow::Result<Dataset> {
    let mut data = Dataset::load().context("reading the flights that come with this program")?;
    if let Some(flights) = flights {
        data.truncate(flights);
    }
    Ok(data)
}

/// Opens the database, goes on where it stands, and reports what became durable.
pub(crate) fn child(options: &ChildOptions) -> anyhow::Result<()> {
    let data = dataset(options.flights)?;
    let db = Database::open(&options.dir)?;
    let mut twin = Twin::open(&db, &data)?;
    let mut out = std::io::stdout().lock();
    let mut flight: VecDeque<(ecsdb::Ticket<()>, u64)> = VecDeque::with_capacity(IN_FLIGHT);
    let mut snapshot: Option<ecsdb::Job<ecsdb::SnapshotInfo>> = None;
    let mut finish = |(ticket, done): (ecsdb::Ticket<()>, u64), always: bool| -> anyhow::Result<()> {
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
