//! The commands, one a file.

pub(crate) mod backup;
pub(crate) mod bench;
pub(crate) mod compact;
pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod copy;
pub(crate) mod diff;
pub(crate) mod dump;
mod dumped;
pub(crate) mod export;
pub(crate) mod hash;
pub(crate) mod history;
pub(crate) mod info;
pub(crate) mod init;
pub(crate) mod inspect;
pub(crate) mod load;
pub(crate) mod man;
mod past;
pub(crate) mod query;
pub(crate) mod repair;
pub(crate) mod restore;
pub(crate) mod snapshot;
pub(crate) mod stored;
mod unique;
pub(crate) mod verify;
pub(crate) mod wal;
pub(crate) mod watch;
