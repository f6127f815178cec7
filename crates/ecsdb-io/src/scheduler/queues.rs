//! Which request is next: the queues of all files and classes, without threads and without waiting.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::time::Instant;

use super::bucket::Bucket;
use super::priority::{Priority, PriorityStats, SchedulerStats};
use super::request::{Cost, Done, Request};
use crate::error::{FileOp, IoError};
use crate::vfs::VfsFile;

/// Reads that the last class may have under way at once. Each class above may start one more, so that the reads of
/// lower ones, however slow, leave it a place.
const READS_AT_ONCE: usize = 2;
/// Operations that can be under way: the reads of all classes, and one change of each, begun while none of a class above was.
pub(super) const OPERATIONS_AT_ONCE: usize = READS_AT_ONCE + 2 * Priority::ALL.len() - 1;

/// Whether requests are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Open,
    /// What was accepted is executed, at full speed, and nothing more accepted.
    Closing,
    /// Nobody executes anything any more.
    Stopped,
}

/// All queues.
#[derive(Debug)]
pub(super) struct Queues {
    pub(super) phase: Phase,
    /// No rate limit holds for now, and nothing counts for one: some of it belongs to work that was given up.
    pub(super) unlimited: bool,
    classes: [Class; Priority::ALL.len()],
    files: HashMap<u64, FileQueue>,
    /// The next number of a file or a request.
    next: u64,
    /// Which classes have a change under way.
    changing: [bool; Priority::ALL.len()],
    reading: usize,
    merge_bytes_max: u64,
}

/// The files of one priority that have something to execute, by the number of their first request: first come, first
/// served.
#[derive(Debug, Default)]
struct Class {
    changes: BTreeMap<u64, u64>,
    reads: BTreeMap<u64, u64>,
    bucket: Option<Bucket>,
    stats: PriorityStats,
}

/// The requests of one open file, executed in their order.
#[derive(Debug)]
struct FileQueue {
    handle: Arc<dyn VfsFile>,
    /// Its present name; empty when it was removed.
    path: PathBuf,
    priority: Priority,
    requests: VecDeque<(u64, Request)>,
    /// A change of it is being executed.
    changing: bool,
    failure: Option<IoError>,
    /// A caller was told of the failure.
    reported: bool,
    /// Nobody holds it any more.
    dropped: bool,
}

/// What the executor does next.
#[derive(Debug)]
pub(super) enum Next {
    Run(Job),
    /// Nothing before something happens, or before this time.
    Wait(Option<Instant>),
    /// Closed, and all done.
    Finished,
}

/// A request taken from the queues.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) file: u64,
    pub(super) priority: Priority,
    pub(super) handle: Arc<dyn VfsFile>,
    pub(super) request: Request,
}

/// What [`Queues::finished`] leaves to do without the lock.
#[derive(Debug, Default)]
pub(super) struct Aftermath {
    /// Answers of requests that the failure of an earlier one decides.
    pub(super) decided: Vec<Done>,
    /// A file that nobody holds and nothing waits for.
    pub(super) gone: Option<Gone>,
}

/// A file that is no longer known here.
#[derive(Debug)]
pub(super) struct Gone {
    /// Dropped (and closed) without the lock, since it may take long.
    _handle: Arc<dyn VfsFile>,
    /// What no caller was told of.
    pub(super) unreported: Option<IoError>,
}

