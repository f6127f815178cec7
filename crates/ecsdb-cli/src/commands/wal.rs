//! `ecsdb wal`

use std::collections::{BTreeMap, VecDeque};
use std::ops::ControlFlow;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, Subcommand};
use ecsdb::{ComponentId, Entity, Lsn, Moment};
use ecsdb_core::{Change, changes};
use ecsdb_query::Components;
use ecsdb_recovery::{History, log_dirs};
use ecsdb_wal::{Known, LogScan, Tail, Transaction};
use indicatif::HumanBytes;
use serde_json::{Value as Json, json};

use crate::failure::{self, Failure};
use crate::output::{self, Output, many};
use crate::place::{Look, Place};
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
        What::Ls { place } => ls(place, out),
        What::Show { place, from, to } => {
            let (from, to) = (*from, to.unwrap_or(u64::MAX));
            if from > to {
                let text = format!("--from {from} is behind --to {to}: there is nothing between");
                return Err(Failure::Usage(text).into());
            }
            let (names, transactions) = (&mut Names::new(), &mut VecDeque::new());
            let (after, to) = (Lsn(from.saturating_sub(1)), Lsn(to));
            let read = place.look(|look| read(look, names, after, to, usize::MAX, transactions));
            if transactions.is_empty() {
                read?;
                return Err(
                    Failure::Missing("no transaction of these is in the log or the archive".into()).into()
                );
            }
            print(transactions, true, out)?;
            read
        }
        What::Tail { place, n, follow } => {
            let (names, transactions) = (&mut Names::new(), &mut VecDeque::new());
            let mut last = Lsn::ZERO;
            let read = place.look(|look| {
                // What is not in the log any more is not to come.
                last = look.manifest.snapshots.last().map_or(Lsn::ZERO, |newest| Lsn(newest.lsn));
                tail(look, names, *n, transactions)
            });
            last = transactions.back().map_or(last, |newest| Lsn(newest.lsn));
            if *n == 0 {
                transactions.clear();
            } else if read.is_ok() && transactions.is_empty() && !follow && !out.is_json() {
                return out.line("no transaction is in the log or the archive");
            }
            if read.is_ok() || !transactions.is_empty() {
                print(transactions, true, out)?;
            }
            read?;
            if !follow {
                return Ok(());
            }
            go_on(place, names, last, out)
        }
    }
}

/// Shows what comes after `last`, for ever. Whoever writes the log deletes what a snapshot covers, and waits for nobody who reads it.
fn go_on(place: &Place, names: &mut Names, mut last: Lsn, out: &mut Output) -> Result<()> {
    loop {
        out.flush()?;
        let mut new = VecDeque::new();
        place.look(|look| match read(look, names, last, Lsn::MAX, usize::MAX, &mut new) {
            // What comes next was deleted while it was read; what came before it is whole.
            Err(_) if !new.is_empty() => Ok(()),
            done => done,
        })?;
        let (Some(first), Some(newest)) =
            (new.front().map(|it| Lsn(it.lsn)), new.back().map(|it| Lsn(it.lsn)))
        else {
            std::thread::sleep(LOOK_EVERY);
            continue;
        };
        if first > last.next() {
            skipped(last.0 + 1, first.0 - 1, out)?;
        }
        print(&new, false, out)?;
        last = newest;
    }
}

/// Says which transactions are not shown.
fn skipped(from: u64, to: u64, out: &mut Output) -> Result<()> {
    if out.is_json() {
        return out.json(&json!({ "skipped": { "from": from, "to": to } }));
    }
    out.line(format_args!("LSN {from} to {to} skipped: they are not in the log or the archive any more"))
}

