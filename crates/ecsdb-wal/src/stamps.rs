//! The times that stand in a log: those of the machine's clock, as long as that does not go back (IO-2).

use std::sync::Arc;

use ecsdb_io::Vfs;
use ecsdb_io::sync::Mutex;

/// What the clock may go on by between two readings for it to be believed while it is behind the log's.
const STEP_NS: u64 = 3_600_000_000_000;

/// Gives stamps that never go back.
///
/// A clock that was set back is behind what the log already says. Until it has caught up, stamps go on at half its speed: later is
/// still told from earlier, time for the retention does not stand still, and one day the two are together again.
#[derive(Debug)]
pub(crate) struct Stamps {
    vfs: Arc<dyn Vfs>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The last stamp given.
    last: u64,
    /// What the clock said then; `u64::MAX` before the first time.
    clock: u64,
}

impl Stamps {
    /// Goes on after `last`, in nanoseconds since 1970-01-01 UTC.
    pub(crate) fn new(vfs: Arc<dyn Vfs>, last: u64) -> Self {
        Stamps { vfs, state: Mutex::new(State { last, clock: u64::MAX }) }
    }

    /// The time, in nanoseconds since 1970-01-01 UTC: not before any that was given.
    pub(crate) fn now(&self) -> u64 {
        let mut state = self.state.lock();
        let clock = self.vfs.now_unix_ns();
        // A clock that jumps has measured nothing.
        let passed = clock.saturating_sub(state.clock).min(STEP_NS);
        *state = State { last: clock.max(state.last.saturating_add(passed / 2)), clock };
        state.last
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ecsdb_sim::SimDisk;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn stamps_follow_the_clock_but_never_back_and_never_stand_still() {
        let disk = SimDisk::new(1);
        let begin = disk.now_unix_ns();
        let stamps = Stamps::new(disk.vfs(), 0);
        let first = stamps.now();
        assert!(first > begin && first < begin + 1_000_000, "that of the clock");
        // A year ahead, and back.
        disk.advance(HOUR * 8760);
        let ahead = stamps.now();
        assert!(ahead >= first + (HOUR * 8760).as_nanos() as u64);
        disk.set_clock(begin);
        assert_eq!(stamps.now(), ahead);
        disk.advance(HOUR);
        let later = stamps.now();
        let half = (HOUR / 2).as_nanos() as u64;
        assert!((ahead + half..ahead + half + 1_000_000).contains(&later));
        // Set back once more, to 1970, and put right: it has not measured the years between.
        disk.set_clock(0);
        assert_eq!(stamps.now(), later);
        disk.set_clock(begin);
        assert!(stamps.now() <= later + half);
        // Another session goes on where this one ended.
        let last = stamps.now();
        assert_eq!(Stamps::new(disk.vfs(), last).now(), last);
    }
}
