//! The clocks, and the time to sleep between two checks of a lock.

use core::time::Duration;

use wasip2::clocks::{monotonic_clock, wall_clock};

use crate::bindings::api::Milliseconds;

/// The time of the monotonic clock, in nanoseconds.
pub(crate) fn monotonic() -> u64 {
    monotonic_clock::now()
}

/// The time of the wall clock, since the epoch.
pub(crate) fn wall() -> Duration {
    of_wall(wall_clock::now())
}

pub(crate) fn of_wall(time: wall_clock::Datetime) -> Duration {
    Duration::new(time.seconds, time.nanoseconds)
}

/// Converts to milliseconds, limited to what the interface can represent, about 49 days.
pub(crate) fn millis(span: Duration) -> Milliseconds {
    span.as_millis().try_into().unwrap_or(Milliseconds::MAX)
}

/// A point in time at which a timeout runs out.
pub(crate) struct Deadline {
    start: u64,
    span: Duration,
}

impl Deadline {
    pub(crate) fn after(timeout: Milliseconds) -> Self {
        Self {
            start: monotonic(),
            span: Duration::from_millis(timeout.into()),
        }
    }

    /// The time left; `None` once it has run out.
    pub(crate) fn left(&self) -> Option<Duration> {
        let passed = Duration::from_nanos(monotonic().saturating_sub(self.start));
        self.span.checked_sub(passed).filter(|left| !left.is_zero())
    }
}

/// Sleeps of growing, partly random length, so that the waiters for one lock do not all check it at
/// the same time.
pub(crate) struct Backoff {
    most: Duration,
    seed: u64,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(1);
    const LONGEST: Duration = Duration::from_millis(50);

    /// Waiters must use different seeds.
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            most: Self::FIRST,
            seed,
        }
    }

    /// The length of the next sleep: between half of the current maximum and all of it.
    fn next(&mut self) -> Duration {
        let most = self.most;
        self.most = (most * 2).min(Self::LONGEST);
        // A step of SplitMix64.
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.seed;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        most / 2 + (most / 2).mul_f64((bits >> 40) as f64 / (1u64 << 24) as f64)
    }

    /// Sleeps, but for at most `left`.
    pub(crate) fn sleep(&mut self, left: Option<Duration>) {
        let span = self.next().min(left.unwrap_or(Duration::MAX));
        let nanos = span.as_nanos().try_into().unwrap_or(u64::MAX);
        monotonic_clock::subscribe_duration(nanos).block();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleeps_grow_and_differ() {
        let mut backoff = Backoff::new(1);
        let mut most = Backoff::FIRST;
        for _ in 0..20 {
            let sleep = backoff.next();
            assert!(most / 2 <= sleep && sleep <= most, "{sleep:?} of {most:?}");
            most = (most * 2).min(Backoff::LONGEST);
        }
        assert_eq!(most, Backoff::LONGEST);
        let mut sleeps: Vec<_> = (0..100).map(|seed| Backoff::new(seed).next()).collect();
        sleeps.sort();
        sleeps.dedup();
        assert!(sleeps.len() > 90);
    }

    #[test]
    fn long_spans_are_cut() {
        assert_eq!(millis(Duration::from_millis(7)), 7);
        assert_eq!(millis(Duration::MAX), Milliseconds::MAX);
    }
}