fn ls(place: &Place, out: &mut Output) -> Result<()> {
    let look = |look: &Look<'_>| {
        let dirs = log_dirs(look.layout, look.manifest);
        let scan = LogScan::run(look.vfs(), &dirs, look.manifest.database, Known::default(), 0)?;
        Ok((scan, look.layout.archive_dir().to_path_buf()))
    };
    let (scan, archive) = place.look_closely(look, |(scan, _)| match &scan.tail {
        Tail::Corrupt { damage, .. } => Some(damage.clone()),
        _ => None,
    })?;
    let tail = match &scan.tail {
        Tail::Clean => "clean".to_string(),
        Tail::Torn { damage, .. } => format!("torn: {damage}"),
        Tail::Corrupt { damage, evidence, .. } => format!("DAMAGED: {damage} ({evidence})"),
    };
    if out.is_json() {
        let segments: Vec<Json> = scan
            .segments
            .iter()
            .map(|segment| {
                json!({
                    "file": output::path(&segment.path), "archived": segment.path.starts_with(&archive),
                    "number": segment.header.sequence, "incarnation": segment.header.incarnation,
                    "first_lsn": segment.header.first_lsn.0, "last_lsn": segment.end.last_lsn.0,
                    "bytes": segment.bytes, "used_bytes": segment.end.offset,
                    "created": times::json(segment.header.created_unix_ns),
                    "last_written": times::json(segment.last_unix_ns),
                    "damage": segment.damage.as_ref().map(ToString::to_string),
                })
            })
            .collect();
        let unused: Vec<Json> = scan.unused.iter().map(|file| output::path(file)).collect();
        let kind = match &scan.tail {
            Tail::Clean => "clean",
            Tail::Torn { .. } => "torn",
            Tail::Corrupt { .. } => "corrupt",
        };
        return out.json(&json!({
            "last_lsn": scan.last_lsn.0, "segments": segments, "unused": unused, "tail": kind, "tail_text": tail,
        }));
    }
    let rows = scan.segments.iter().map(|segment| {
        let name = segment.path.file_name().unwrap_or_default().to_string_lossy();
        let place = if segment.path.starts_with(&archive) { "archive" } else { "log" };
        let (first, last) = (segment.header.first_lsn, segment.end.last_lsn);
        vec![
            place.to_string(),
            name.to_string(),
            if last < first { "none".into() } else { format!("{first} to {last}") },
            HumanBytes(segment.end.offset).to_string(),
            times::local(segment.header.created_unix_ns),
        ]
    });
    out.table(&["in", "segment", "transactions", "used", "begun"], rows.collect())?;
    let unused = scan.unused.len() as u64;
    if unused > 0 {
        out.line(format_args!("{} prepared and not used yet", many(unused, "file is", "files are")))?;
    }
    out.line(format_args!("the last transaction is {}; the end of the log is {tail}", scan.last_lsn))
}

/// A transaction, read for showing it.
struct Shown {
    lsn: u64,
    unix_ns: u64,
    bytes: usize,
    changes: Vec<Json>,
    text: Vec<String>,
}

/// Names of components, by their numbers.
type Names = BTreeMap<ComponentId, String>;

/// The last `n` transactions: those after the newest snapshot, and where these are too few, those before it, if nothing of them is lost.
fn tail(look: &Look<'_>, names: &mut Names, n: usize, last: &mut VecDeque<Shown>) -> Result<()> {
    let newest = look.manifest.snapshots.last().map_or(Lsn::ZERO, |newest| Lsn(newest.lsn));
    // Where none is asked for, the last one still says which are to come.
    read(look, names, newest, Lsn::MAX, n.max(1), last)?;
    if last.len() < n && newest > Lsn::ZERO {
        let mut all = VecDeque::new();
        match read(look, names, Lsn::ZERO, Lsn::MAX, n, &mut all) {
            Ok(()) => *last = all,
            Err(e) => failure::warn(&format!("what comes before the newest snapshot is not shown: {e}")),
        }
    }
    Ok(())
}

/// Reads the transactions above `after` up to `to` into `last`, the last `n` of them, at least one, up to where the log has lost something. Names that are
/// not known yet are looked for in the newest snapshot, and in the log up to there.
fn read(
    look: &Look<'_>,
    names: &mut Names,
    after: Lsn,
    to: Lsn,
    n: usize,
    last: &mut VecDeque<Shown>,
) -> Result<()> {
    last.clear();
    let history = look.history()?;
    if names.is_empty() {
        let mut from = Lsn::ZERO;
        if let Some(newest) = look.manifest.snapshots.last()
            // One that is damaged has no names to give, and the log is as good without.
            && let Ok(seen) = look.see_by(&history, Moment::Snapshot(newest.sequence))
        {
            names.extend(Components::of(&seen.view).all().map(|def| (def.id, def.name.to_string())));
            from = Lsn(newest.lsn);
        }
        // Where the log has lost something they have none.
        drop(transactions(&history, from, after, |_, _, changes| define(names, &changes)));
    }
    transactions(&history, after, to, |transaction, bytes, changes| {
        define(names, &changes);
        if last.len() >= n {
            last.pop_front();
        }
        let (changes, text) = changes.iter().map(|change| show(change, names)).unzip();
        let (lsn, unix_ns) = (transaction.lsn.0, transaction.unix_ns);
        last.push_back(Shown { lsn, unix_ns, bytes, changes, text });
    })
}

