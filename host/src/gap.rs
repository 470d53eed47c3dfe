//! A moment in which the lock is free, for the sake of those who poll.
//!
//! Whoever waits in the kernel gets the lock in his turn, however busy it is. Whoever tries now
//! and then (filelock every 50 ms, say) finds it taken each time, if others hand it to each other
//! without a pause. An engine can be told to leave it alone for a moment after having had it for
//! long.

use std::time::{Duration, Instant};

/// How long is long, and how long the moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gap {
    pub(crate) after: Duration,
    pub(crate) length: Duration,
}

/// The time for which this engine has had a lock without leaving it alone for as long as a gap.
#[derive(Debug, Default)]
pub(crate) struct Run {
    since: Option<Instant>,
    left: Option<Instant>,
}

impl Run {
    /// The lock was taken.
    pub(crate) fn taken(&mut self, gap: Gap, now: Instant) {
        let goes_on = self.left.is_some_and(|left| now - left < gap.length);
        if !goes_on || self.since.is_none() {
            self.since = Some(now);
        }
    }

    /// Whether the lock was had for long.
    pub(crate) fn long(&self, gap: Gap, now: Instant) -> bool {
        self.since.is_some_and(|since| now - since >= gap.after)
    }

    /// The lock was given back. Answers until when to leave it alone, if it was had for long and
    /// there `may` be a pause.
    pub(crate) fn left(&mut self, gap: Gap, now: Instant, may: bool) -> Option<Instant> {
        self.left = Some(now);
        (may && self.long(gap, now)).then(|| {
            self.since = None;
            now + gap.length
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_long_run_is_followed_by_a_gap() {
        const MS: Duration = Duration::from_millis(1);
        let gap = Gap {
            after: 50 * MS,
            length: MS,
        };
        let start = Instant::now();
        let mut run = Run::default();
        run.taken(gap, start);
        assert_eq!(run.left(gap, start + 49 * MS, true), None);
        // Taken anew at once: the run goes on.
        run.taken(gap, start + 49 * MS);
        assert_eq!(run.left(gap, start + 50 * MS, true), Some(start + 51 * MS));
        // After the gap a new one begins.
        run.taken(gap, start + 51 * MS);
        assert_eq!(run.left(gap, start + 100 * MS, true), None);
        // The lock was left alone for long enough without being told to.
        run.taken(gap, start + 101 * MS);
        assert_eq!(run.left(gap, start + 150 * MS, true), None);
    }
}
