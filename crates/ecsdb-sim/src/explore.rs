//! Schedules: every crash of a workload, and every fault in it, each followed by a check.

use std::collections::HashSet;
use std::fmt::Display;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::crash::Moment;
use crate::disk::SimDisk;
use crate::fault::{Failure, Fault};
use crate::journal::Journal;
use crate::report::{Counterexample, Explored};
use crate::variant::{CrashVariant, NameOrder};

/// How far to explore.
#[derive(Debug, Clone)]
pub struct Exploration {
    /// Decides the disk's random numbers, the random variants and which points are taken.
    pub seed: u64,
    /// Where the sectors and names that are un-synced at a crash point are at most so many (up to 20, say), every subset of them is
    /// kept; else where the changes are, every subset of those. Every write is torn after each of its sectors then. 0 for a few of each.
    pub exhaustive_max: usize,
    /// Random variants per crash point, after the systematic ones.
    pub random_variants: usize,
    /// Only the crash points from the first number on, each so many after the one before: a share, so that several explorations
    /// together take all of them.
    pub share: (usize, usize),
    /// At most so many crash points of these, spread over the workload; the last is always among them.
    pub points_max: usize,
    /// How far names may be reordered.
    pub names: NameOrder,
    /// Threads that crash and check.
    pub threads: usize,
    /// Only this crash: the point and the variant that a [`Counterexample`] named.
    pub only: Option<(u64, CrashVariant)>,
}

impl Default for Exploration {
    fn default() -> Self {
        Exploration {
            seed: 1,
            exhaustive_max: 0,
            random_variants: 16,
            share: (0, 1),
            points_max: usize::MAX,
            names: NameOrder::Any,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            only: None,
        }
    }
}

impl Exploration {
    /// A small exploration for the inside of another one's check: a crash of the recovery from `case`. It takes
    /// `points_max` points and `random_variants` random variants, differently at each `case`.
    #[must_use]
    pub fn within<T>(&self, case: &CrashCase<'_, T>, points_max: usize, random_variants: usize) -> Self {
        Exploration {
            seed: case.seed,
            exhaustive_max: 0,
            share: (0, 1),
            points_max,
            random_variants,
            threads: 1,
            only: None,
            ..self.clone()
        }
    }
}

/// The crash that a check looks at.
#[derive(Debug, Clone)]
pub struct CrashCase<'a, T> {
    /// Operations done before the crash.
    pub point: u64,
    /// The last of them, as the trace has it: kind, path and range.
    pub operation: &'a str,
    /// The fault that was injected before, with the operation it struck ([`explore_faults`] only).
    pub fault: Option<(u64, Failure)>,
    /// What the crash kept.
    pub variant: CrashVariant,
    /// What the workload had noted by then.
    pub events: &'a [T],
    /// A number of this case's own.
    pub seed: u64,
}

