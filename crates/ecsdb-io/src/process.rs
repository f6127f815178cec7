//! Which process opened something: a fork of it has the handles, and neither the threads nor the lock.

/// The process that opened something, which is usable there alone (REC-12).
///
/// Asking the system for the number of this process takes about as long as a small transaction. So whoever is in a hurry asks only before
/// it waits: for a disk, for a thread, or for a lock that somebody holds who may not be here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process(u32);

/// A handle was used in a process that was forked from the one that opened it. Nothing was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the database was opened by process {opener}, and this is process {this}, which was forked from it and has neither its threads nor its \
     lock: nothing is written from here. Use it there, let the child run a program (exec), or fork before the database is opened"
)]
pub struct Forked {
    /// The number of the process that opened it.
    pub opener: u32,
    /// The number of this one.
    pub this: u32,
}

impl Process {
    /// This one.
    pub fn current() -> Process {
        Process(std::process::id())
    }

    /// True in this process, false in one that was forked from it.
    pub fn is_current(self) -> bool {
        self == Process::current()
    }

    /// Refuses to go on in a process that was forked from this one.
    ///
    /// # Errors
    /// [`Forked`], there.
    pub fn check(self) -> Result<(), Forked> {
        let this = Process::current();
        if this == self { Ok(()) } else { Err(Forked { opener: self.0, this: this.0 }) }
    }
}
