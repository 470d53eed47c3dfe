//! A lock that works, and workers that use it, at times that follow from a seed.

use std::collections::HashMap;

use crate::stress::history::{Attempt, Breach, End, History, Outcome, Section};
use crate::stress::journal::{Mode, Time, Why};
use crate::stress::object::{Line, Remains};

/// The history and the object of one lock.
pub(super) struct World {
    pub(super) chance: fastrand::Rng,
    pub(super) time: Time,
    pub(super) number: u64,
    pub(super) history: History,
    pub(super) remains: Remains,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            chance: fastrand::Rng::with_seed(seed),
            time: 1,
            number: 0,
            history: History::default(),
            remains: Remains {
                count: Some(0),
                lines: Vec::new(),
            },
        }
    }

    /// A world after so many random steps.
    pub(super) fn after(seed: u64, turns: usize) -> Self {
        let mut world = Self::new(seed);
        for _ in 0..turns {
            match world.chance.u8(0..10) {
                0..5 => world.add(),
                5..7 => world.look(),
                7 => world.cut_off(),
                _ => world.give_up(),
            }
        }
        world
    }

    pub(super) fn later(&mut self) -> Time {
        self.time += self.chance.u64(1..1000);
        self.time
    }

    pub(super) fn count(&self) -> u64 {
        self.remains.count.expect("the counter is a number")
    }

    pub(super) fn attempt(&mut self, mode: Mode, outcome: Outcome) -> &mut Attempt {
        self.number += 1;
        let asked = self.time - self.chance.u64(0..self.time);
        self.history.attempts.push(Attempt {
            worker: format!("p{}.1", self.number % 5),
            number: self.number,
            lock: "a".into(),
            mode,
            asked,
            limit: None,
            outcome,
        });
        self.history
            .attempts
            .last_mut()
            .expect("an attempt was just added")
    }

    pub(super) fn hold(&mut self, mode: Mode, enter: Time, counted: [u64; 2]) {
        let at = self.later();
        let counted = Some(counted);
        let end = End::Left { at, counted };
        self.attempt(mode, Outcome::Entered(Section { enter, end }));
    }

    pub(super) fn line(&mut self, at: Time) {
        let number = self.number + 1;
        self.remains.lines.push(Line::Whole {
            worker: format!("p{}.1", number % 5),
            number,
            count: self.count(),
            at,
        });
    }

    pub(super) fn add(&mut self) {
        let (enter, before) = (self.later(), self.count());
        self.remains.count = Some(before + 1);
        let at = self.later();
        self.line(at);
        self.hold(Mode::Exclusive, enter, [before, before + 1]);
    }

    /// Two shared sections at once.
    pub(super) fn look(&mut self) {
        let (one, two, count) = (self.later(), self.later(), self.count());
        self.hold(Mode::Shared, one, [count, count]);
        self.hold(Mode::Shared, two, [count, count]);
    }

    pub(super) fn cut_off(&mut self) {
        let enter = self.later();
        let how_far = self.chance.u8(0..4);
        let number = self.number + 1;
        if how_far > 1 {
            self.remains.count = Some(self.count() + 1);
        }
        let text = format!("<p{}.1 {number} ", number % 5);
        let length = self.chance.usize(1..=text.len());
        match how_far {
            0 => {}
            // A line that was begun; the counter was changed only if its first piece is whole.
            1 => self.remains.lines.push(Line::Torn(text[..length].into())),
            2 => self.remains.lines.push(Line::Torn(text)),
            _ => self.line(enter + 1),
        }
        let end = End::CutOff { at: self.later() };
        self.attempt(Mode::Exclusive, Outcome::Entered(Section { enter, end }));
    }

    pub(super) fn give_up(&mut self) {
        let at = self.later();
        let attempt = self.attempt(Mode::Exclusive, Outcome::GaveUp(Why::Timeout, at));
        attempt.limit = Some((at - attempt.asked).max(1));
        attempt.asked = at - attempt.limit.expect("the timeout was just set");
    }

    pub(super) fn kinds(&self) -> Vec<Breach> {
        let remains = HashMap::from([("a".into(), self.remains.clone())]);
        let violations = self.history.check(&remains);
        violations
            .into_iter()
            .map(|violation| violation.kind)
            .collect()
    }

    #[track_caller]
    pub(super) fn must_show(&self, kind: Breach) {
        let kinds = self.kinds();
        assert!(kinds.contains(&kind), "{kinds:?}");
    }

    /// The last attempt in this mode whose section was left.
    pub(super) fn last_of(&mut self, mode: Mode) -> &mut Attempt {
        let left = |attempt: &&mut Attempt| {
            attempt.mode == mode
                && matches!(attempt.section(), Some(s) if matches!(s.end, End::Left { .. }))
        };
        self.history
            .attempts
            .iter_mut()
            .rev()
            .find(left)
            .expect("there is such a section")
    }
}
