//! The token bucket that limits the rate of one class.

use std::time::Duration;

use tokio::time::Instant;

/// The part of a second whose bytes may pass at once after a pause.
const BURSTS_PER_SECOND: u64 = 10;
/// The longest sleep before the bucket is looked at again: keeps the arithmetic of time far from its limits.
const SLEEP_MAX: Duration = Duration::from_secs(60);
/// The shortest: rounding must not turn a wait into a loop.
const SLEEP_MIN: Duration = Duration::from_millis(1);

/// Tokens are bytes. A request of any size passes while there is a token, and what it takes too much is a debt which
/// those after it wait for: so the rate is kept on average, whatever the sizes.
#[derive(Debug)]
pub(super) struct Bucket {
    /// Bytes per second.
    rate: u64,
    tokens: f64,
    /// When the tokens were counted last. Unknown until the executor looks first: only there is the clock the right one.
    counted: Option<Instant>,
}

impl Bucket {
    /// A full bucket for `rate` bytes per second.
    pub(super) fn new(rate: u64) -> Self {
        let mut bucket = Bucket { rate, tokens: 0.0, counted: None };
        bucket.tokens = bucket.burst() as f64;
        bucket
    }

    /// Bytes that may pass at once: those of a tenth of a second, and at least one.
    pub(super) fn burst(&self) -> u64 {
        (self.rate / BURSTS_PER_SECOND).max(1)
    }

    /// Changes the rate. A debt remains.
    pub(super) fn set_rate(&mut self, rate: u64) {
        self.rate = rate;
        self.tokens = self.tokens.min(self.burst() as f64);
    }

    /// `None` when a request may pass now; otherwise when to look again.
    pub(super) fn blocked_until(&mut self, now: Instant) -> Option<Instant> {
        if let Some(counted) = self.counted {
            let gained = now.saturating_duration_since(counted).as_secs_f64() * self.rate as f64;
            self.tokens = (self.tokens + gained).min(self.burst() as f64);
        }
        self.counted = Some(now);
        if self.rate > 0 && self.tokens >= 1.0 {
            return None;
        }
        // Of a rate of 0, infinitely many.
        let seconds = (1.0 - self.tokens) / self.rate as f64;
        Some(now + Duration::try_from_secs_f64(seconds).unwrap_or(SLEEP_MAX).clamp(SLEEP_MIN, SLEEP_MAX))
    }

    /// Takes the tokens of a request that passed.
    pub(super) fn take(&mut self, bytes: u64) {
        self.tokens -= bytes as f64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_kept_on_average_whatever_the_sizes() {
        let start = Instant::now();
        for size in [1, 10, 99, 1_000, 50_000] {
            let mut bucket = Bucket::new(10_000);
            let mut now = start;
            let mut passed = 0;
            while passed < 1_000_000 {
                match bucket.blocked_until(now) {
                    None => {
                        bucket.take(size);
                        passed += size;
                    }
                    Some(at) => {
                        assert!(at > now);
                        now = at;
                    }
                }
            }
            let seconds = (now - start).as_secs_f64();
            let allowed = 1_000_000.0 / 10_000.0;
            assert!((seconds - allowed).abs() < 6.0, "{size}: {seconds} s");
        }
    }

    #[test]
    fn a_pause_saves_no_more_than_a_burst() {
        let mut bucket = Bucket::new(1_000);
        let start = Instant::now();
        assert_eq!(bucket.blocked_until(start), None);
        bucket.take(100);
        assert!(bucket.blocked_until(start).is_some());
        let later = start + Duration::from_secs(3_600);
        assert_eq!(bucket.blocked_until(later), None);
        bucket.take(100);
        assert!(bucket.blocked_until(later).is_some());
    }

    #[test]
    fn a_rate_of_nothing_never_passes_and_extremes_do_not_overflow() {
        let now = Instant::now();
        let mut bucket = Bucket::new(0);
        assert_eq!(bucket.blocked_until(now), Some(now + SLEEP_MAX));
        bucket.set_rate(1);
        bucket.take(u64::MAX);
        assert_eq!(bucket.blocked_until(now), Some(now + SLEEP_MAX));
        let mut bucket = Bucket::new(u64::MAX);
        assert_eq!(bucket.blocked_until(now), None);
        bucket.take(u64::MAX);
        assert!(bucket.blocked_until(now).is_some());
    }
}
