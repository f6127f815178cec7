//! When and how snapshots and logs are merged, archived and deleted.
//!
//! - [`Store`]: the files of an open database besides the log's hot end. It takes snapshots, archives and drops log segments,
//!   merges chains of increments, and keeps to the [`Retention`]. One change at a time; each leaves a manifest behind that is true.
//! - [`Schedule`]: what is due, by count, bytes, time and waste. It decides and does nothing.
//! - [`copy`]: a world as a database directory of its own: backups and restored moments.
//! - [`Control`] and [`Event`]: background work is paused, cancelled and followed with these.
//!
//! Everything here may be killed at any step: files are published whole, a manifest says what counts, and what it does not name
//! is garbage that the next opening removes (CKP-4, CKP-9).

#![forbid(unsafe_code)]

mod ahead;
mod archive;
mod claim;
mod compact;
mod control;
pub mod copy;
mod error;
mod event;
mod held;
mod info;
mod retention;
mod schedule;
mod settings;
mod snapshot;
mod stats;
mod store;
mod trim;
mod turn;
mod waking;

pub use claim::{Claim, SETTINGS, is_free_elsewhere, is_unfinished};
pub use control::Control;
pub use error::{Error, Result};
pub use event::{Event, EventSender, Events};
pub use held::Held;
pub use info::{CompactionInfo, Failure, Progress, SnapshotInfo, Task};
pub use retention::Retention;
pub use schedule::{Due, Now, Reason, Schedule};
pub use settings::{ARCHIVE_BYTES_DEFAULT, ArchiveSettings, Archiving, StoreSettings};
pub use stats::StoreStats;
pub use store::{Pin, Store, StoreFiles};
