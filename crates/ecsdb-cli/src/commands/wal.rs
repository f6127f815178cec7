//! `ecsdb wal`

use std::collections::{BTreeMap, VecDeque};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use clap::{Args, Subcommand};
use ecsdb::{ComponentId, Entity, Lsn, Moment};
use ecsdb_core::{Change, changes};
use ecsdb_io::NumberedFile;
use ecsdb_query::Components;
use ecsdb_recovery::{History, LostBefore, log_dirs, lost_before, scan_log};
use ecsdb_snapshot::Manifest;
use ecsdb_wal::{LogScan, Tail, Transaction, segment_files};
use indicatif::HumanBytes;
use serde_json::{Value as Json, json};

use crate::failure::Failure;
use crate::output::{self, Output, Rows, many};
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
            let shown = &mut Shown::after(Lsn(from.saturating_sub(1)), true);
            let read = place.look(|look| {
                shown.read(look, Lsn(to), out)?;
                begins(look, Lsn(from), Lsn(to))
            });
            let any = shown.any;
            shown.rest(out)?;
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
            let read = place.look(|look| {
                let (after, end, read) = last(look, *n);
                // What was shown before the files had changed is not shown again, and of what was written since nothing is among the last ones.
                if !shown.any {
                    (shown.last, to) = (after, end);
                }
                shown.read(look, to, out).and(read)
            });
            let any = shown.any;
            shown.rest(out)?;
            if read.is_ok() && !any && *n > 0 && !follow && !out.is_json() {
                return out.line("no transaction is in the log or the archive");
            }
            read?;
            if !follow {
                return Ok(());
            }
            go_on(place, shown, out)
        }
    }
}

