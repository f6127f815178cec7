//! The machine under a simulated disk: it counts, records and traces every operation, and lets it pass or fail.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Display;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ecsdb_io::{FileOp, IoError, LockKind, Result};

use crate::crash::Moment;
use crate::fault::{Failure, Fault};
use crate::names::Ino;
use crate::state::State;

/// Lines of trace that are kept.
const TRACE_MAX: usize = 1 << 16;

/// Everything behind the lock of a `SimDisk`.
pub(crate) struct Inner {
    pub(crate) state: State,
    pub(crate) clock_ns: u64,
    pub(crate) rng: fastrand::Rng,
    pub(crate) operations: u64,
    pub(crate) trace: VecDeque<String>,
    pub(crate) faults: Vec<Fault>,
    pub(crate) faults_fired: u64,
    pub(crate) power_off: bool,
    pub(crate) quota: Option<u64>,
    pub(crate) open: BTreeMap<Ino, u32>,
    /// With who has them. What a crash does to a note that nobody relies on is not worth its variants: there is none on the disk.
    pub(crate) locked: Vec<(Ino, LockKind, String)>,
    pub(crate) recorder: Option<Recorder>,
}

/// Keeps the moment before each operation.
pub(crate) struct Recorder {
    pub(crate) moments: Vec<Moment>,
    /// How many events the workload has noted.
    pub(crate) events: Arc<AtomicUsize>,
}

impl Inner {
    pub(crate) fn new(state: State, clock_ns: u64, rng: fastrand::Rng) -> Self {
        Inner {
            state,
            clock_ns,
            rng,
            operations: 0,
            trace: VecDeque::new(),
            faults: Vec::new(),
            faults_fired: 0,
            power_off: false,
            quota: None,
            open: BTreeMap::new(),
            locked: Vec::new(),
            recorder: None,
        }
    }

    pub(crate) fn moment(&self, events: usize) -> Moment {
        Moment {
            state: self.state.clone(),
            clock_ns: self.clock_ns,
            rng: self.rng.clone(),
            operation: self.operations,
            events,
        }
    }

    /// Lets a reading operation pass, or not.
    pub(crate) fn pass_reading(&mut self, op: FileOp, path: &Path) -> Result<()> {
        self.check_power(op, path)?;
        match self.strike(op, path, None) {
            None => Ok(()),
            Some(failure) => {
                self.trace("     ", op, path, &"", Some(failure));
                Err(IoError::new(op, path, failure.error()))
            }
        }
    }

    pub(crate) fn check_power(&self, op: FileOp, path: &Path) -> Result<()> {
        if self.power_off { Err(IoError::new(op, path, Failure::PowerOff.error())) } else { Ok(()) }
    }

    /// Counts, records and traces a mutating operation that is about to be done, and says whether it shall fail.
    pub(crate) fn gate(&mut self, op: FileOp, path: &Path, detail: &dyn Display) -> Option<Failure> {
        if let Some(mut recorder) = self.recorder.take() {
            recorder.moments.push(self.moment(recorder.events.load(Ordering::Acquire)));
            self.recorder = Some(recorder);
        }
        let index = self.operations;
        self.operations += 1;
        let failure = self.strike(op, path, Some(index));
        self.trace(&format!("{index:>5}"), op, path, detail, failure);
        failure
    }

    /// Passes the gate with an operation that is done as a whole or not at all.
    pub(crate) fn perform<R>(
        &mut self,
        op: FileOp,
        path: &Path,
        detail: &dyn Display,
        apply: impl FnOnce(&mut State) -> R,
    ) -> Result<R> {
        match self.gate(op, path, detail) {
            None => Ok(apply(&mut self.state)),
            Some(failure) => {
                if failure == Failure::PowerOffAfter {
                    apply(&mut self.state);
                }
                Err(IoError::new(op, path, failure.error()))
            }
        }
    }

    fn strike(&mut self, op: FileOp, path: &Path, index: Option<u64>) -> Option<Failure> {
        let failure = self.faults.iter_mut().find_map(|fault| fault.strikes(op, path, index))?;
        self.faults_fired += 1;
        self.power_off |= matches!(failure, Failure::PowerOff | Failure::PowerOffAfter);
        Some(failure)
    }

    fn trace(
        &mut self,
        index: &str,
        op: FileOp,
        path: &Path,
        detail: &dyn Display,
        failure: Option<Failure>,
    ) {
        if self.trace.len() == TRACE_MAX {
            self.trace.pop_front();
        }
        let path = path.display();
        self.trace.push_back(match failure {
            None => format!("{index} {op} {path}{detail}"),
            Some(failure) => format!("{index} {op} {path}{detail}: fails with {failure:?}"),
        });
    }

    /// Bytes that may still be added.
    pub(crate) fn room(&self) -> u64 {
        match self.quota {
            None => u64::MAX,
            Some(quota) => quota.saturating_sub(self.state.bytes_used(&self.open)),
        }
    }
}
