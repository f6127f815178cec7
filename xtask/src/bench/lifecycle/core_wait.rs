//! How long a thread was ready to run but had no core: on a machine with few cores most of a long delay is that, and no
//! fault of the engine's locks.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

/// The kernel's account of one thread; where there is none, the thread never waits.
pub(super) struct CoreWait {
    account: Option<File>,
    last: Duration,
}

impl CoreWait {
    pub(super) fn of_this_thread() -> Self {
        let mut wait =
            CoreWait { account: File::open("/proc/thread-self/schedstat").ok(), last: Duration::ZERO };
        wait.since_last();
        wait
    }

    /// How much there was since this was asked last. About a microsecond.
    pub(super) fn since_last(&mut self) -> Duration {
        let now = self.total().unwrap_or(self.last);
        let since = now.saturating_sub(self.last);
        self.last = now;
        since
    }

    /// Three numbers stand there: nanoseconds on a core, nanoseconds waiting for one, times.
    fn total(&self) -> Option<Duration> {
        let mut buffer = [0; 96];
        let n = self.account.as_ref()?.read_at(&mut buffer, 0).ok()?;
        let text = std::str::from_utf8(&buffer[..n]).ok()?;
        Some(Duration::from_nanos(text.split_whitespace().nth(1)?.parse().ok()?))
    }
}
