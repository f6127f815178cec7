//! What pages are told, as JSON. A whole number that JavaScript would round is text.

use std::time::Duration;

use ecsdb::{CompactionInfo, Event, Progress, SnapshotEntry, SnapshotInfo, Stats, Task, Verified};
use serde_json::{Value as Json, json};

/// What a number in JavaScript keeps.
const EXACT_MAX: u64 = (1 << 53) - 1;

/// The value, with numbers as text where they would not come through.
pub(crate) fn exact(json: Json) -> Json {
    match json {
        Json::Number(n) => {
            let whole = n.as_u64().or(n.as_i64().map(i64::unsigned_abs));
            if whole.is_some_and(|whole| whole > EXACT_MAX) { n.to_string().into() } else { Json::Number(n) }
        }
        Json::Array(list) => list.into_iter().map(exact).collect(),
        Json::Object(fields) => fields.into_iter().map(|(key, value)| (key, exact(value))).collect(),
        other => other,
    }
}

fn seconds(time: Duration) -> f64 {
    time.as_secs_f64()
}

fn task(task: Task) -> Json {
    task.to_string().into()
}

pub(crate) fn progress(progress: &Progress) -> Json {
    json!({
        "done": progress.done, "total": progress.total, "bytes": progress.bytes,
        "secondsLeft": progress.remaining.map(seconds),
    })
}

pub(crate) fn snapshot(info: &SnapshotInfo) -> Json {
    json!({ "number": info.sequence, "lsn": info.lsn.0, "bytes": info.bytes, "seconds": seconds(info.duration) })
}

pub(crate) fn entry(entry: &SnapshotEntry) -> Json {
    json!({
        "number": entry.sequence, "lsn": entry.lsn, "bytes": entry.bytes,
        "time": entry.created_unix_ns / 1_000_000,
        "incrementOf": (entry.parent > 0).then_some(entry.parent),
    })
}

pub(crate) fn compaction(info: &CompactionInfo) -> Json {
    json!({
        "number": info.sequence, "lsn": info.lsn.0, "bytesBefore": info.bytes_before, "bytesAfter": info.bytes_after,
        "seconds": seconds(info.duration),
    })
}

/// What the command line says, too, with names as JavaScript has them.
pub(crate) fn verified(verified: &Verified) -> Json {
    exact(camel(json!(verified)))
}

/// `last_lsn` becomes `lastLsn`.
fn camel(json: Json) -> Json {
    let name = |key: String| {
        let mut words = key.split('_');
        let mut name = words.next().unwrap_or_default().to_string();
        for word in words {
            let (first, rest) = word.split_at(word.chars().next().map_or(0, char::len_utf8));
            name += &(first.to_uppercase() + rest);
        }
        name
    };
    match json {
        Json::Array(list) => list.into_iter().map(camel).collect(),
        Json::Object(fields) => fields.into_iter().map(|(key, value)| (name(key), camel(value))).collect(),
        other => other,
    }
}

pub(crate) fn stats(stats: &Stats) -> Json {
    let log = stats.log.as_ref().map(|log| {
        json!({ "transactions": log.transactions, "bytes": log.bytes_written, "syncs": log.syncs, "queuedBytes": log.queued_bytes })
    });
    let store = stats.store.as_ref().map(|store| {
        let failures = store.failures.iter().map(
            |failure| json!({ "task": task(failure.task), "error": failure.error, "times": failure.times }),
        );
        json!({
            "snapshots": store.snapshots, "snapshotLsn": store.snapshot_lsn.0, "snapshotBytes": store.snapshot_bytes,
            "segments": store.segments, "logBytes": store.log_bytes, "archiveBytes": store.archive_bytes,
            "totalBytes": store.total_bytes(), "failures": failures.collect::<Vec<_>>(),
        })
    });
    json!({
        "entities": stats.entities, "liveBytes": stats.live_bytes, "memoryBytes": stats.memory_bytes,
        "lsn": stats.lsn.0, "durableLsn": stats.durable_lsn.0, "log": log, "files": store,
    })
}

pub(crate) fn event(event: &Event) -> Json {
    match event {
        Event::Missed(count) => json!({ "type": "missed", "count": count }),
        Event::Started(it) => json!({ "type": "started", "task": task(*it) }),
        Event::Ended(it) => json!({ "type": "ended", "task": task(*it) }),
        Event::Progress(it, how) => {
            json!({ "type": "progress", "task": task(*it), "progress": progress(how) })
        }
        Event::SnapshotTaken(info) => json!({ "type": "snapshot-taken", "snapshot": snapshot(info) }),
        Event::Compacted(info) => json!({ "type": "compacted", "compaction": compaction(info) }),
        Event::Copied(info) => json!({ "type": "copied", "snapshot": snapshot(info) }),
        Event::Archived { segment, last_lsn, bytes } => {
            json!({ "type": "archived", "segment": segment, "lsn": last_lsn.0, "bytes": bytes })
        }
        Event::Removed { files, bytes } => json!({ "type": "removed", "files": files, "bytes": bytes }),
        Event::Restored { lsn } => json!({ "type": "restored", "lsn": lsn.0 }),
        Event::Reconfigured { live, at_next_opening } => {
            json!({ "type": "reconfigured", "live": live, "atNextOpening": at_next_opening })
        }
        Event::Failed { task: it, error, retry_in } => {
            json!({ "type": "failed", "task": task(*it), "error": error, "retryInSeconds": retry_in.map(seconds) })
        }
        // Of a later version.
        other => json!({ "type": "other", "text": format!("{other:?}") }),
    }
}
