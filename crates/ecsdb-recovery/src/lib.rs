//! Opening a database: what is there is found, verified, loaded and replayed; what never was committed is cut;
//! and all of it is reported.
//!
//! [`recover`] is the one way in. Recovery can be killed at any step and started again, any number of times, with the
//! same result (REC-5): it changes nothing before everything was verified, sets bytes aside before it cuts them, and
//! every change it makes would be made again from what is left.
//!
//! [`History`] gives the world as it was at an earlier moment, from the same files, and only reads.

#![forbid(unsafe_code)]

mod archived;
mod aside;
mod batches;
mod claim;
mod error;
mod fallback;
mod find;
mod history;
mod judge;
mod logged;
mod look;
mod moment;
mod path_text;
mod policy;
mod present;
mod rebuild;
mod recover;
mod repair;
mod replay;
mod report;
mod superfluous;
mod taken;
mod verify;

pub use archived::{archive_away, lacks_manifest, missing_files, missing_segments};
pub use aside::move_aside;
pub use claim::{Mark, claim, mark};
pub use error::{Error, Result};
pub use fallback::{check_heads, fallback};
pub use find::{bring_back, listable_dirs, log_dirs, unlisted_archive};
pub use history::{History, Reconstructed, earliest, never_given};
pub use logged::{LostBefore, lost_before, scan_log};
pub use moment::Moment;
pub use path_text::PathText;
pub use policy::{Existence, Options, Policy};
pub use present::{lock_closed, look};
pub use recover::{Recovered, recover};
pub use repair::take_off_the_list;
pub use report::{ClosedComponent, DataLoss, LoadedSnapshot, Lost, RecoveryReport, Rejected, Step};
pub use superfluous::{Garbage, Superfluous, superfluous};
pub use verify::{Verified, verify, verify_files};