impl Queues {
    pub(super) fn new(merge_bytes_max: usize) -> Self {
        Queues {
            phase: Phase::Open,
            unlimited: false,
            classes: Default::default(),
            files: HashMap::new(),
            next: 0,
            changing: Default::default(),
            reading: 0,
            merge_bytes_max: merge_bytes_max as u64,
        }
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Makes a file known; returns its number.
    pub(super) fn add_file(&mut self, handle: Arc<dyn VfsFile>, path: PathBuf, priority: Priority) -> u64 {
        let id = self.number();
        let queue = FileQueue {
            handle,
            path,
            priority,
            requests: VecDeque::new(),
            changing: false,
            failure: None,
            reported: false,
            dropped: false,
        };
        self.files.insert(id, queue);
        id
    }

    /// Notes that nobody holds the file any more. What it queued is executed all the same.
    pub(super) fn drop_file(&mut self, id: u64) -> Option<Gone> {
        self.files.get_mut(&id)?.dropped = true;
        self.collect(id)
    }

    fn collect(&mut self, id: u64) -> Option<Gone> {
        let file = self.files.get(&id)?;
        if !file.dropped || file.changing || !file.requests.is_empty() {
            return None;
        }
        let file = self.files.remove(&id)?;
        let unreported = if file.reported { None } else { file.failure };
        Some(Gone { _handle: file.handle, unreported })
    }

    /// The failure of the file, if it has one, for a caller who is told of it now.
    pub(super) fn failure(&mut self, id: u64) -> Option<IoError> {
        let file = self.files.get_mut(&id)?;
        let failure = file.failure.as_ref()?.duplicate();
        file.reported = true;
        Some(failure)
    }

    /// True when nothing of the file is queued, and no change of it under way.
    pub(super) fn is_idle(&self, id: u64) -> bool {
        self.files.get(&id).is_none_or(|file| file.requests.is_empty() && !file.changing)
    }

    /// True when no change of the file is queued or under way. Reads show nobody anything.
    pub(super) fn is_settled(&self, id: u64) -> bool {
        let unchanged =
            |file: &FileQueue| !file.changing && !file.requests.iter().any(|(_, it)| it.is_change());
        self.files.get(&id).is_none_or(unchanged)
    }

    /// True for a file of this priority or a higher one.
    pub(super) fn is_at_least(&self, id: u64, lowest: Priority) -> bool {
        self.files.get(&id).is_some_and(|file| file.priority <= lowest)
    }

    /// The files whose present name is such.
    pub(super) fn named(&self, matches: impl Fn(&Path) -> bool) -> Vec<u64> {
        self.files.iter().filter(|(_, file)| matches(&file.path)).map(|(id, _)| *id).collect()
    }

    /// Changes a name: of the file `from` to `to` (empty when it was removed), and whatever had `to` has none.
    pub(super) fn renamed(&mut self, from: &Path, to: &Path) {
        for file in self.files.values_mut() {
            if file.path == from {
                file.path = to.into();
            } else if file.path == to {
                file.path = PathBuf::new();
            }
        }
    }

    /// True when `bytes` more may be queued in a class bounded to `max`. What is larger passes alone.
    pub(super) fn has_room(&self, priority: Priority, bytes: u64, max: u64) -> bool {
        let queued = self.classes[priority.index()].stats.queued_bytes;
        queued == 0 || queued.saturating_add(bytes) <= max
    }

    /// Queues a request behind those of its file. False when the file is not known.
    pub(super) fn push(&mut self, id: u64, request: Request) -> bool {
        let number = self.number();
        let Some(file) = self.files.get_mut(&id) else { return false };
        let class = &mut self.classes[file.priority.index()];
        let cost = request.cost();
        class.stats.queued_requests += cost.requests;
        class.stats.queued_bytes += cost.bytes;
        let request = match (file.requests.back_mut(), request) {
            (Some((_, Request::Write(last))), Request::Write(next)) => {
                // A merged write is executed at once, so it is not made larger than what may pass at once.
                let burst = class.bucket.as_ref().map_or(u64::MAX, Bucket::burst);
                match last.merge(next, self.merge_bytes_max.min(burst)) {
                    None => return true,
                    Some(next) => Request::Write(next),
                }
            }
            (_, request) => request,
        };
        file.requests.push_back((number, request));
        if file.requests.len() == 1 {
            self.enlist(id);
        }
        true
    }

    /// Notes the file's first request in its class.
    fn enlist(&mut self, id: u64) {
        let Some(file) = self.files.get(&id) else { return };
        let Some((number, request)) = file.requests.front() else { return };
        if file.changing {
            return;
        }
        let class = &mut self.classes[file.priority.index()];
        let list = if request.is_change() { &mut class.changes } else { &mut class.reads };
        list.insert(*number, id);
    }

    /// Takes the first request of the highest class that has one and may pass. While that class waits for an operation
    /// under way, no lower one gets ahead of it.
    pub(super) fn next(&mut self, now: Instant) -> Next {
        let mut wake: Option<Instant> = None;
        for priority in Priority::ALL {
            let class = &mut self.classes[priority.index()];
            if class.changes.is_empty() && class.reads.is_empty() {
                continue;
            }
            if self.phase == Phase::Open
                && !self.unlimited
                && let Some(until) = class.bucket.as_mut().and_then(|bucket| bucket.blocked_until(now))
            {
                wake = Some(wake.map_or(until, |wake| wake.min(until)));
                continue;
            }
            let reads_max = READS_AT_ONCE + Priority::ALL.len() - 1 - priority.index();
            // A slow one of a lower class, which may be a thread's that gets a core last, keeps none of a higher one from the disk.
            let is_changing = self.changing[..=priority.index()].contains(&true);
            let change = if is_changing { None } else { class.changes.first_key_value() };
            let read = if self.reading < reads_max { class.reads.first_key_value() } else { None };
            let (number, id) = match (change, read) {
                (Some(change), Some(read)) => change.min(read),
                (Some(one), None) | (None, Some(one)) => one,
                (None, None) => return Next::Wait(wake),
            };
            let (number, id) = (*number, *id);
            class.changes.remove(&number);
            class.reads.remove(&number);
            match self.take(id, priority) {
                Some(job) => return Next::Run(job),
                // A list and its file always agree.
                None => return Next::Wait(Some(now)),
            }
        }
        if self.phase == Phase::Closing && !self.changing.contains(&true) && self.reading == 0 {
            return Next::Finished;
        }
        Next::Wait(wake)
    }

    fn take(&mut self, id: u64, priority: Priority) -> Option<Job> {
        let file = self.files.get_mut(&id)?;
        let (_, request) = file.requests.pop_front()?;
        let handle = file.handle.clone();
        if let Some(bucket) = &mut self.classes[priority.index()].bucket
            && !self.unlimited
        {
            bucket.take(request.bytes());
        }
        if request.is_change() {
            self.changing[priority.index()] = true;
            file.changing = true;
        } else {
            self.reading += 1;
            self.enlist(id);
        }
        Some(Job { file: id, priority, handle, request })
    }

    /// Books an executed request: frees its place, counts it, and lets its failure decide what was queued behind it.
    pub(super) fn finished(&mut self, job: &Finished, done: &mut Done) -> Aftermath {
        let stats = &mut self.classes[job.priority.index()].stats;
        stats.settle(job.cost);
        if job.is_change {
            stats.bytes_written += done.bytes;
            stats.writes_executed += u64::from(job.cost.writes > 0);
            self.changing[job.priority.index()] = false;
        } else {
            stats.bytes_read += done.bytes;
            self.reading -= 1;
        }
        let mut aftermath = Aftermath::default();
        if let Some(file) = self.files.get_mut(&job.file) {
            if job.is_change {
                file.changing = false;
            }
            if let Some(failure) = done.failure.take()
                && file.failure.is_none()
            {
                aftermath.decided = file.give_up(&failure, stats);
                file.reported |=
                    done.answer.is_awaited() || aftermath.decided.iter().any(|d| d.answer.is_awaited());
                file.failure = Some(failure);
            }
            if job.is_change {
                self.enlist(job.file);
            }
        }
        aftermath.gone = self.collect(job.file);
        aftermath
    }

    /// Sets or lifts the limit of a class, in bytes per second.
    pub(super) fn set_rate_limit(&mut self, priority: Priority, rate: Option<u64>) {
        let bucket = &mut self.classes[priority.index()].bucket;
        match (bucket.as_mut(), rate) {
            (Some(bucket), Some(rate)) => bucket.set_rate(rate),
            (_, rate) => *bucket = rate.map(Bucket::new),
        }
    }

    pub(super) fn stats(&self) -> SchedulerStats {
        SchedulerStats { classes: std::array::from_fn(|i| self.classes[i].stats) }
    }

    /// Gives up everything queued, since nobody will execute it. The waiting callers learn it from their dropped
    /// replies, later ones by the failure of their file. Returns the files that nobody holds.
    pub(super) fn stop(&mut self) -> Vec<Gone> {
        self.phase = Phase::Stopped;
        for class in &mut self.classes {
            class.changes.clear();
            class.reads.clear();
        }
        for file in self.files.values_mut() {
            let lost = file.requests.iter().any(|(_, request)| matches!(request, Request::Write(_)));
            let stats = &mut self.classes[file.priority.index()].stats;
            for (_, request) in file.requests.drain(..) {
                stats.settle(request.cost());
            }
            if lost && file.failure.is_none() {
                file.failure = Some(IoError::stopped(FileOp::Write, file.handle.path()));
            }
        }
        let dropped: Vec<u64> =
            self.files.iter().filter(|(_, file)| file.dropped).map(|(id, _)| *id).collect();
        dropped.into_iter().filter_map(|id| self.collect(id)).collect()
    }
}

/// What remains to be known of a [`Job`] when its request was executed.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) file: u64,
    pub(super) priority: Priority,
    pub(super) is_change: bool,
    pub(super) cost: Cost,
}

impl FileQueue {
    /// After a failed write or sync, no change of the file is tried again (WAL-5); reads go on.
    fn give_up(&mut self, failure: &IoError, stats: &mut PriorityStats) -> Vec<Done> {
        let (changes, reads) =
            std::mem::take(&mut self.requests).into_iter().partition(|(_, request)| request.is_change());
        self.requests = reads;
        let changes: VecDeque<(u64, Request)> = changes;
        changes
            .into_iter()
            .map(|(_, request)| {
                stats.settle(request.cost());
                request.execute(&*self.handle, Some(failure.duplicate()))
            })
            .collect()
    }
}

impl PriorityStats {
    /// Moves a request from the queued to the done ones.
    fn settle(&mut self, cost: Cost) {
        self.queued_requests -= cost.requests;
        self.queued_bytes -= cost.bytes;
        self.writes_requested += cost.writes;
    }
}
