//! Fairness pauses: moments in which an engine leaves a lock alone after it has had it for long.
//!
//! A waiter in the kernel is woken at the release, but a program that asks again at once is faster
//! than the waiter can wake up. So a single thread that does nothing but lock and unlock keeps a
//! waiter of another process out for as long as the scheduler lets it. A program that polls finds
//! the lock taken each time, and so does a writer elsewhere among overlapping readers. The pause
//! lets all of them in. Nothing happens at its beginning: only an acquire that comes before its end
//! waits, and sets a timer.
//!
//! Readers that overlap would put a pause off for as long as there is another one. So when it is due,
//! newcomers are held back. If those that are there do not leave for long, that was of no use, and
//! newcomers join them for as long again, and so on: a reader waits briefly at most.

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
    /// The end of the last pause.
    until: Option<Instant>,
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

    /// Until when newcomers that could share the lock are held back, if they are.
    pub(crate) fn held_back(&self, pause: Pause, now: Instant) -> Option<Instant> {
        let over = (now - self.since?).checked_sub(pause.after)?;
        let window = pause.after.max(pause.length);
        let phase = over.as_nanos() % (2 * window.as_nanos());
        let phase = Duration::from_nanos(u64::try_from(phase).ok()?);
        (phase < window).then(|| now + (window - phase))
    }

    /// The lock was given back. If a pause is due and `may` be made, it begins.
    pub(crate) fn left(&mut self, pause: Pause, now: Instant, may: bool) {
        self.left = Some(now);
        if may && self.is_due(pause, now) {
            self.since = None;
            self.until = Some(now + pause.length);
        }
    }

    /// Until when to leave the lock alone, if there is a pause.
    pub(crate) fn pause(&mut self) -> Option<Instant> {
        self.until = self.until.filter(|until| Instant::now() < *until);
        self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_long_run_is_followed_by_a_pause() {
        const S: Duration = Duration::from_secs(1);
        let pause = Pause {
            after: 50 * S,
            length: S,
        };
        let start = Instant::now();
        let mut streak = Streak::default();
        let mut left_at = |from, to| {
            streak.taken(pause, start + from * S);
            streak.left(pause, start + to * S, true);
            streak.until.take()
        };
        assert_eq!(left_at(0, 49), None);
        // Acquired again at once: the streak continues.
        assert_eq!(left_at(49, 50), Some(start + 51 * S));
        // After the pause a new streak begins.
        assert_eq!(left_at(51, 100), None);
        // The lock was left alone for long enough without being told to.
        assert_eq!(left_at(101, 150), None);
    }

    #[test]
    fn newcomers_are_held_back_by_turns() {
        const S: Duration = Duration::from_secs(1);
        let start = Instant::now();
        let mut streak = Streak::default();
        let pause = |after| Pause { after, length: S };
        streak.taken(pause(5 * S), start);
        let until = |after, at| streak.held_back(pause(after), start + at);
        for (at, end) in [
            (0, None),
            (4, None),
            (5, Some(10)),
            (9, Some(10)),
            (10, None),
        ] {
            let end = end.map(|end| start + end * S);
            assert_eq!(until(5 * S, at * S), end, "{at}");
            assert_eq!(until(5 * S, (at + 10) * S).is_some(), end.is_some(), "{at}");
        }
        // A pause after every hold.
        assert_eq!(until(Duration::ZERO, S / 2), Some(start + S));
        assert_eq!(until(Duration::ZERO, S), None);
        assert_eq!(Streak::default().held_back(pause(S), start), None);
    }

    #[test]
    fn a_pause_ends() {
        let ends = |until| {
            let mut streak = Streak {
                until: Some(until),
                ..Streak::default()
            };
            streak.pause().is_none()
        };
        assert!(ends(Instant::now()));
        assert!(!ends(Instant::now() + Duration::from_secs(60)));
    }
}
