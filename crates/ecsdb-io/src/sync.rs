//! Locks, threads and the monotonic clock, as all crates of the engine take them.
//!
//! Normally these are `parking_lot`'s and `std`'s, by re-export. Under `--cfg ecsdb_simulated`, which `cargo xtask simulate` and
//! `cargo xtask shuttle` set and nobody else, they are `shuttle`'s: every use of them is then a point at which another thread may go
//! on, a seeded scheduler chooses which, and time passes only when somebody waits for it. What is not taken from here (`Arc`, counters
//! that only statistics read) is not scheduled, and must not be held or waited for while something that is taken from here is used.

#[cfg(not(ecsdb_simulated))]
mod real {
    pub use parking_lot::{Condvar, Mutex, MutexGuard};
    pub use pollster::block_on;
    pub use std::sync::{atomic, mpsc};
    pub use std::time::Instant;
    pub use std::{thread, thread_local};
}
#[cfg(not(ecsdb_simulated))]
pub use real::*;

#[cfg(ecsdb_simulated)]
mod simulated;
#[cfg(ecsdb_simulated)]
pub use simulated::*;

/// Starts a thread that helps with some work, and says whether the system gave one: whoever asks does the work all the same.
#[cfg(not(ecsdb_simulated))]
pub fn help<'scope>(scope: &'scope thread::Scope<'scope, '_>, work: impl FnOnce() + Send + 'scope) -> bool {
    thread::Builder::new().spawn_scoped(scope, work).is_ok()
}

/// As without a simulation, where there is always a thread.
#[cfg(ecsdb_simulated)]
pub fn help<'scope>(scope: &'scope thread::Scope<'scope, '_>, work: impl FnOnce() + Send + 'scope) -> bool {
    scope.spawn(work);
    true
}

/// True under a scheduler that decides which thread goes on: threads of other libraries, such as a Tokio runtime's, have no place then.
pub const IS_SIMULATED: bool = cfg!(ecsdb_simulated);
