//! What a step's time went into: on a machine with few cores, or a virtual one, most of a long delay is no fault of the engine's.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

/// The kernel's account of one thread; where there is none, a thread is always at work.
pub(super) struct Account {
    file: Option<File>,
    last: Entry,
}

#[derive(Clone, Copy, Default)]
struct Entry {
    on_core: Duration,
    waiting: Duration,
    /// How often it was given a core.
    times: u64,
}

/// Where the time of one step went; or of several, the longest of each.
#[derive(Clone, Copy, Default)]
pub(super) struct Spent {
    /// Ready to run, without a core.
    waiting: Duration,
    /// Neither on a core nor ready: held up by a lock or a disk.
    asleep: Duration,
    /// On a core that did not run meanwhile: the host had none for it.
    stolen: Duration,
    /// On a core.
    at_work: Duration,
}

impl Account {
    pub(super) fn of_this_thread() -> Self {
        Account { file: File::open("/proc/thread-self/schedstat").ok(), last: Entry::default() }
    }

    /// Begins a step. About a microsecond.
    pub(super) fn begin(&mut self) {
        self.last = self.read().unwrap_or_default();
    }

    /// Ends the step that was begun last, and took `time`.
    pub(super) fn end(&mut self, time: Duration) -> Spent {
        let Some(now) = self.read() else { return Spent { at_work: time, ..Spent::default() } };
        let waiting = now.waiting.saturating_sub(self.last.waiting).min(time);
        let at_work = now.on_core.saturating_sub(self.last.on_core).min(time - waiting);
        let rest = time - waiting - at_work;
        match now.times == self.last.times {
            true => Spent { waiting, at_work, stolen: rest, asleep: Duration::ZERO },
            false => Spent { waiting, at_work, stolen: Duration::ZERO, asleep: rest },
        }
    }

    fn read(&self) -> Option<Entry> {
        let mut buffer = [0; 96];
        let n = self.file.as_ref()?.read_at(&mut buffer, 0).ok()?;
        let mut numbers = std::str::from_utf8(&buffer[..n]).ok()?.split_whitespace().map(str::parse);
        let mut next = || numbers.next()?.ok();
        let (on_core, waiting, times) = (next()?, next()?, next()?);
        let [on_core, waiting] = [on_core, waiting].map(Duration::from_nanos);
        Some(Entry { on_core, waiting, times })
    }
}

impl Spent {
    pub(super) fn longest(self, other: Spent) -> Spent {
        Spent {
            waiting: self.waiting.max(other.waiting),
            asleep: self.asleep.max(other.asleep),
            stolen: self.stolen.max(other.stolen),
            at_work: self.at_work.max(other.at_work),
        }
    }
}

impl std::fmt::Display for Spent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [waiting, asleep, stolen, at_work] =
            [self.waiting, self.asleep, self.stolen, self.at_work].map(|time| time.as_micros());
        write!(f, "{waiting}/{asleep}/{stolen}/{at_work}")
    }
}
