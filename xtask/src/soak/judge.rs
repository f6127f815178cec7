//! The judge outside: what was acknowledged has to be in whatever is opened later.

use std::path::Path;

use ecsdb::PersistenceConfig;

use super::lines::{Line, Stats};
use super::load::THREADS;
use super::state::State;

/// One life of the process under load, as far as it told.
#[derive(Default)]
pub(super) struct Seen {
    /// The LSN that the last opening found; `None` while none is done.
    opened: Option<u64>,
    restoring: bool,
    pub(super) done: bool,
    pub(super) stats: Option<Stats>,
}

/// Takes one line in. Fails when it says something that must not be.
pub(super) fn take(state: &mut State, seen: &mut Seen, line: Line) -> anyhow::Result<()> {
    let counts = &mut state.counts;
    let acknowledged = &mut state.acknowledged;
    match line {
        Line::Durable { worker, transactions, lsn } => {
            counts.acknowledgments += 1;
            let opened = seen.opened.unwrap_or(u64::MAX);
            anyhow::ensure!(lsn > opened, "LSN {lsn} was given out after an opening at LSN {opened}");
            acknowledged.lsn = acknowledged.lsn.max(lsn);
            let known = &mut acknowledged.transactions[worker as usize];
            *known = transactions.max(*known);
        }
        Line::Opened { lsn, transactions, seconds, report } => {
            counts.openings += 1;
            counts.slowest_opening_seconds = counts.slowest_opening_seconds.max(seconds);
            anyhow::ensure!(
                lsn >= acknowledged.lsn,
                "acknowledged up to LSN {}, opened at {lsn}: {report}",
                acknowledged.lsn
            );
            for (worker, (found, known)) in
                transactions.into_iter().zip(acknowledged.transactions).enumerate()
            {
                anyhow::ensure!(
                    found >= known,
                    "worker {worker}: {known} transactions acknowledged, {found} there at LSN {lsn}: {report}"
                );
            }
            acknowledged.transactions = transactions;
            seen.opened = Some(lsn);
        }
        Line::Closed => seen.opened = None,
        Line::Restoring => {
            seen.restoring = true;
            acknowledged.transactions = [0; THREADS];
        }
        Line::Restored => {
            seen.restoring = false;
            counts.worlds_restored += 1;
        }
        Line::Copied => counts.copies_compared += 1,
        Line::Fault { kind, met } => {
            let count = if kind == "Full" { &mut counts.disk_full } else { &mut counts.failed_syncs };
            *count += 1;
            counts.operations_failed += met;
            seen.opened = None;
        }
        Line::Configured => counts.settings_changed += 1,
        Line::Stats(stats) => {
            counts.commits += stats.commits;
            counts.snapshots += stats.snapshots;
            counts.compactions += stats.compactions;
            counts.archived += stats.archived;
            // Those of the time since the last sample, which may be more than one line.
            let commits = seen.stats.map_or(0, |last| last.commits) + stats.commits;
            seen.stats = Some(Stats { commits, ..stats });
        }
        Line::Failed { why } => anyhow::bail!("{why}"),
        Line::Done => seen.done = true,
    }
    Ok(())
}

/// Counts a kill, and reads every byte of what it left.
pub(super) fn after_kill(state: &mut State, seen: &Seen, database: &Path) -> anyhow::Result<()> {
    state.counts.kills += 1;
    state.counts.kills_in_opening += u64::from(seen.opened.is_none());
    state.counts.kills_in_restoring += u64::from(seen.restoring);
    let verified = match ecsdb::verify(&PersistenceConfig::new(database), |_| {}) {
        Ok(verified) => verified,
        // Killed before there was one.
        Err(_) if state.acknowledged.lsn == 0 => return Ok(()),
        Err(e) => return Err(anyhow::Error::from(e).context("verifying after a kill")),
    };
    state.counts.verified += 1;
    anyhow::ensure!(verified.faults.is_empty(), "after a kill: {}", verified.faults.join("; "));
    anyhow::ensure!(verified.away.is_empty(), "after a kill there is not: {:?}", verified.away);
    anyhow::ensure!(
        verified.last_lsn.0 >= state.acknowledged.lsn,
        "acknowledged up to LSN {}, verified up to {}",
        state.acknowledged.lsn,
        verified.last_lsn
    );
    Ok(())
}
