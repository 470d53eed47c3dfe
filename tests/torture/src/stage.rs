//! What a stage is, what it is given, and what it answers.

use std::fmt::Display;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use serde::Serialize;

use crate::stages;

/// Every stage, in the order in which they run.
#[rustfmt::skip]
pub const STAGES: &[Stage] = &[
    Stage { name: "model", what: "histories of calls, each answer held against a model", run: stages::model::run },
    Stage { name: "interleavings", what: "the queue in every order of a few threads, and in many of many", run: stages::interleavings::run },
    Stage { name: "fuzz", what: "paths of guests, records of holders and sequences of calls, by libFuzzer", run: stages::fuzz::run },
    Stage { name: "errors", what: "every system call of every operation fails, in every way", run: stages::errors::run },
    Stage { name: "kills-at-calls", what: "a process is killed at every system call of every operation", run: stages::kills_at_calls::run },
    Stage { name: "mixed", what: "everybody at once, in every protocol", run: stages::mixed::run },
    Stage { name: "killed", what: "processes are killed all the time", run: stages::killed::run },
    Stage { name: "stopped", what: "processes are stopped for a while", run: stages::stopped::run },
    Stage { name: "hand-off", what: "from one to the next, without delay", run: stages::hand_off::run },
    #[cfg(feature = "components")]
    Stage { name: "attackers", what: "guests that mean harm", run: crate::attacks::run },
    #[cfg(feature = "components")]
    Stage { name: "leaks", what: "every way in which a guest can end", run: stages::leaks::run },
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

    /// Lets some time pass and shows it. In it does `step` over and over, which is to take its time.
    pub fn pass(
        &self,
        time: Duration,
        mut step: impl FnMut() -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let start = Instant::now();
        self.progress.set_length(time.as_secs());
        while start.elapsed() < time {
            step()?;
            self.progress.set_position(start.elapsed().as_secs());
        }
        Ok(())
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
    /// What it consists of, where that is worth a table of its own.
    pub parts: Vec<Report>,
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

    /// Takes over what came of a part.
    pub fn take(&mut self, mut part: Report) {
        let said_by = |what: String| format!("{}: {what}", part.stage);
        let broken = std::mem::take(&mut part.outcome.violations);
        part.broken = broken.len();
        self.violations.extend(broken.into_iter().map(said_by));
        let omitted = std::mem::take(&mut part.outcome.omitted);
        self.omitted.extend(omitted.into_iter().map(said_by));
        self.parts.push(part);
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
    /// How many promises were broken.
    pub broken: usize,
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
            broken: outcome.violations.len(),
            outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_part_broke_the_whole_broke() {
        let part = Stage {
            name: "part",
            what: "breaks a promise",
            run: |_| anyhow::bail!("no reason"),
        };
        let context = Context {
            seed: 0,
            progress: ProgressBar::hidden(),
        };
        let mut whole = Outcome::default();
        whole.take(part.report(&context));
        assert_eq!(whole.violations, ["part: could not be done: no reason"]);
        assert_eq!(whole.parts[0].broken, 1);
    }
}
