//! The rules for what a lock protects: a walk along its sections, beside the counter and the log.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use super::check::Hold;
use super::{Breach, End, Violation};
use crate::stress::journal::Time;
use crate::stress::object::{Line, Remains};

/// A walk along the sections of a lock, with the state in which its object must be.
pub(super) struct ObjectCheck<'a> {
    lock: &'a str,
    remains: &'a Remains,
    /// The indexes of the lines of each section.
    places: HashMap<(&'a str, u64), Vec<usize>>,
    /// Which lines belong to a section on the way so far.
    met: Vec<bool>,
    /// The index of the line of the last section that had one.
    last: Option<usize>,
    /// The possible values of the counter.
    count: RangeInclusive<u64>,
    violations: Vec<Violation>,
}

impl<'a> ObjectCheck<'a> {
    pub(super) fn new(lock: &'a str, remains: &'a Remains) -> Self {
        let mut places: HashMap<_, Vec<usize>> = HashMap::new();
        for (place, line) in remains.lines.iter().enumerate() {
            if let Some(owner) = owner(line) {
                places.entry(owner).or_default().push(place);
            }
        }
        Self {
            lock,
            remains,
            places,
            met: vec![false; remains.lines.len()],
            last: None,
            count: 0..=0,
            violations: Vec::new(),
        }
    }

    pub(super) fn through(mut self, holds: &[Hold<'_>]) -> Vec<Violation> {
        for hold in holds {
            match &hold.section.end {
                End::Left {
                    at,
                    counted: Some(counted),
                } => self.left(hold, *counted, *at),
                End::CutOff { .. } if hold.is_exclusive() => self.cut_off(hold),
                // It did not change the object.
                End::Left { counted: None, .. } | End::CutOff { .. } | End::Lost { .. } => {}
            }
        }
        for (place, line) in self.remains.lines.iter().enumerate() {
            if !self.met[place] {
                self.blame(
                    Breach::Stray,
                    format!("line {place} of no section: {line:?}"),
                );
            }
        }
        let total = self.remains.count;
        if !total.is_some_and(|total| self.count.contains(&total)) {
            self.blame(
                Breach::Total,
                format!("{total:?} in the end, not {:?}", self.count),
            );
        }
        self.violations
    }

    /// A section that was left.
    fn left(&mut self, hold: &Hold<'_>, [before, after]: [u64; 2], left: Time) {
        let step = u64::from(hold.is_exclusive());
        if !self.count.contains(&before) || after != before + step {
            let expected = self.count.clone();
            self.blame(
                Breach::Count,
                format!("{expected:?} was due for {:?}", hold.attempt),
            );
        }
        self.count = after..=after;
        if !hold.is_exclusive() {
            return;
        }
        match self.line_of(hold) {
            None => self.blame(Breach::Missing, format!("no line of {:?}", hold.attempt)),
            Some(Line::Torn(text)) => {
                self.blame(Breach::Torn, format!("{text:?} of {:?}", hold.attempt));
            }
            Some(Line::Whole { count, at, .. }) => {
                if *count != after {
                    self.blame(Breach::Count, format!("line {count} of {:?}", hold.attempt));
                }
                if !(hold.section.enter..=left).contains(at) {
                    self.blame(Breach::Outside, format!("at {at} by {:?}", hold.attempt));
                }
            }
        }
    }

    /// An exclusive section that was cut off at any point.
    fn cut_off(&mut self, hold: &Hold<'_>) {
        match self.line_of(hold) {
            // Without the first piece, the counter was not changed either.
            None => {}
            Some(Line::Torn(_)) => self.count = *self.count.start()..=*self.count.end() + 1,
            Some(Line::Whole { count, at, .. }) => {
                let due = *self.count.start() + 1..=*self.count.end() + 1;
                if !due.contains(count) {
                    self.blame(
                        Breach::Count,
                        format!("line {count}, not {due:?}, of {:?}", hold.attempt),
                    );
                }
                if *at < hold.section.enter {
                    self.blame(Breach::Outside, format!("at {at} by {:?}", hold.attempt));
                }
                self.count = *count..=*count;
            }
        }
    }

    /// The line of a section, which must follow those of the sections before.
    fn line_of(&mut self, hold: &Hold<'_>) -> Option<&'a Line> {
        let owner = (hold.attempt.worker.as_str(), hold.attempt.number);
        let place = match self.places.get(&owner) {
            Some(places) => places[0],
            // A kill can also come between two bytes.
            None if matches!(hold.section.end, End::CutOff { .. }) => self.stump_of(owner)?,
            None => return None,
        };
        self.met[place] = true;
        if self.last.is_some_and(|last| place < last) {
            self.blame(
                Breach::OutOfOrder,
                format!("line {place}, before {:?}: {:?}", self.last, hold.attempt),
            );
        }
        self.last = self.last.max(Some(place));
        Some(&self.remains.lines[place])
    }

    /// The next line, if it is the beginning of a line of this section.
    fn stump_of(&self, (worker, number): (&str, u64)) -> Option<usize> {
        let place = self.last.map_or(0, |last| last + 1);
        match self.remains.lines.get(place)? {
            Line::Torn(text) if format!("<{worker} {number} ").starts_with(text) => Some(place),
            _ => None,
        }
    }

    fn blame(&mut self, kind: Breach, text: String) {
        let text = format!("{}: {text}", self.lock);
        self.violations.push(Violation { kind, text });
    }
}

/// The worker and attempt of a line, if it has them.
fn owner(line: &Line) -> Option<(&str, u64)> {
    match line {
        Line::Whole { worker, number, .. } => Some((worker, *number)),
        Line::Torn(text) => {
            let (worker, rest) = text.strip_prefix('<')?.split_once(' ')?;
            let (number, _) = rest.split_once(' ')?;
            Some((worker, number.parse().ok()?))
        }
    }
}
