//! What a stage is, what it is given, and what it answers.

use std::fmt::Display;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use serde::Serialize;

use crate::stages;

/// Every stage, in the order in which they run.
#[rustfmt::skip]
pub const STAGES: &[Stage] = &[
    Stage { name: "errors", what: "every system call of every operation fails, in every way", run: stages::errors::run },
    Stage { name: "kills-at-calls", what: "a process is killed at every system call of every operation", run: stages::kills_at_calls::run },
];

/// One way to find out whether the promises are kept.
#[derive(Debug)]
pub struct Stage {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it does, in a few words.
    pub what: &'static str,
    /// Does it once, for at most some two minutes. An error is that it could not be done, which
    /// counts as failed too.
    pub run: fn(&Context) -> anyhow::Result<Outcome>,
}

/// What a stage is given.
#[derive(Debug)]
pub struct Context {
    /// What everything by chance follows from.
    pub seed: u64,
    /// To be told how far it is.
    pub progress: ProgressBar,
}

impl Context {
    /// A source of chance, a different one for each purpose.
    pub fn chance(&self, purpose: u64) -> fastrand::Rng {
        let mut rng = fastrand::Rng::with_seed(self.seed);
        for _ in 0..=purpose {
            rng = fastrand::Rng::with_seed(rng.u64(..));
        }
        rng
    }
}

/// What came of a stage.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Outcome {
    /// What was done how often.
    pub amounts: Vec<(String, u64)>,
    /// What was measured, with its unit.
    pub figures: Vec<(String, String)>,
    /// The promises that were broken, each with all that is needed to look for the reason.
    pub violations: Vec<String>,
    /// What could not be done here, and why.
    pub omitted: Vec<String>,
}

impl Outcome {
    /// Says what was done how often.
    pub fn did(&mut self, what: &str, times: u64) {
        match self.amounts.iter_mut().find(|(name, _)| name == what) {
            Some((_, sum)) => *sum += times,
            None => self.amounts.push((what.to_owned(), times)),
        }
    }

    /// Says what was measured.
    pub fn measured(&mut self, what: &str, figure: impl Display) {
        self.figures.push((what.to_owned(), figure.to_string()));
    }

    /// Says that a promise was broken, unless it was kept.
    pub fn must(&mut self, kept: bool, broken: impl FnOnce() -> String) {
        if !kept {
            self.violations.push(broken());
        }
    }
}

/// The times at which so many in a hundred, at least, were done: of nothing, none.
pub fn percentile(times: &mut [Duration], percent: usize) -> Option<Duration> {
    times.sort_unstable();
    let last = times.len().checked_sub(1)?;
    Some(times[(times.len() * percent / 100).min(last)])
}

/// A stage that has run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Which.
    pub stage: &'static str,
    /// By which seed it can be done again.
    pub seed: u64,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// What came of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

impl Stage {
    /// The stage of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        STAGES.iter().find(|stage| stage.name == name)
    }

    /// Runs it.
    pub fn report(&self, context: &Context) -> Report {
        let start = Instant::now();
        let outcome = (self.run)(context).unwrap_or_else(|error| Outcome {
            violations: vec![format!("could not be done: {error:#}")],
            ..Outcome::default()
        });
        Report {
            stage: self.name,
            seed: context.seed,
            seconds: start.elapsed().as_secs_f64(),
            outcome,
        }
    }
}
