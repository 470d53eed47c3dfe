//! A moment in which the lock is free, for the sake of those who poll.
//!
//! Whoever waits in the kernel gets the lock in his turn, however busy it is. Whoever tries now
//! and then (filelock every 50 ms, say) finds it taken each time, if others hand it to each other
//! without a pause. An engine can be told to leave it alone for a moment after having had it for
//! long.

use std::time::{Duration, Instant};

/// How long is long, and how long the moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pause {
    pub(crate) after: Duration,
    pub(crate) length: Duration,
}

/// The time for which this engine has had a lock without leaving it alone for as long as a gap.
#[derive(Debug, Default)]
pub(crate) struct Streak {
    since: Option<Instant>,
    left: Option<Instant>,
}

impl Streak {
    /// The lock was taken.
    pub(crate) fn taken(&mut self, pause: Pause, now: Instant) {
        let goes_on = self.left.is_some_and(|left| now - left < pause.length);
        if !goes_on || self.since.is_none() {
            self.since = Some(now);
        }
    }

    /// Whether the lock was had for long.
    pub(crate) fn is_due(&self, pause: Pause, now: Instant) -> bool {
        self.since.is_some_and(|since| now - since >= pause.after)
    }

    /// The lock was given back. Answers until when to leave it alone, if it was had for long and
    /// there `may` be a pause.
    pub(crate) fn left(&mut self, pause: Pause, now: Instant, may: bool) -> Option<Instant> {
        self.left = Some(now);
        (may && self.is_due(pause, now)).then(|| {
            self.since = None;
            now + pause.length
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_long_run_is_followed_by_a_gap() {
        const MS: Duration = Duration::from_millis(1);
        let pause = Pause {
            after: 50 * MS,
            length: MS,
        };
        let start = Instant::now();
        let mut streak = Streak::default();
        streak.taken(pause, start);
        assert_eq!(streak.left(pause, start + 49 * MS, true), None);
        // Taken anew at once: the run goes on.
        streak.taken(pause, start + 49 * MS);
        assert_eq!(
            streak.left(pause, start + 50 * MS, true),
            Some(start + 51 * MS)
        );
        // After the gap a new one begins.
        streak.taken(pause, start + 51 * MS);
        assert_eq!(streak.left(pause, start + 100 * MS, true), None);
        // The lock was left alone for long enough without being told to.
        streak.taken(pause, start + 101 * MS);
        assert_eq!(streak.left(pause, start + 150 * MS, true), None);
    }
}
