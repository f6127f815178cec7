//! What an exploration found.

use std::fmt;

use crate::fault::Failure;
use crate::variant::CrashVariant;

/// An exploration in which every check passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Explored {
    /// Crash points, or faults, that were tried.
    pub points: u64,
    /// Different crashed disks that were checked.
    pub crashes: u64,
}

/// A crash after which something did not hold.
///
/// `Debug` shows the same text as `Display`, so that `unwrap` in a test shows it readably.
#[derive(Clone)]
pub struct Counterexample {
    /// What the check or the workload said.
    pub reason: String,
    /// Operations done before the crash.
    pub point: u64,
    /// The fault that was injected before, with the operation it struck.
    pub fault: Option<(u64, Failure)>,
    /// What the crash kept; `None` when it was the workload that failed.
    pub variant: Option<CrashVariant>,
    /// The exploration's seed.
    pub seed: u64,
    /// The last operations before the crash.
    pub trace: Vec<String>,
}

impl fmt::Display for Counterexample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.reason)?;
        write!(f, "  after {} operations", self.point)?;
        if let Some((index, failure)) = self.fault {
            write!(f, ", operation {index} failing with {failure:?}")?;
        }
        writeln!(f, ", seed {}", self.seed)?;
        if let Some(variant) = self.variant {
            writeln!(f, "  run it alone with: only: Some(({}, {variant:?}))", self.point)?;
        }
        writeln!(f, "  the last operations:")?;
        self.trace.iter().try_for_each(|line| writeln!(f, "  {line}"))
    }
}

impl fmt::Debug for Counterexample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Counterexample {}
