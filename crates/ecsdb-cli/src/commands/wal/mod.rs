//! `ecsdb wal`

mod changes;
mod ls;

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, Subcommand};
use ecsdb::{Lsn, Moment};
use ecsdb_core::{Change, changes as changes_of};
use ecsdb_query::Components;
use ecsdb_recovery::{History, LostBefore, lost_before, never_given, scan_log};
use ecsdb_wal::{Tail, Transaction};
use serde_json::{Value as Json, json};

use self::changes::{Names, define, show};
use super::followed::{Followed, Found, end};
use crate::failure::Failure;
use crate::output::{self, Output, Rows};
use crate::place::{Look, Place, Settled};
use crate::times;

/// Options of `wal`.
#[derive(Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// List the segments of the log and the archive.
    #[command(after_help = "Example:\n  $ ecsdb wal ls world")]
    Ls {
        #[command(flatten)]
        place: Place,
    },
    /// Show what transactions did.
    #[command(after_help = "Example:\n  $ ecsdb wal show world\n  $ ecsdb wal show world --from 3 --to 5")]
    Show {
        #[command(flatten)]
        place: Place,
        /// The first transaction shown.
        #[arg(long, value_name = "LSN", default_value_t = 1)]
        from: u64,
        /// The last transaction shown.
        #[arg(long, value_name = "LSN")]
        to: Option<u64>,
    },
    /// Show the last transactions, and with `--follow` those to come.
    #[command(after_help = "Example:\n  $ ecsdb wal tail world -n 3")]
    Tail {
        #[command(flatten)]
        place: Place,
        /// How many transactions.
        #[arg(short, default_value_t = 10)]
        n: usize,
        /// Goes on with each one that is written, until Ctrl-C.
        #[arg(short, long)]
        follow: bool,
    },
}

/// How long after a look that found nothing a log that is followed is looked at again.
const LOOK_EVERY: Duration = Duration::from_millis(100);

pub(crate) fn run(options: &Options, out: &mut Output) -> Result<()> {
    match &options.what {
        What::Ls { place } => ls::ls(&place.settle()?, out),
        What::Show { place, from, to } => {
            let (from, to) = (*from, to.unwrap_or(u64::MAX));
            if from > to {
                let text = format!("--from {from} is behind --to {to}: there is nothing between");
                return Err(Failure::Usage(text).into());
            }
            let shown = &mut Shown::after(Lsn(from.saturating_sub(1)), true);
            let settled = &place.settle()?;
            let read = settled.look(|look| {
                shown.read(look, Lsn(to), out)?;
                begins(look, Lsn(from), Lsn(to))
            });
            let read = printed(read)?;
            let any = shown.any;
            shown.rest(out)?;
            shown.still_there(settled)?;
            match read {
                Ok(()) if !any => {
                    let text = "no transaction of these is in the log or the archive";
                    Err(Failure::Missing(text.into()).into())
                }
                read => read,
            }
        }
        What::Tail { place, n, follow } => {
            let shown = &mut Shown::after(Lsn::ZERO, true);
            let mut to = Lsn::MAX;
            let settled = &place.settle()?;
            let read = settled.look(|look| {
                let (after, end, read) = last(look, *n);
                // What was shown before the files had changed is not shown again, and of what was written since nothing is among the last ones.
                if !shown.any {
                    (shown.last, to) = (after, end);
                }
                shown.read(look, to, out).and(read)
            });
            let read = printed(read)?;
            let any = shown.any;
            shown.rest(out)?;
            shown.still_there(settled)?;
            if read.is_ok() && !any && *n > 0 && !follow && !out.is_json() {
                return out.line("no transaction is in the log or the archive");
            }
            read?;
            if !follow {
                return Ok(());
            }
            go_on(settled, shown, out)
        }
    }
}

