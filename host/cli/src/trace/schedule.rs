//! When a path is looked at.

use std::time::{Duration, Instant};

/// How soon after an answer a notification leads to another look.
const SOONEST: Duration = Duration::from_millis(1);

/// The looks at one path: one after the other, and never in more than half of the time.
#[derive(Debug)]
pub(super) struct Schedule {
    interval: Duration,
    due: Instant,
    /// When the last look began, until it has ended.
    began: Option<Instant>,
    /// Until then there is no other look: a path rests for as long as the look took.
    rests: Instant,
    /// Whether there was a notification since the last look began.
    notified: bool,
}

impl Schedule {
    /// The first look is due at once.
    pub(super) fn new(interval: Duration, now: Instant) -> Self {
        Self {
            interval,
            due: now,
            began: None,
            rests: now,
            notified: false,
        }
    }

    /// When the next look is due. None while one lasts.
    pub(super) fn due(&self) -> Option<Instant> {
        self.began.is_none().then_some(self.due)
    }

    /// Lets the next look be due, whatever the last one took.
    pub(super) fn hurry(&mut self, now: Instant) {
        self.due = now;
    }

    pub(super) fn begin(&mut self, now: Instant) {
        self.began = Some(now);
    }

    pub(super) fn end(&mut self, now: Instant) {
        let took = self
            .began
            .take()
            .map_or(Duration::ZERO, |began| now - began);
        self.rests = now + took;
        self.due = (self.due + self.interval).max(self.rests);
        if std::mem::take(&mut self.notified) {
            self.due = self.due.min(self.rests.max(now + SOONEST));
        }
    }

    /// Lets the next look be due as soon as it may be, since something has changed.
    pub(super) fn notify(&mut self, now: Instant) {
        if self.began.is_some() {
            self.notified = true;
        } else {
            self.due = self.due.min(self.rests.max(now));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// The times at which looks begin that take this long each, while something changes every
    /// millisecond if it is `busy`.
    fn looks(took: Duration, busy: bool) -> Vec<u128> {
        let start = Instant::now();
        let mut schedule = Schedule::new(ms(10), start);
        let mut looks = Vec::new();
        let mut ends = None;
        for now in (0..60).map(|at| start + ms(at)) {
            if ends == Some(now) {
                schedule.end(now);
            }
            if busy {
                schedule.notify(now);
            }
            if schedule.due().is_some_and(|due| due <= now) {
                schedule.begin(now);
                ends = Some(now + took);
                looks.push((now - start).as_millis());
            }
        }
        looks
    }

    #[test]
    fn looks_are_even_unless_they_take_more_than_half_of_the_time() {
        assert_eq!(looks(ms(2), false), [0, 10, 20, 30, 40, 50]);
        assert_eq!(looks(ms(8), false), [0, 16, 32, 48]);
    }

    #[test]
    fn notifications_hurry_them_but_never_take_more_than_half_of_the_time() {
        assert_eq!(looks(ms(3), true), [0, 6, 12, 18, 24, 30, 36, 42, 48, 54]);
        assert_eq!(looks(ms(8), true), looks(ms(8), false));
    }
}
