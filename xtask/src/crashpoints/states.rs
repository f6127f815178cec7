//! Which crash states were seen, and in which transition.

use std::collections::{BTreeMap, HashSet};
use std::time::Instant;

use ecsdb_sim::{CrashCase, CrashPattern, SimDisk};
use ecsdb_tests::crashed::Event;
use parking_lot::Mutex;

pub(super) struct States {
    until: Instant,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    disks: HashSet<u64>,
    /// The same disk is judged again once more was acknowledged, and when some of it is still un-synced.
    judged: HashSet<(u64, usize, bool)>,
    transitions: BTreeMap<String, u64>,
}

impl States {
    pub(super) fn new(until: Instant) -> Self {
        States { until, seen: Mutex::default() }
    }

    /// Counts a crashed disk, and says whether it has to be judged.
    pub(super) fn is_new(&self, disk: &SimDisk, case: &CrashCase<'_, Event>) -> bool {
        let killed = case.variant.pattern == CrashPattern::Killed;
        self.is_new_of(disk, case.events.len(), killed, transition(case.events, case.operation))
    }

    /// The same for a disk that crashed again in the recovery.
    pub(super) fn is_new_of(&self, disk: &SimDisk, events: usize, killed: bool, transition: &str) -> bool {
        if Instant::now() >= self.until {
            return false;
        }
        // Of the lock and the reports the text says when and how fast: no two are alike.
        let fingerprint = disk.fingerprint(|name| name == "LOCK" || name.contains(".txt"));
        let mut seen = self.seen.lock();
        if seen.disks.insert(fingerprint) {
            *seen.transitions.entry(transition.into()).or_default() += 1;
        }
        seen.judged.insert((fingerprint, events, killed))
    }

    pub(super) fn distinct(&self) -> u64 {
        self.seen.lock().disks.len() as u64
    }

    pub(super) fn checked(&self) -> u64 {
        self.seen.lock().judged.len() as u64
    }

    pub(super) fn transitions(&self) -> BTreeMap<String, u64> {
        self.seen.lock().transitions.clone()
    }
}

/// What was under way: by the file that was last touched where that says it, else by what the script was at.
fn transition<'a>(events: &[Event], operation: &str) -> &'a str {
    let mut begun = events.iter().rev().filter_map(|event| match event {
        Event::Begin(what) => Some(*what),
        _ => None,
    });
    let begun = begun.next().unwrap_or("opening");
    let has = |part: &str| operation.contains(part);
    match () {
        () if begun.contains("backup") || begun.contains("directory") || begun == "repair" => begun,
        () if has(".manifest") => "manifest",
        () if has("/archive") => "archive",
        () if has(" remove ") => "truncation",
        () if has(".seg.tmp") => "preallocation",
        () if begun == "opening" => "recovery",
        () => begun,
    }
}