/// Shows what comes after what was shown, for ever. Whoever writes the log deletes what a snapshot covers, and waits for nobody who reads it.
fn go_on(settled: &Settled, shown: &mut Shown, out: &mut Output) -> Result<()> {
    shown.follows = true;
    loop {
        out.flush()?;
        let before = shown.last;
        settled.look(|look| match shown.read(look, Lsn::MAX, out) {
            // What comes next was deleted while it was read; what came before it is whole.
            Err(e) if shown.last > before && e.is::<ecsdb_recovery::Error>() => Ok(()),
            done => done,
        })?;
        shown.rest(out)?;
        shown.still_there(settled)?;
        if shown.last == before {
            if out.is_left() {
                return Ok(());
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

/// What was read; where it could not be printed, nothing else is said of it.
fn printed(read: Result<()>) -> Result<Result<()>> {
    match read {
        Err(e) if output::is_unwritten(&e) => Err(e),
        read => Ok(read),
    }
}

/// Says which transactions are not shown.
fn skipped(from: u64, to: u64, out: &mut Output) -> Result<()> {
    if out.is_json() {
        return out.json(&json!({ "skipped": { "from": from, "to": to } }));
    }
    out.line(format_args!("LSN {from} to {to} skipped: they are not in the log or the archive any more"))
}

/// Transactions that are shown as they are read, each once, however often the files are looked at.
struct Shown {
    names: Names,
    /// The last one; what is shown comes after it.
    last: Lsn,
    any: bool,
    /// It goes on from the last one, whether or not that was shown.
    follows: bool,
    followed: Followed,
    /// What is there is not what was shown any more.
    is_another: bool,
    rows: Rows,
}

const HEAD: [&str; 4] = ["LSN", "time", "bytes", "changes"];

impl Shown {
    fn after(last: Lsn, head: bool) -> Shown {
        let rows = Rows::new(if head { &HEAD } else { &[] });
        let (any, follows, is_another, followed) = Default::default();
        Shown { names: Names::new(), last, any, follows, followed, is_another, rows }
    }

    /// What comes is to follow on what was shown: what does not was deleted before it was read.
    fn goes_on(&self) -> bool {
        self.any || self.follows
    }

    /// An error if something else has taken the place of what is shown.
    fn still_there(&self, settled: &Settled) -> Result<()> {
        if !self.is_another {
            return Ok(());
        }
        let (dir, last) = (settled.config.dir.display(), self.last);
        let text = format!(
            "what is in {dir} now is another database, or an earlier state of the one that was shown up to LSN {last}"
        );
        Err(Failure::Missing(text).into())
    }

    /// Says what there was up to `to`, and is not there any more. What no transaction ever had was not.
    fn skip(&mut self, look: &Look<'_>, to: Lsn, out: &mut Output) -> Result<()> {
        if !self.goes_on() || to <= self.last {
            return Ok(());
        }
        for (first, last) in never_given(look.vfs(), look.layout, look.manifest)? {
            if last > self.last && first <= to {
                self.skip_all(Lsn(first.0 - 1), out)?;
                self.last = last.min(to);
            }
        }
        self.skip_all(to, out)
    }

    fn skip_all(&mut self, to: Lsn, out: &mut Output) -> Result<()> {
        if to > self.last {
            self.rest(out)?;
            skipped(self.last.0 + 1, to.0, out)?;
            self.last = to;
        }
        Ok(())
    }

    /// Prints what is kept of the table; what comes then has no head.
    fn rest(&mut self, out: &mut Output) -> Result<()> {
        std::mem::replace(&mut self.rows, Rows::new(&[])).finish(out)
    }

    /// Shows the transactions up to `to`, up to where the log has lost something. Names that are not known yet are looked for in the newest snapshot,
    /// and in the log up to there.
    fn read(&mut self, look: &Look<'_>, to: Lsn, out: &mut Output) -> Result<()> {
        let history = look.history()?;
        let seen = self.goes_on().then_some(self.last);
        self.is_another = self.followed.find(look, &history, seen) == Found::Another;
        if self.is_another {
            return Ok(());
        }
        if self.names.is_empty() {
            let mut from = Lsn::ZERO;
            if let Some(newest) = look.manifest.snapshots.last()
                // One that is damaged has no names to give, and the log is as good without.
                && let Ok(seen) = look.see_by(&history, Moment::Snapshot(newest.sequence))
            {
                self.names.extend(Components::of(&seen.view).all().map(|def| (def.id, def.name.to_string())));
                from = Lsn(newest.lsn);
            }
            // Where the log has lost something they have none.
            drop(transactions(look, &history, from, self.last, |_, _, changes| {
                define(&mut self.names, &changes);
                Ok(())
            }));
        }
        transactions(look, &history, self.last, to, |transaction, bytes, changes| {
            crate::interrupt::check()?;
            define(&mut self.names, &changes);
            self.skip(look, Lsn(transaction.lsn.0 - 1), out)?;
            (self.last, self.any) = (transaction.lsn, true);
            let shown = changes.iter().map(|change| show(change, &self.names));
            if out.is_json() {
                let changes: Vec<Json> = shown.map(|(json, _)| json).collect();
                return out.json(&json!({
                    "lsn": transaction.lsn.0, "time": times::json(transaction.unix_ns), "bytes": bytes,
                    "changes": changes,
                }));
            }
            let text: Vec<String> = shown.map(|(_, text)| text).collect();
            let time = times::local(transaction.unix_ns);
            self.rows.push(vec![transaction.lsn.to_string(), time, bytes.to_string(), text.join("\n")], out)
        })?;
        self.skip(look, end(look, &history).min(to), out)
    }
}

/// An error where transactions of these are missing before the first one that is there.
fn begins(look: &Look<'_>, from: Lsn, to: Lsn) -> Result<()> {
    match lost_before(look.vfs(), look.layout, look.manifest)? {
        Some(lost) if lost.first <= to && lost.last >= from => {
            Err(Failure::Damaged(before_text(&lost)).into())
        }
        _ => Ok(()),
    }
}

fn before_text(LostBefore { first, last, what, .. }: &LostBefore) -> String {
    format!("transactions are lost from LSN {first} to {last}: {what}")
}

/// What the last `n` transactions come after, and the last of them, behind which somebody may write more: those after the newest snapshot, and where
/// these are too few, those before it, as far as nothing between them is lost. Beside it, what keeps it from being as many.
fn last(look: &Look<'_>, n: usize) -> (Lsn, Lsn, Result<()>) {
    let newest = look.manifest.snapshots.last().map_or(Lsn::ZERO, |newest| Lsn(newest.lsn));
    let history = match look.history() {
        Ok(history) => history,
        Err(e) => return (newest, Lsn::MAX, Err(e)),
    };
    if n == 0 {
        let (_, last) = history.range().unwrap_or_default();
        return (last.0, if history.lost().is_some() { Lsn::MAX } else { last.0 }, Ok(()));
    }
    let mut end = Lsn::MAX;
    let mut lsns = VecDeque::new();
    let mut from = |after: Lsn| {
        lsns.clear();
        let read = logged(look, &history, after, Lsn::MAX, |transaction, _| {
            lsns.push_back(transaction.lsn);
            if lsns.len() > n {
                lsns.pop_front();
            }
            ControlFlow::Continue(())
        });
        // Where none is in the log, that goes on from the snapshot.
        let first = lsns.front().map_or(after.max(newest), |first| Lsn(first.0 - 1));
        end = if read.is_ok() { lsns.back().copied().unwrap_or(first) } else { Lsn::MAX };
        (first, lsns.len(), read)
    };
    let (first, found, read) = from(newest);
    if found >= n || read.is_err() {
        return (first, end, Ok(()));
    }
    let (mut start, mut hole) = (Lsn::ZERO, None);
    let (after, read) = loop {
        let lost = match from(start) {
            (first, found, Ok(())) if found < n => {
                let begins = || begins(look, Lsn::ZERO, Lsn::MAX);
                break (first, hole.map_or_else(begins, Err));
            }
            (first, _, Ok(())) => break (first, Ok(())),
            (first, _, Err(e)) => match first_lost(&e) {
                Some(lost) => {
                    hole = Some(e);
                    lost
                }
                // It was deleted while it was read: what comes after the snapshot is there.
                None => break (first, Ok(())),
            },
        };
        // What is above the hole is there all the same.
        match behind(look, lost.max(start.next())) {
            Ok(Some(next)) if next <= newest => start = next,
            Ok(_) => break (newest, hole.map_or(Ok(()), Err)),
            Err(e) => break (newest, Err(e)),
        }
    };
    (after, end, read)
}

/// The first transaction that is lost, where that is what is wrong.
fn first_lost(e: &anyhow::Error) -> Option<Lsn> {
    use ecsdb_recovery::Error;
    match e.downcast_ref() {
        Some(Error::Corrupt { first_lost, .. } | Error::ArchiveLost { first_lost, .. }) => {
            Some(Lsn(*first_lost))
        }
        _ => None,
    }
}

/// What the next segment comes after, that is there and has nothing of `lost` or before.
fn behind(look: &Look<'_>, lost: Lsn) -> Result<Option<Lsn>> {
    let scan = scan_log(look.vfs(), look.layout, look.manifest)?;
    let ends = scan.segments.iter().map(|segment| segment.header.previous.last_lsn);
    Ok(ends.filter(|end| *end >= lost).min())
}

/// Calls back with each transaction above `after` up to `to`: how many bytes it has, and what it changed.
fn transactions(
    look: &Look<'_>,
    history: &History<'_>,
    after: Lsn,
    to: Lsn,
    mut each: impl FnMut(Transaction, usize, Vec<Change>) -> Result<()>,
) -> Result<()> {
    let mut failed = Ok(());
    logged(look, history, after, to, |transaction, bytes| {
        failed = changes_of(bytes)
            .map_err(anyhow::Error::from)
            .and_then(|changes| each(transaction, bytes.len(), changes));
        if failed.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    failed
}

/// As [`History::transactions`]. Where there is no log and none is missed, as in a copy that was never opened to be written, there are none.
fn logged(
    look: &Look<'_>,
    history: &History<'_>,
    after: Lsn,
    to: Lsn,
    each: impl FnMut(Transaction, &[u8]) -> ControlFlow<()>,
) -> Result<()> {
    let Err(e) = history.transactions(after, to, each) else { return Ok(()) };
    let e = e.into();
    if first_lost(&e).is_some() && history.lost().is_none() {
        let scan = scan_log(look.vfs(), look.layout, look.manifest)?;
        if scan.segments.is_empty() && !matches!(scan.tail, Tail::Corrupt { .. }) {
            return Ok(());
        }
    }
    Err(e)
}
