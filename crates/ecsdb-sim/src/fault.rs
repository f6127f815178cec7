//! Faults: which operation fails, how, and how often.

use std::io::{self, ErrorKind};
use std::path::Path;

use ecsdb_io::{FileOp, IoError};

/// How an operation fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Failure {
    /// The device reports an error. Nothing is changed, but a failed sync orphans what it should have synced:
    /// no later sync makes that durable.
    Io,
    /// The disk is full. As [`Failure::Io`] in every other respect.
    NoSpace,
    /// So many bytes of a write are written, then the device reports an error. Other operations fail as with
    /// [`Failure::Io`].
    ShortWrite(usize),
    /// The power is gone before the operation: it is not done, and everything fails from now on.
    PowerOff,
    /// The power is gone right after the operation: it is done, its caller never learns, and everything fails
    /// from now on.
    PowerOffAfter,
}

const POWER_LOST: &str = "the simulated power is off";

impl Failure {
    pub(crate) fn error(self) -> io::Error {
        match self {
            Failure::Io | Failure::ShortWrite(_) => io::Error::other("simulated input/output error"),
            Failure::NoSpace => io::Error::new(ErrorKind::StorageFull, "simulated full disk"),
            Failure::PowerOff | Failure::PowerOffAfter => io::Error::new(ErrorKind::NotConnected, POWER_LOST),
        }
    }
}

/// True when an operation failed only because the simulated power is off. Holds for duplicates of the error too.
pub fn is_power_lost(error: &IoError) -> bool {
    error.cause.kind() == ErrorKind::NotConnected && error.cause.to_string() == POWER_LOST
}

/// A planned fault. A disk may have many; the first that matches an operation decides.
///
/// ```
/// use ecsdb_io::FileOp;
/// use ecsdb_sim::{Failure, Fault, SimDisk};
///
/// let disk = SimDisk::new(1);
/// disk.inject(Fault::on(FileOp::Sync).of_names_ending(".seg").skip(2).failing(Failure::Io));
/// disk.inject(Fault::at(17).failing(Failure::NoSpace));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    when: When,
    ending: String,
    containing: String,
    skip: u64,
    left: u64,
    failure: Failure,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    Index(u64),
    Op(FileOp),
}

impl Fault {
    /// Fails the mutating operation of this index, counted from 0 over the disk's life, with [`Failure::Io`].
    pub fn at(index: u64) -> Self {
        Fault::when(When::Index(index))
    }

    /// Fails the next operation of this kind, reading kinds included, with [`Failure::Io`].
    pub fn on(op: FileOp) -> Self {
        Fault::when(When::Op(op))
    }

    fn when(when: When) -> Self {
        Fault {
            when,
            ending: String::new(),
            containing: String::new(),
            skip: 0,
            left: 1,
            failure: Failure::Io,
        }
    }

    /// Only on paths ending so. The path of an open file is the one it was opened under.
    #[must_use]
    pub fn of_names_ending(mut self, ending: &str) -> Self {
        self.ending = ending.to_string();
        self
    }

    /// Only on paths containing this.
    #[must_use]
    pub fn of_names_containing(mut self, part: &str) -> Self {
        self.containing = part.to_string();
        self
    }

    /// Lets the first `count` matching operations pass.
    #[must_use]
    pub fn skip(mut self, count: u64) -> Self {
        self.skip = count;
        self
    }

    /// Fails so many matching operations rather than one.
    #[must_use]
    pub fn times(mut self, count: u64) -> Self {
        self.left = count;
        self
    }

    /// Fails in this way.
    #[must_use]
    pub fn failing(mut self, failure: Failure) -> Self {
        self.failure = failure;
        self
    }

    /// Whether it strikes this operation; counts it.
    pub(crate) fn strikes(&mut self, op: FileOp, path: &Path, index: Option<u64>) -> Option<Failure> {
        let path = path.to_string_lossy();
        let here = match self.when {
            When::Index(wanted) => index == Some(wanted),
            When::Op(wanted) => op == wanted,
        };
        if self.left == 0 || !here || !path.ends_with(&self.ending) || !path.contains(&self.containing) {
            return None;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return None;
        }
        self.left -= 1;
        Some(self.failure)
    }
}
