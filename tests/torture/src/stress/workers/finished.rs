//! What is left of a group of worker processes once all have ended.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use super::Dirs;
use crate::stage::Outcome;
use crate::stress::history::{History, Outcome as Answer, Violation};
use crate::stress::object::Remains;

/// What is left of a group.
#[derive(Debug)]
pub struct Finished {
    /// What they did.
    pub history: History,
    /// What their locks protected.
    pub remains: HashMap<String, Remains>,
    /// The processes that failed, and those that got stuck.
    pub failures: Vec<String>,
    /// When the last process ended, and if they were made to end, how long that took.
    pub(super) over: Instant,
    pub(super) finished_within: Option<Duration>,
    pub(super) dirs: Dirs,
}

impl Finished {
    /// What broke a promise.
    pub fn violations(&self) -> Vec<Violation> {
        self.history.check(&self.remains)
    }

    fn sections_by_kind(&self) -> BTreeMap<&str, u64> {
        let mut kinds = BTreeMap::new();
        let attempts = self.history.attempts.iter();
        for attempt in attempts.filter(|attempt| attempt.section().is_some()) {
            let kind = attempt.worker.rsplit_once('-').map_or("", |(_, kind)| kind);
            *kinds.entry(kind).or_default() += 1;
        }
        kinds
    }

    /// Adds amounts and violations to the outcome of a stage. If there are violations, the journals are
    /// kept.
    pub fn report(self, outcome: &mut Outcome) {
        /// One violation draws others after it.
        const MOST: usize = 20;
        outcome.did("sections", self.history.sections() as u64);
        for (kind, sections) in self.sections_by_kind() {
            outcome.detail(&format!("by {kind}"), sections);
        }
        for attempt in &self.history.attempts {
            if let Answer::GaveUp(why, _) = attempt.outcome {
                outcome.detail(&format!("answers of {why}"), 1);
            }
        }
        let breaks = self.history.breaks.len();
        if breaks > 0 {
            outcome.did("breaks", breaks as u64);
            outcome.did("losses that holders noticed", self.history.losses());
        }
        if let Some(finished_within) = self.finished_within {
            outcome.measured(
                "all processes end within",
                format_args!("{finished_within:.1?}"),
            );
        }
        let violations = self.violations();
        let more = violations.len().saturating_sub(MOST);
        let told = violations.iter().take(MOST).map(Violation::to_string);
        outcome.violations.extend(told.chain(self.failures));
        if more > 0 {
            outcome.violations.push(format!("and {more} more"));
        }
        if !outcome.violations.is_empty() {
            let dir = self.dirs.all.keep();
            outcome
                .violations
                .push(format!("the journals are in {}", dir.display()));
        }
    }
}
