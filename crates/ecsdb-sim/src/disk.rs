//! The simulated disk: what a test does with it. Its files are in `vfs` and `handle`, its workings in `machine`.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ecsdb_io::Vfs;
use parking_lot::Mutex;

use crate::crash::{Fates, Moment};
use crate::fault::{Failure, Fault};
use crate::machine::{Inner, Recorder};
use crate::state::State;
use crate::variant::{CrashVariant, NameOrder};

/// The virtual clock's first reading: 2024-01-01 UTC.
const CLOCK_START_NS: u64 = 1_704_067_200_000_000_000;
/// What a machine needs to come back after a crash.
const REBOOT_NS: u64 = 1_000_000_000;

/// A disk in memory that knows what it may lose.
///
/// Clones are handles to the same disk. A crash gives a new, independent disk, and leaves this one as it was.
/// Paths are absolute or start at the root, which alone exists at first.
///
/// Each mutating operation (create, write, set length, sync, sync of a directory, rename, remove, creating one
/// directory, taking the lock) has an index, counted from 0; one that is refused since a file is missing, say, has none.
#[derive(Clone)]
pub struct SimDisk {
    pub(crate) inner: Arc<Mutex<Inner>>,
}

impl SimDisk {
    /// An empty disk. The seed decides its random numbers; the same seed and the same single-threaded workload
    /// give the same trace.
    pub fn new(seed: u64) -> Self {
        SimDisk::of_state(State::new(), CLOCK_START_NS, fastrand::Rng::with_seed(seed))
    }

    fn of_state(state: State, clock_ns: u64, rng: fastrand::Rng) -> Self {
        SimDisk { inner: Arc::new(Mutex::new(Inner::new(state, clock_ns, rng))) }
    }

    /// This disk as the trait object that the crates above take.
    pub fn vfs(&self) -> Arc<dyn Vfs> {
        Arc::new(self.clone())
    }

    // Crashing.

    /// What the machine finds after a crash now: a new disk, with everything on it durable and no lock held.
    /// Faults, quota and power failure do not carry over; operations count from 0 again.
    #[must_use]
    pub fn crash(&self, variant: CrashVariant) -> SimDisk {
        let moment = self.moment();
        SimDisk::after(&moment, &mut moment.fates(variant))
    }

    pub(crate) fn after(moment: &Moment, fates: &mut Fates) -> SimDisk {
        SimDisk::of_state(moment.state_after(fates), moment.clock_ns + REBOOT_NS, moment.rng.clone())
    }

    pub(crate) fn moment(&self) -> Moment {
        self.inner.lock().moment(0)
    }

    /// The variants worth trying now: first the systematic ones, then `random` random ones made from `seed`.
    pub fn crash_variants(&self, random: usize, seed: u64, names: NameOrder) -> Vec<CrashVariant> {
        self.moment().variants(0, random, seed, names)
    }

    /// The power fails before operation `index`: it and everything after it fails. The disk can then be
    /// [crashed](SimDisk::crash).
    pub fn stop_before(&self, index: u64) {
        self.inject(Fault::at(index).failing(Failure::PowerOff));
    }

    /// The power fails right after operation `index`: it is done (a write is un-synced, a sync is a sync), but
    /// its caller sees an error, as everybody does from then on.
    pub fn stop_after(&self, index: u64) {
        self.inject(Fault::at(index).failing(Failure::PowerOffAfter));
    }

    /// The power fails now.
    pub fn power_off(&self) {
        self.inner.lock().power_off = true;
    }

    // Faults.

    /// Plans a fault.
    pub fn inject(&self, fault: Fault) {
        self.inner.lock().faults.push(fault);
    }

    /// Forgets all planned faults.
    pub fn clear_faults(&self) {
        self.inner.lock().faults.clear();
    }

    /// How many operations have failed by a planned fault.
    pub fn faults_fired(&self) -> u64 {
        self.inner.lock().faults_fired
    }

    /// Limits the bytes of all files together, by their lengths. A write that goes beyond is done as far as
    /// there is room, and fails. `None` lifts the limit.
    pub fn set_quota(&self, bytes: Option<u64>) {
        self.inner.lock().quota = bytes;
    }

    // Looking.

    /// How many mutating operations there were: the index of the next one.
    pub fn operations(&self) -> u64 {
        self.inner.lock().operations
    }

    /// The operations so far, one line each (the last 65,536 of them).
    pub fn trace(&self) -> Vec<String> {
        self.inner.lock().trace.iter().cloned().collect()
    }

    /// The last `lines` lines of trace before operation `index`.
    pub(crate) fn trace_before(&self, index: u64, lines: usize) -> Vec<String> {
        let inner = self.inner.lock();
        let end = inner
            .trace
            .iter()
            .position(|line| index_of_line(line) >= Some(index))
            .unwrap_or(inner.trace.len());
        inner.trace.range(end.saturating_sub(lines)..end).cloned().collect()
    }

    // Time.

    /// Moves the virtual clock on.
    pub fn advance(&self, by: Duration) {
        self.inner.lock().clock_ns += by.as_nanos() as u64;
    }

    /// Sets the virtual clock, backwards too.
    pub fn set_clock(&self, unix_ns: u64) {
        self.inner.lock().clock_ns = unix_ns;
    }

    // Recording.

    pub(crate) fn start_recording(&self, events: Arc<AtomicUsize>) {
        self.inner.lock().recorder = Some(Recorder { moments: Vec::new(), events });
    }

    /// The moments before each operation since, and the one now.
    pub(crate) fn stop_recording(&self) -> Vec<Moment> {
        let mut inner = self.inner.lock();
        let Some(mut recorder) = inner.recorder.take() else { return Vec::new() };
        recorder.moments.push(inner.moment(recorder.events.load(Ordering::Acquire)));
        recorder.moments
    }

    pub(crate) fn with_state<R>(&self, with: impl FnOnce(&mut State) -> R) -> R {
        with(&mut self.inner.lock().state)
    }
}

/// The index at the start of a trace line; reading operations have none.
fn index_of_line(line: &str) -> Option<u64> {
    line.trim_start().split(' ').next()?.parse().ok()
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimDisk").finish_non_exhaustive()
    }
}
