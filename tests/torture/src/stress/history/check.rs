//! The rules for attempts and sections, without regard to what the lock protects.

use super::{Attempt, Breach, Break, End, Outcome, Section, Violation};
use crate::stress::journal::{Mode, Time, Why};

/// A violation that an attempt shows by itself.
pub(super) fn answered_wrongly(attempt: &Attempt) -> Option<Violation> {
    let kind = match &attempt.outcome {
        Outcome::Failed(..) => Breach::Failed,
        Outcome::GaveUp(Why::WouldBlock, _) if attempt.limit != Some(0) => Breach::Timeout,
        Outcome::GaveUp(Why::Timeout, at) => {
            let limit = attempt.limit.filter(|limit| *limit > 0);
            let waited = at.saturating_sub(attempt.asked);
            if limit.is_some_and(|limit| waited >= limit) {
                return None;
            }
            Breach::Timeout
        }
        _ => return None,
    };
    Some(Violation {
        kind,
        text: format!("{attempt:?}"),
    })
}

/// A section and its attempt.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hold<'a> {
    pub(super) attempt: &'a Attempt,
    pub(super) section: &'a Section,
}

impl Hold<'_> {
    pub(super) fn is_exclusive(&self) -> bool {
        self.attempt.mode == Mode::Exclusive
    }

    /// The first break that may have ended it. The lock was granted some time before the section was
    /// entered, so a break may be earlier than that.
    fn broken_by<'b>(&self, breaks: &[&'b Break]) -> Option<&'b Break> {
        let End::Lost { at } = self.section.end else {
            return None;
        };
        let may = |b: &&&Break| b.between[1] >= self.attempt.asked && b.between[0] <= at;
        let breaks = breaks.iter().filter(may).copied();
        breaks.min_by_key(|b| b.between[0])
    }

    pub(super) fn lost_for_nothing(&self, breaks: &[&Break]) -> Option<Violation> {
        let lost = matches!(self.section.end, End::Lost { .. });
        (lost && self.broken_by(breaks).is_none()).then(|| Violation {
            kind: Breach::Lost,
            text: format!("without a break: {:?}", self.attempt),
        })
    }

    /// Until when it certainly held the lock; none if the lock may have been broken before it entered.
    fn held_until(&self, breaks: &[&Break]) -> Option<Time> {
        let until = match self.section.end {
            End::Left { at, .. } | End::CutOff { at } => at,
            End::Lost { at } => self.broken_by(breaks).map_or(at, |b| b.between[0]),
        };
        let cut_off = matches!(self.section.end, End::CutOff { .. });
        (cut_off || until >= self.section.enter).then_some(until)
    }
}

/// Sections that began before one that excludes them was over. Each is reported with the earlier one
/// that lasted longest.
pub(super) fn overlaps(holds: &[Hold<'_>], breaks: &[&Break]) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut longest: [Option<(Time, &Hold<'_>)>; 2] = [None, None];
    for hold in holds {
        let Some(end) = hold.held_until(breaks) else {
            continue;
        };
        let others = if hold.is_exclusive() {
            &longest[..]
        } else {
            &longest[..1]
        };
        let other = others.iter().flatten().max_by_key(|(end, _)| *end);
        if let Some((until, other)) = other
            && *until > hold.section.enter
        {
            let (one, two) = (other.attempt, hold.attempt);
            violations.push(Violation {
                kind: Breach::Overlap,
                text: format!("until {until}: {one:?}; and {two:?}"),
            });
        }
        let longest = &mut longest[usize::from(!hold.is_exclusive())];
        if longest.is_none_or(|(until, _)| end > until) {
            *longest = Some((end, hold));
        }
    }
    violations
}
