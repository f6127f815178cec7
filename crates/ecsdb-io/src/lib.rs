//! The ground floor of ecsdb: everything that touches the operating system, and the few byte-level
//! mechanisms which the log, the snapshot and the manifest share.
//!
//! - [`Vfs`] and [`VfsFile`]: files, directories, time and randomness behind one trait. [`Disk`] is the real
//!   one; the simulated disk of `ecsdb-sim` is the other.
//! - [`AsyncFile`]: a file for asynchronous code, over `tokio::fs` or over any [`VfsFile`].
//! - [`Scheduler`]: background tasks that execute queued disk operations by [`Priority`], with rate limits, behind a
//!   [`Vfs`] like any other.
//! - [`frame`]: the one frame codec, with a header checksum that is verified before any length is believed.
//! - [`compress`]: block compression that never allocates from an unchecked length.
//! - [`seekable`]: whole files compressed so that they can be read from the middle.
//! - [`PageWriter`]: files written in order, past the system's cache where the platform can.
//! - [`publish`]: the one atomic publish (temporary file, sync, rename, sync of the directory), under a name that nothing has; [`replace`]: in the
//!   place of what this database has made.
//! - [`sync`]: locks, threads and the clock, which a simulation schedules.
//! - [`Urgency`]: the priority of work in the background, by whether somebody waits for it.
//! - [`Process`]: who may use what was opened.
//! - [`Layout`]: which file lies where in a database directory; [`Owner`]: whose a directory is.
//!
//! This crate knows nothing of entities, transactions or log sequence numbers.

#![forbid(unsafe_code)]

mod around;
mod asynchronous;
mod blank;
mod checksum;
pub mod compress;
mod direct;
mod disk;
mod error;
pub mod frame;
mod layout;
mod listing;
mod lock;
mod owner;
mod page_writer;
mod patience;
mod platform;
mod process;
mod publish;
mod scheduler;
pub mod seekable;
pub mod sync;
mod urgency;
mod vfs;

pub use around::{Around, Hooks};
pub use asynchronous::AsyncFile;
pub use blank::first_nonzero;
pub use checksum::{checksum, checksum_append};
pub use direct::{LARGE_BYTES, PAGE_BYTES, PageVec};
pub use disk::Disk;
pub use error::{FileOp, IoError, Result};
pub use layout::{FileKind, Layout};
pub use listing::{NumberedFile, next_free_number, numbered_files};
pub use lock::lock_there;
pub use owner::Owner;
pub use page_writer::PageWriter;
pub use patience::patiently;
pub use platform::{is_dir, is_low_thread, lower_thread_priority};
pub use process::{Forked, Process};
pub use publish::{create_dir_durably, may_be_left_over, publish, read_file, remove_temporaries, replace};
pub use scheduler::{Priority, PriorityStats, Scheduler, SchedulerOptions, SchedulerStats};
pub use urgency::{GivenUp, Urgency, Waiting};
pub use vfs::{DirEntry, DirLock, EntryKind, LockError, LockKind, Make, OpenMode, Vfs, VfsFile};