/// Shows what comes after what was shown, for ever. Whoever writes the log deletes what a snapshot covers, and waits for nobody who reads it.
fn go_on(place: &Place, shown: &mut Shown, out: &mut Output) -> Result<()> {
    shown.follows = true;
    loop {
        out.flush()?;
        let before = shown.last;
        place.look(|look| match shown.read(look, Lsn::MAX, out) {
            // What comes next was deleted while it was read; what came before it is whole.
            Err(_) if shown.last > before => Ok(()),
            done => done,
        })?;
        shown.rest(out)?;
        if shown.last == before {
            std::thread::sleep(LOOK_EVERY);
        }
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
        let scan = scan_log(look.vfs(), look.layout, look.manifest)?;
        let before = lost_before(look.vfs(), look.layout, look.manifest)?;
        let files = segment_files(look.vfs(), &log_dirs(look.layout, look.manifest))?;
        let holes = holes(&scan, before.as_ref(), look.manifest, &files);
        Ok((scan, before, holes, look.layout.archive_dir().to_path_buf()))
    };
    let doubts = |(scan, before, ..): &(LogScan, Option<LostBefore>, _, _)| match &scan.tail {
        Tail::Corrupt { damage, .. } => (Some(damage.clone()), before.clone()),
        _ => (None, before.clone()),
    };
    let (scan, before, holes, archive) = place.look_closely(look, doubts)?;
    let last = scan.segments.iter().map(|segment| segment.end.last_lsn).max().unwrap_or(scan.last_lsn);
    let tail = match &scan.tail {
        Tail::Clean => "clean".to_string(),
        Tail::Torn { damage, .. } => format!("torn: {damage}"),
        Tail::Corrupt { damage, evidence, .. } => format!("DAMAGED: {damage} ({evidence})"),
    };
    // It was listed what there is; what had been acknowledged and is not has an exit code.
    let end = || match (&scan.tail, &before) {
        (Tail::Corrupt { damage, evidence, first_lost, .. }, _) => {
            let text = format!("transactions are lost from LSN {first_lost} on: {damage} ({evidence})");
            Err(Failure::Damaged(text).into())
        }
        (_, Some(before)) => Err(Failure::Damaged(before_text(before)).into()),
        _ => Ok(()),
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
        let holes: Vec<Json> = holes
            .iter()
            .map(|hole| {
                json!({
                    "number": hole.number, "first_lsn": hole.first.0, "last_lsn": hole.last.map(|last| last.0),
                    "file": hole.file.as_deref().map(output::path),
                })
            })
            .collect();
        out.json(&json!({
            "last_lsn": last.0, "segments": segments, "holes": holes, "unused": unused, "tail": kind,
            "tail_text": tail,
        }))?;
        return end();
    }
    let rows = scan.segments.iter().map(|segment| {
        let name = segment.path.file_name().unwrap_or_default().to_string_lossy();
        let place = if segment.path.starts_with(&archive) { "archive" } else { "log" };
        let (first, last) = (segment.header.first_lsn, segment.end.last_lsn);
        let damaged = segment.damage.as_ref().map_or("", |_| ", then DAMAGED");
        let transactions = if last < first { "none".into() } else { format!("{first} to {last}") };
        let row = vec![
            place.to_string(),
            name.to_string(),
            transactions + damaged,
            HumanBytes(segment.end.offset).to_string(),
            times::local(segment.header.created_unix_ns),
        ];
        (segment.header.sequence, row)
    });
    let mut rows: Vec<(u64, Vec<String>)> = rows.collect();
    rows.extend(holes.iter().map(|hole| {
        let what = if hole.file.is_some() { "DAMAGED" } else { "MISSING" };
        let name = hole.file.as_deref().and_then(Path::file_name);
        let name = name.map_or_else(|| hole.number.to_string(), |name| name.to_string_lossy().into());
        let range = match hole.last {
            Some(last) => format!("{} to {last}", hole.first),
            None => format!("{} on", hole.first),
        };
        (hole.number, vec![what.into(), name, range, String::new(), String::new()])
    }));
    rows.sort_by_key(|(number, _)| *number);
    let rows = rows.into_iter().map(|(_, row)| row);
    out.table(&["in", "segment", "transactions", "used", "begun"], rows.collect())?;
    let unused = scan.unused.len() as u64;
    if unused > 0 {
        out.line(format_args!("{} prepared and not used yet", many(unused, "file is", "files are")))?;
    }
    match &scan.tail {
        Tail::Corrupt { .. } => out.line(format_args!("the last transaction that is there is {last}"))?,
        _ => out.line(format_args!("the last transaction is {last}; the end of the log is {tail}"))?,
    }
    end()
}

/// A segment that another one, or the manifest, says to have been there.
struct Hole {
    number: u64,
    /// The damaged file that is there.
    file: Option<PathBuf>,
    /// What was in it, and in those that are missing beside it. Nothing says what the last one of all ended with.
    first: Lsn,
    last: Option<Lsn>,
}

fn holes(
    scan: &LogScan,
    before: Option<&LostBefore>,
    manifest: &Manifest,
    files: &[NumberedFile],
) -> Vec<Hole> {
    let hole = |number, first, last| Hole { number, file: None, first, last };
    let pairs = scan.segments.iter().zip(scan.segments.iter().skip(1));
    let between = pairs.flat_map(|(before, after)| {
        let (first, last) = (before.end.last_lsn.next(), after.header.previous.last_lsn);
        // A segment follows the one that it names, and not always the number before its own.
        let missing = before.header.sequence + 1..=after.header.previous.segment;
        missing.map(move |number| hole(number, first, Some(last)))
    });
    let before = before.map(|before| hole(before.number, before.first, Some(before.last)));
    // The last one that the manifest knows of was there, whatever was before it. A salvage begins with others.
    let (last, end) =
        scan.segments.last().map_or((0, Lsn::ZERO), |last| (last.header.sequence, last.end.last_lsn));
    let known = manifest.next_segment.saturating_sub(1);
    let durable = Lsn(manifest.durable_lsn.max(manifest.seen_lsn));
    let behind = (manifest.salvage == 0 && known > last)
        .then(|| hole(known, end.next(), (durable > end).then_some(durable)));
    let file = |number| files.iter().find(|file| file.number == number).map(|file| file.path.clone());
    let holes = before.into_iter().chain(between).chain(behind);
    holes.map(|hole| Hole { file: file(hole.number), ..hole }).collect()
}

