//! What all workers did, put together, and whether working locks allow it.
//!
//! All times are of one clock, and a section lies within the time for which its lock was held. So two
//! exclusive sections that overlap prove that a lock was held twice. There is no need to search for an
//! order that explains what was seen: the order of entering is the only one. Along it the counter must
//! go up by one with each exclusive section, and the log must have one line for each.
//!
//! A worker that was killed held its lock at least until the signal was sent. From then on others may
//! enter, because the system gives the lock back before it reports the death. The log shows how far
//! the killed worker had come.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context as _, bail};

use self::check::{Hold, answered_wrongly, overlaps};
use self::idle::idle_periods;
use self::object_check::ObjectCheck;
use crate::stress::journal::{Event, Time};
use crate::stress::object::Remains;

pub use self::attempt::{Attempt, Breach, Break, End, Outcome, Section, Violation};
pub use self::idle::IdlePeriod;

mod attempt;
mod check;
mod idle;
mod object_check;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod world;

/// What all workers did.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// All attempts, those of each worker in order.
    pub attempts: Vec<Attempt>,
    /// All breaks.
    pub breaks: Vec<Break>,
    /// The violations that each journal shows by itself.
    violations: Vec<Violation>,
}

impl History {
    /// Adds the journal of a worker; `killed` is when its process was killed, if it was.
    ///
    /// # Errors
    ///
    /// Lines in an order that no worker writes.
    pub fn add(
        &mut self,
        worker: &str,
        events: &[Event],
        killed: Option<Time>,
    ) -> anyhow::Result<()> {
        let start = self.attempts.len();
        let mut open = false;
        for event in events {
            match event {
                Event::Broke { lock, from, at } => self.breaks.push(Break {
                    lock: lock.clone(),
                    between: [*from, *at],
                }),
                Event::Ask {
                    number,
                    lock,
                    mode,
                    limit,
                    at,
                } => {
                    if open {
                        bail!("{worker}: {event:?} before the last attempt has ended");
                    }
                    open = true;
                    self.attempts.push(Attempt {
                        worker: worker.to_owned(),
                        number: *number,
                        lock: lock.clone(),
                        mode: *mode,
                        asked: *at,
                        limit: *limit,
                        outcome: Outcome::CutOff(Time::MAX),
                    });
                }
                event => {
                    let attempt = self.attempts[start..].last_mut();
                    let attempt =
                        attempt.with_context(|| format!("{worker} begins with {event:?}"))?;
                    open = matches!(event, Event::Enter { .. });
                    if let Some(violation) = happen(attempt, event)? {
                        self.violations.push(violation);
                    }
                }
            }
        }
        if open && let Some(attempt) = self.attempts.last_mut() {
            let at = killed.unwrap_or(Time::MAX);
            match &mut attempt.outcome {
                Outcome::Entered(section) => section.end = End::CutOff { at },
                outcome => *outcome = Outcome::CutOff(at),
            }
            if killed.is_none() {
                self.violations.push(Violation {
                    kind: Breach::Unfinished,
                    text: format!("{worker} was not killed, and it ended with {attempt:?}"),
                });
            }
        }
        Ok(())
    }

    /// The number of sections.
    pub fn sections(&self) -> usize {
        let entered = |attempt: &&Attempt| attempt.section().is_some();
        self.attempts.iter().filter(entered).count()
    }

    /// The number of sections in which the lock was lost.
    pub fn losses(&self) -> u64 {
        let ends = self.attempts.iter().filter_map(Attempt::section);
        let lost = ends.filter(|section| matches!(section.end, End::Lost { .. }));
        lost.count() as u64
    }

    /// How often a lock went from one worker to another.
    pub fn hand_offs(&self) -> u64 {
        let locks = self.by_lock().into_values();
        let between = locks.map(|holds| {
            let other = |pair: &&[Hold<'_>]| pair[0].attempt.worker != pair[1].attempt.worker;
            holds.windows(2).filter(other).count() as u64
        });
        between.sum()
    }

    /// All violations; `remains` has the protected object of each lock.
    pub fn check(&self, remains: &HashMap<String, Remains>) -> Vec<Violation> {
        let mut violations = self.violations.clone();
        violations.extend(self.attempts.iter().filter_map(answered_wrongly));
        let locks = self.by_lock();
        for (lock, holds) in &locks {
            let breaks: Vec<_> = self.breaks.iter().filter(|b| b.lock == *lock).collect();
            let lost = holds
                .iter()
                .filter_map(|hold| hold.lost_for_nothing(&breaks));
            violations.extend(lost);
            violations.extend(overlaps(holds, &breaks));
        }
        for (lock, remains) in remains {
            let holds = locks.get(lock.as_str()).map_or(&[][..], Vec::as_slice);
            violations.extend(ObjectCheck::new(lock, remains).through(holds));
        }
        violations
    }

    /// The times during which a lock was free while a worker waited for it. Waits that ended without the
    /// lock count as well; those that were cut off do not.
    pub fn idle_periods(&self) -> Vec<IdlePeriod> {
        let mut attempts: BTreeMap<&str, Vec<&Attempt>> = BTreeMap::new();
        for attempt in &self.attempts {
            attempts.entry(&attempt.lock).or_default().push(attempt);
        }
        attempts.into_values().flat_map(idle_periods).collect()
    }

    /// The sections of each lock, in the order of entering.
    fn by_lock(&self) -> BTreeMap<&str, Vec<Hold<'_>>> {
        let mut locks: BTreeMap<&str, Vec<Hold<'_>>> = BTreeMap::new();
        for attempt in &self.attempts {
            if let Some(section) = attempt.section() {
                let hold = Hold { attempt, section };
                locks.entry(&attempt.lock).or_default().push(hold);
            }
        }
        for holds in locks.values_mut() {
            holds.sort_by_key(|hold| hold.section.enter);
        }
        locks
    }
}

/// Applies an event to its attempt.
fn happen(attempt: &mut Attempt, event: &Event) -> anyhow::Result<Option<Violation>> {
    let mut violation = None;
    match (&mut attempt.outcome, event) {
        (outcome @ Outcome::CutOff(_), Event::Enter { at }) => {
            let end = End::CutOff { at: Time::MAX };
            *outcome = Outcome::Entered(Section { enter: *at, end });
        }
        (outcome @ Outcome::CutOff(_), Event::GaveUp { why, at }) => {
            *outcome = Outcome::GaveUp(*why, *at);
        }
        (outcome @ Outcome::CutOff(_), Event::Failed { error, at }) => {
            *outcome = Outcome::Failed(error.clone(), *at);
        }
        (Outcome::Entered(section), Event::Leave { counted, at }) => {
            if let End::Lost { .. } = section.end {
                violation = Some(Breach::AfterLost);
            } else {
                let counted = *counted;
                section.end = End::Left { at: *at, counted };
            }
        }
        (Outcome::Entered(section), Event::Lost { at }) => section.end = End::Lost { at: *at },
        (Outcome::Entered(_), Event::Failed { .. }) => violation = Some(Breach::Failed),
        _ => bail!("{event:?} does not follow {attempt:?}"),
    }
    Ok(violation.map(|kind| Violation {
        kind,
        text: format!("{event:?} of {attempt:?}"),
    }))
}