/// Runs the workload once on an empty disk and crashes it before each of its operations and after the last, in
/// every variant, and lets `check` look at each disk that comes out.
///
/// Crashes that leave equal disks at one point are checked once. A panic in the workload or the check counts as
/// its error. Since the workload runs but once, it may use threads; what it does may then differ from run to run,
/// and a counterexample need not show again.
///
/// ```
/// use ecsdb_io::{IoError, Vfs, publish};
/// use ecsdb_sim::{Exploration, explore};
/// use std::path::Path;
///
/// let explored = explore::<u64, IoError>(
///     &Exploration::default(),
///     |disk, journal| {
///         publish::<_, IoError>(disk, Path::new("/f"), |file| file.write_at(b"whole", 0))?;
///         journal.note(1);
///         Ok(())
///     },
///     |crashed, case| {
///         let acknowledged = !case.events.is_empty();
///         match crashed.read("/f") {
///             Ok(bytes) => assert_eq!(bytes, b"whole"),
///             Err(e) => assert!(e.is_not_found() && !acknowledged),
///         }
///         Ok(())
///     },
/// )
/// .unwrap();
/// assert!(explored.crashes > 10);
/// ```
///
/// # Errors
/// The earliest crash whose check failed.
pub fn explore<T, E>(
    exploration: &Exploration,
    workload: impl FnOnce(&SimDisk, &Journal<T>) -> Result<(), E>,
    check: impl Fn(&SimDisk, &CrashCase<'_, T>) -> Result<(), E> + Sync,
) -> Result<Explored, Counterexample>
where
    T: Sync,
    E: Display,
{
    explore_from(&SimDisk::new(exploration.seed), exploration, workload, check)
}

/// As [`explore`], on a disk with something on it: a prepared one, or one that crashed already. Called within
/// the check of another exploration, with the recovery as its workload, it crashes the recovery too.
///
/// # Errors
/// The earliest crash whose check failed.
pub fn explore_from<T, E>(
    disk: &SimDisk,
    exploration: &Exploration,
    workload: impl FnOnce(&SimDisk, &Journal<T>) -> Result<(), E>,
    check: impl Fn(&SimDisk, &CrashCase<'_, T>) -> Result<(), E> + Sync,
) -> Result<Explored, Counterexample>
where
    T: Sync,
    E: Display,
{
    let journal = Journal::new();
    disk.start_recording(journal.count());
    let outcome = attempt(|| workload(disk, &journal));
    let moments = disk.stop_recording();
    let events = journal.take();
    let counterexample = |reason: String, point: u64, fault, variant| Counterexample {
        reason,
        point,
        fault,
        variant,
        seed: exploration.seed,
        trace: disk.trace_before(point, TRACE_LINES),
    };
    if let Err(reason) = outcome {
        let reason = format!("the workload failed, and nothing was crashed: {reason}");
        return Err(counterexample(reason, disk.operations(), None, None));
    }
    let points = sample(moments.len(), exploration);
    let next = AtomicUsize::new(0);
    let crashes = AtomicU64::new(0);
    let first_failure = Mutex::new(None::<(usize, CrashVariant, String)>);
    let work = || {
        while let Some(&point) = points.get(next.fetch_add(1, Ordering::Relaxed)) {
            if first_failure.lock().as_ref().is_some_and(|(at, ..)| *at < point) {
                return;
            }
            let moment = &moments[point];
            let before = disk.trace_before(moment.operation, 1).pop().unwrap_or_default();
            let at = At { operation: &before, fault: None };
            let events = &events[..moment.events.min(events.len())];
            let checked = crash_at(moment, exploration, at, events, &check);
            crashes.fetch_add(checked.crashes, Ordering::Relaxed);
            if let Some((variant, reason)) = checked.failure {
                let mut first = first_failure.lock();
                if first.as_ref().is_none_or(|(at, ..)| point < *at) {
                    *first = Some((point, variant, reason));
                }
            }
        }
    };
    if exploration.threads <= 1 {
        work();
    } else {
        std::thread::scope(|scope| (0..exploration.threads).for_each(|_| drop(scope.spawn(work))));
    }
    match first_failure.into_inner() {
        Some((point, variant, reason)) => {
            Err(counterexample(reason, moments[point].operation, None, Some(variant)))
        }
        None => Ok(Explored { points: points.len() as u64, crashes: crashes.into_inner() }),
    }
}

/// Runs the workload once for each of its operations and each of `failures`, with that operation failing so,
/// then crashes the disk in every variant and lets `check` look.
///
/// The workload must live with the fault: its error is expected, a panic is not. First it is run without any fault, and
/// must succeed. [`Failure::PowerOff`] and [`Failure::PowerOffAfter`] show how it unwinds.
///
/// # Errors
/// The first crash whose check failed, or the first fault at which the workload panicked.
pub fn explore_faults<T, E>(
    exploration: &Exploration,
    failures: &[Failure],
    workload: impl Fn(&SimDisk, &Journal<T>) -> Result<(), E>,
    check: impl Fn(&SimDisk, &CrashCase<'_, T>) -> Result<(), E> + Sync,
) -> Result<Explored, Counterexample>
where
    E: Display,
{
    let mut explored = Explored::default();
    let mut run = |fault: Option<(u64, Failure)>| -> Result<u64, Counterexample> {
        let disk = SimDisk::new(exploration.seed);
        if let Some((index, failure)) = fault {
            disk.inject(Fault::at(index).failing(failure));
        }
        let counterexample = |reason: String, variant| Counterexample {
            reason,
            point: disk.operations(),
            fault,
            variant,
            seed: exploration.seed,
            trace: disk.trace_before(u64::MAX, TRACE_LINES),
        };
        let journal = Journal::new();
        match catch_unwind(AssertUnwindSafe(|| workload(&disk, &journal))) {
            Ok(Err(e)) if fault.is_none() => {
                return Err(counterexample(format!("the workload fails without a fault: {e}"), None));
            }
            Ok(_) => {}
            Err(panic) => {
                return Err(counterexample(format!("the workload panicked: {}", text_of(&*panic)), None));
            }
        }
        let events = journal.take();
        let before = disk.trace_before(u64::MAX, 1).pop().unwrap_or_default();
        let at = At { operation: &before, fault };
        let checked = crash_at(&disk.moment(), exploration, at, &events, &check);
        explored.points += 1;
        explored.crashes += checked.crashes;
        match checked.failure {
            Some((variant, reason)) => Err(counterexample(reason, Some(variant))),
            None => Ok(disk.operations()),
        }
    };
    let operations = run(None)?;
    for index in sample(operations as usize, exploration) {
        for failure in failures {
            run(Some((index as u64, *failure)))?;
        }
    }
    Ok(explored)
}

/// Lines of trace in a counterexample.
const TRACE_LINES: usize = 40;

struct Checked {
    crashes: u64,
    failure: Option<(CrashVariant, String)>,
}

/// What came before a crash.
#[derive(Clone, Copy)]
struct At<'a> {
    operation: &'a str,
    fault: Option<(u64, Failure)>,
}

/// Crashes one moment in every variant and checks what comes out, up to the first failure.
fn crash_at<T, E: Display>(
    moment: &Moment,
    exploration: &Exploration,
    at: At<'_>,
    events: &[T],
    check: &impl Fn(&SimDisk, &CrashCase<'_, T>) -> Result<(), E>,
) -> Checked {
    let seed = mix(exploration.seed, moment.operation);
    let variants = match exploration.only {
        None => {
            moment.variants(exploration.exhaustive_max, exploration.random_variants, seed, exploration.names)
        }
        Some((point, variant)) if point == moment.operation => vec![variant],
        Some(_) => Vec::new(),
    };
    let mut checked = Checked { crashes: 0, failure: None };
    let mut seen = HashSet::new();
    let outcome = variants.into_iter().enumerate().try_for_each(|(number, variant)| {
        let mut fates = moment.fates(variant);
        let crashed = SimDisk::after(moment, &mut fates);
        if !seen.insert(fates) {
            return ControlFlow::Continue(());
        }
        checked.crashes += 1;
        let case = CrashCase {
            point: moment.operation,
            operation: at.operation,
            fault: at.fault,
            variant,
            events,
            seed: mix(seed, number as u64),
        };
        match attempt(|| check(&crashed, &case)) {
            Ok(()) => ControlFlow::Continue(()),
            Err(reason) => ControlFlow::Break((variant, reason)),
        }
    });
    checked.failure = outcome.break_value();
    checked
}

/// The points to take of `count`: all of the share, or one at random of each of `points_max` stretches of it, and the last.
fn sample(count: usize, exploration: &Exploration) -> Vec<usize> {
    if exploration.only.is_some() {
        return (0..count).collect();
    }
    let (from, every) = exploration.share;
    let share: Vec<usize> = (from..count).step_by(every.max(1)).collect();
    if share.len() <= exploration.points_max {
        return share;
    }
    let mut rng = fastrand::Rng::with_seed(exploration.seed);
    let stretches = exploration.points_max.saturating_sub(1);
    let last = share.len() - 1;
    let start_of = |stretch: usize| stretch * last / stretches;
    let mut points: Vec<usize> =
        (0..stretches).map(|i| share[rng.usize(start_of(i)..start_of(i + 1))]).collect();
    points.push(share[last]);
    points
}

/// Runs `f`, with its error or its panic as text.
fn attempt<E: Display>(f: impl FnOnce() -> Result<(), E>) -> Result<(), String> {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(result) => result.map_err(|e| e.to_string()),
        Err(panic) => Err(format!("panicked: {}", text_of(&*panic))),
    }
}

fn text_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string))
        .unwrap_or_else(|| "without a text".into())
}

fn mix(seed: u64, with: u64) -> u64 {
    fastrand::Rng::with_seed(seed ^ with.wrapping_mul(0x9e37_79b9_7f4a_7c15)).u64(..)
}