/// Names of components, by their numbers.
type Names = BTreeMap<ComponentId, String>;

/// Transactions that are shown as they are read, each once, however often the files are looked at.
struct Shown {
    names: Names,
    /// The last one; what is shown comes after it.
    last: Lsn,
    any: bool,
    /// What was deleted before it was read is said.
    follows: bool,
    rows: Rows,
}

const HEAD: [&str; 4] = ["LSN", "time", "bytes", "changes"];

impl Shown {
    fn after(last: Lsn, head: bool) -> Shown {
        let rows = Rows::new(if head { &HEAD } else { &[] });
        Shown { names: Names::new(), last, any: false, follows: false, rows }
    }

    /// Prints what is kept of the table; what comes then has no head.
    fn rest(&mut self, out: &mut Output) -> Result<()> {
        std::mem::replace(&mut self.rows, Rows::new(&[])).finish(out)
    }

    /// Shows the transactions up to `to`, up to where the log has lost something. Names that are not known yet are looked for in the newest snapshot,
    /// and in the log up to there.
    fn read(&mut self, look: &Look<'_>, to: Lsn, out: &mut Output) -> Result<()> {
        let history = look.history()?;
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
            drop(transactions(&history, from, self.last, |_, _, changes| {
                define(&mut self.names, &changes);
                Ok(())
            }));
        }
        transactions(&history, self.last, to, |transaction, bytes, changes| {
            crate::interrupt::check()?;
            define(&mut self.names, &changes);
            if self.follows && transaction.lsn > self.last.next() {
                self.rest(out)?;
                skipped(self.last.0 + 1, transaction.lsn.0 - 1, out)?;
            }
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
        })
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
        let read = history.transactions(after, Lsn::MAX, |transaction, _| {
            lsns.push_back(transaction.lsn);
            if lsns.len() > n {
                lsns.pop_front();
            }
            ControlFlow::Continue(())
        });
        let first = lsns.front().map_or(after, |first| Lsn(first.0 - 1));
        end = if read.is_ok() { lsns.back().copied().unwrap_or(after) } else { Lsn::MAX };
        (first, lsns.len(), read.map_err(anyhow::Error::from))
    };
    let (first, found, read) = from(newest);
    if found >= n || read.is_err() {
        return (first, end, Ok(()));
    }
    let (after, read) = match from(Lsn::ZERO) {
        (first, found, Ok(())) if found < n => (first, begins(look, Lsn::ZERO, Lsn::MAX)),
        (first, _, Ok(())) => (first, Ok(())),
        // It was deleted while it was read: what comes after the snapshot is there.
        (first, _, Err(e)) if !is_loss(&e) => (first, Ok(())),
        // What is above the hole is there all the same.
        (_, _, Err(hole)) => match from(history.logged_from()) {
            (first, found, Ok(())) => (first, if found < n { Err(hole) } else { Ok(()) }),
            (_, _, Err(_)) => (newest, Err(hole)),
        },
    };
    (after, end, read)
}

fn is_loss(e: &anyhow::Error) -> bool {
    use ecsdb_recovery::Error;
    matches!(e.downcast_ref(), Some(Error::Corrupt { .. } | Error::ArchiveLost { .. }))
}

/// Calls back with each transaction above `after` up to `to`: how many bytes it has, and what it changed.
fn transactions(
    history: &History<'_>,
    after: Lsn,
    to: Lsn,
    mut each: impl FnMut(Transaction, usize, Vec<Change>) -> Result<()>,
) -> Result<()> {
    let mut failed = Ok(());
    history.transactions(after, to, |transaction, bytes| {
        failed = changes(bytes)
            .map_err(anyhow::Error::from)
            .and_then(|changes| each(transaction, bytes.len(), changes));
        if failed.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    failed
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
