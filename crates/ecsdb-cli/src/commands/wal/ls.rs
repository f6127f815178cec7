//! `ecsdb wal ls`: the segments there are, and those that are missing.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use anyhow::Result;
use ecsdb::Lsn;
use ecsdb_io::NumberedFile;
use ecsdb_recovery::{LostBefore, listable_dirs, lost_before, scan_log};
use ecsdb_snapshot::Manifest;
use ecsdb_wal::{LogScan, Tail, segment_files};
use indicatif::HumanBytes;
use serde_json::{Value as Json, json};

use super::before_text;
use crate::failure::Failure;
use crate::output::{self, Output, many};
use crate::place::{Look, Settled};
use crate::times;

pub(super) fn ls(settled: &Settled, out: &mut Output) -> Result<()> {
    let look = |look: &Look<'_>| {
        let scan = scan_log(look.vfs(), look.layout, look.manifest)?;
        let before = lost_before(look.vfs(), look.layout, look.manifest)?;
        let files = segment_files(look.vfs(), &listable_dirs(look.vfs(), look.layout, look.manifest))?;
        let holes = holes(&scan, before.as_ref(), look.manifest, &files);
        Ok((scan, before, holes, look.layout.archive_dir().to_path_buf()))
    };
    let doubts = |(scan, before, ..): &(LogScan, Option<LostBefore>, _, _)| match &scan.tail {
        Tail::Corrupt { damage, .. } => (Some(damage.clone()), before.clone()),
        _ => (None, before.clone()),
    };
    let (scan, before, holes, archive) = settled.look_closely(look, doubts)?;
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
                    "number": hole.number, "last_number": hole.last_number, "first_lsn": hole.first.0,
                    "last_lsn": hole.last.map(|last| last.0), "file": hole.file.as_deref().map(output::path),
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
        let name = match name {
            Some(name) => name.to_string_lossy().into(),
            None if hole.last_number > hole.number => format!("{} to {}", hole.number, hole.last_number),
            None => hole.number.to_string(),
        };
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

/// A segment that another one, or the manifest, says to have been there, or several side by side of which there is no file: how many there were, a
/// header says that anybody may have written.
struct Hole {
    number: u64,
    last_number: u64,
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
    let hole = |number, first, last| Hole { number, last_number: number, file: None, first, last };
    let pairs = scan.segments.iter().zip(scan.segments.iter().skip(1));
    let between = pairs.flat_map(|(before, after)| {
        let (first, last) = (before.end.last_lsn.next(), after.header.previous.last_lsn);
        // A segment follows the one that it names, and not always the number before its own.
        let missing = before.header.sequence + 1..=after.header.previous.segment;
        split(missing, files)
            .map(move |(number, last_number)| Hole { last_number, ..hole(number, first, Some(last)) })
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
    let mut holes: Vec<Hole> = holes.map(|hole| Hole { file: file(hole.number), ..hole }).collect();
    // What else is damaged so that nothing says what was in it: as much as in those that are missing beside it.
    let is_known = |path: &Path| scan.segments.iter().any(|segment| segment.path == path);
    for damaged in scan.losses.iter().map(|loss| &*loss.damage.path).filter(|path| !is_known(path)) {
        let number = files.iter().find(|file| file.path == damaged).map(|file| file.number);
        let Some(number) = number.filter(|number| holes.iter().all(|hole| hole.number != *number)) else {
            continue;
        };
        let beside = holes.iter().filter(|hole| hole.number > number).min_by_key(|hole| hole.number);
        let (first, last) = beside.map_or((end.next(), None), |hole| (hole.first, hole.last));
        holes.push(Hole { file: Some(damaged.into()), ..hole(number, first, last) });
    }
    holes
}

/// The numbers of a range: those of which there is a file one by one, and those between them from where to where.
fn split(range: RangeInclusive<u64>, files: &[NumberedFile]) -> impl Iterator<Item = (u64, u64)> {
    let mut there = files.iter().map(|file| file.number).filter(|number| range.contains(number));
    let (mut next, end) = (*range.start(), *range.end());
    let mut parts = Vec::new();
    while next <= end {
        let number = there.next().unwrap_or(end + 1);
        if next < number {
            parts.push((next, number - 1));
        }
        if number <= end {
            parts.push((number, number));
        }
        next = number + 1;
    }
    parts.into_iter()
}