/// Calls back with each transaction above `after` up to `to`: how many bytes it has, and what it changed.
fn transactions(
    history: &History<'_>,
    after: Lsn,
    to: Lsn,
    mut each: impl FnMut(Transaction, usize, Vec<Change>),
) -> Result<()> {
    let mut failed = None;
    history.transactions(after, to, |transaction, bytes| match changes(bytes) {
        Ok(changes) => {
            each(transaction, bytes.len(), changes);
            ControlFlow::Continue(())
        }
        Err(e) => {
            failed = Some(e);
            ControlFlow::Break(())
        }
    })?;
    failed.map_or(Ok(()), |e| Err(e.into()))
}

fn define(names: &mut Names, changes: &[Change]) {
    for change in changes {
        if let Change::Define(def) = change {
            names.insert(def.id, def.name.to_string());
        }
    }
}

/// Entities that are named one by one, for people.
const NAMED_MAX: usize = 3;

fn show(change: &Change, names: &Names) -> (Json, String) {
    let name = |id: &ComponentId| names.get(id).cloned().unwrap_or_else(|| format!("component {}", id.0));
    let all = |ids: &[ComponentId]| ids.iter().map(name).collect::<Vec<_>>();
    let ids = |entities: &[Entity]| entities.iter().map(ToString::to_string).collect::<Vec<_>>();
    let some = |entities: &[Entity]| match entities.len() {
        n if n > NAMED_MAX => {
            format!("{} ({} to {})", many(n as u64, "entity", "entities"), entities[0], entities[n - 1])
        }
        _ => ids(entities).join(", "),
    };
    let of = |what: &str, entities: &[Entity], components: &[ComponentId]| {
        let list = all(components).join(", ");
        let json = json!({ "op": what, "entities": ids(entities), "components": all(components) });
        (json, format!("{what} {} {list}", some(entities)).trim_end().to_string())
    };
    match change {
        Change::Define(def) => (
            json!({ "op": "define", "component": &*def.name, "type": def.description.to_string() }),
            format!("define {}: {}", def.name, def.description),
        ),
        Change::Spawn { entities, components } => of("spawn", entities, components),
        Change::Despawn { entities } => of("despawn", entities, &[]),
        Change::Put { entities, components } => of("put", entities, components),
        Change::Remove { entities, components } => of("remove", entities, components),
        Change::PutResource(id) => {
            (json!({ "op": "put_resource", "component": name(id) }), format!("put resource {}", name(id)))
        }
        Change::RemoveResource(id) => (
            json!({ "op": "remove_resource", "component": name(id) }),
            format!("remove resource {}", name(id)),
        ),
        Change::Floor(floor) => {
            (json!({ "op": "floor", "generation": floor }), format!("new ids from generation {floor} on"))
        }
    }
}

fn print(transactions: &VecDeque<Shown>, head: bool, out: &mut Output) -> Result<()> {
    if out.is_json() {
        for shown in transactions {
            out.json(&json!({
                "lsn": shown.lsn, "time": times::json(shown.unix_ns), "bytes": shown.bytes, "changes": shown.changes,
            }))?;
        }
        return Ok(());
    }
    let head: &[&str] = if head { &["LSN", "time", "bytes", "changes"] } else { &[] };
    let rows = transactions.iter().map(|shown| {
        let time = times::local(shown.unix_ns);
        vec![shown.lsn.to_string(), time, shown.bytes.to_string(), shown.text.join("\n")]
    });
    out.table(head, rows.collect())
}
