//! Fairness pauses: moments in which the lock is free, for programs that poll.
//!
//! A process that waits in the kernel gets its turn, however contended the lock is. A program that
//! polls (filelock every 50 ms, say) finds the lock taken each time if other processes hand it to
//! each other without a pause. An engine can be told to leave the lock alone for a moment once it
//! has held it for long.

use std::time::{Duration, Instant};

/// After how long a pause is due, and how long it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pause {
    pub(crate) after: Duration,
    pub(crate) length: Duration,
}

/// How long this engine has held a lock without leaving it alone for the length of a pause.
#[derive(Debug, Default)]
pub(crate) struct Streak {
    since: Option<Instant>,
    left: Option<Instant>,
}

impl Streak {
    /// The lock was acquired.
    pub(crate) fn taken(&mut self, pause: Pause, now: Instant) {
        let goes_on = self.left.is_some_and(|left| now - left < pause.length);
        if !goes_on || self.since.is_none() {
            self.since = Some(now);
        }
    }

    /// Whether this engine has held the lock for so long that a pause is due.
    pub(crate) fn is_due(&self, pause: Pause, now: Instant) -> bool {
        self.since.is_some_and(|since| now - since >= pause.after)
    }

    /// The lock was given back. Returns until when to leave it alone, if a pause is due and `may`
    /// be made.
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
        // Acquired again at once: the streak continues.
        streak.taken(pause, start + 49 * MS);
        assert_eq!(
            streak.left(pause, start + 50 * MS, true),
            Some(start + 51 * MS)
        );
        // After the pause a new streak begins.
        streak.taken(pause, start + 51 * MS);
        assert_eq!(streak.left(pause, start + 100 * MS, true), None);
        // The lock was left alone for long enough without being told to.
        streak.taken(pause, start + 101 * MS);
        assert_eq!(streak.left(pause, start + 150 * MS, true), None);
    }
}
