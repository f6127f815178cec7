//! The write-ahead log: ordered, opaque records, one for each transaction, made durable in groups.
//!
//! - [`Log`] appends: a queue filled in commit order, drained by whoever waits first ([`Log::wait`]) or by a
//!   background thread, with one write and one sync for all that gathered.
//! - [`LogScan`] verifies the segments of a closed (or crashed) log and tells a torn tail from corruption;
//!   [`Replay`] gives back the transactions. Both only read: cutting a torn tail is recovery's business.
//!
//! What the records mean is the caller's affair. `docs/format/log.md` specifies the files byte for byte.

#![forbid(unsafe_code)]

mod background;
mod error;
mod files;
mod format;
mod found;
mod future;
mod life;
mod log;
mod losses;
mod options;
mod packing;
mod prepare;
mod queue;
mod reader;
mod replay;
mod rewrite;
mod scan;
mod stamps;
mod stats;
mod tail;
mod waiters;
mod walk;
mod writer;

pub use ecsdb_id::Lsn;
pub use error::{LogError, Result};
pub use files::{LogDir, SegmentHead, segment_files};
pub use format::SegmentHeader;
pub use future::Durable;
pub use log::Log;
pub use losses::Loss;
pub use options::{Durability, LogOptions, LogStart, Payload, SegmentEnd, Threads};
pub use reader::{Damage, SegmentReader};
pub use replay::{Replay, Transaction};
pub use scan::{Known, LogScan, ScannedSegment};
pub use stats::LogStats;
pub use tail::Tail;
