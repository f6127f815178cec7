//! Moments, as they are asked for and told.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ecsdb_wal::Lsn;

/// A moment in the history of a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// The last transaction.
    Latest,
    /// Right after this transaction.
    Lsn(Lsn),
    /// After the last transaction that was written by then, as the clock of the machine went. A time to come is the same as the
    /// last transaction.
    Time(SystemTime),
    /// That of the snapshot with this number.
    Snapshot(u64),
}

impl std::fmt::Display for Moment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Moment::Latest => f.write_str("the last transaction"),
            Moment::Lsn(lsn) => write!(f, "LSN {lsn}"),
            Moment::Time(time) => f.write_str(&time_text(unix_ns(*time))),
            Moment::Snapshot(number) => write!(f, "snapshot {number}"),
        }
    }
}

pub(crate) fn range_text(first: (Lsn, u64), last: (Lsn, u64)) -> String {
    format!("{} to {}", moment_text(first), moment_text(last))
}

fn moment_text((lsn, unix_ns): (Lsn, u64)) -> String {
    // Of the empty world no time is known.
    match unix_ns {
        0 => format!("LSN {lsn}"),
        _ => format!("LSN {lsn} ({})", time_text(unix_ns)),
    }
}

pub(crate) fn unix_ns(time: SystemTime) -> u64 {
    // Later than can be said is a time to come like any other.
    u64::try_from(time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_nanos()).unwrap_or(u64::MAX)
}

pub(crate) fn time_text(unix_ns: u64) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(unix_ns))
        .map_or_else(|_| unix_ns.to_string(), |t| t.to_string())
}
