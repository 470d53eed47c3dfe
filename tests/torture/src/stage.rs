//! What a stage is, what it is given, and what it reports.

use std::fmt::Display;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use serde::{Deserialize, Serialize};

pub use crate::stages::STAGES;

/// One way to find out whether the promises are kept.
#[derive(Debug)]
pub struct Stage {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it does, in a few words.
    pub what: &'static str,
    /// What must hold, in a few words.
    pub promise: &'static str,
    /// Does it once, for two minutes or so at most. An error means that the stage could not be run,
    /// which counts as a violation.
    pub run: fn(&Context) -> anyhow::Result<Outcome>,
}

/// What a stage is given.
#[derive(Debug)]
pub struct Context {
    /// The seed of all random choices.
    pub seed: u64,
    /// Of the processes that could be killed at each call, one in so many is.
    pub one_in: u64,
    /// Shows how far the stage is.
    pub progress: ProgressBar,
}

impl Context {
    /// A random number generator, a different one for each purpose.
    pub fn chance(&self, purpose: u64) -> fastrand::Rng {
        let mut rng = fastrand::Rng::with_seed(self.seed);
        for _ in 0..=purpose {
            rng = fastrand::Rng::with_seed(rng.u64(..));
        }
        rng
    }

    /// Repeats `step` until the time is over, and shows the progress. A step should not return at once.
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
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Outcome {
    /// What was done how often.
    pub amounts: Vec<(String, u64)>,
    /// How these amounts divide up; too much for the README.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<(String, u64)>,
    /// What was measured, with its unit.
    pub figures: Vec<(String, String)>,
    /// The promises that were broken, each with all that helps to find the reason.
    pub violations: Vec<String>,
    /// What could not be done here, and why.
    pub omitted: Vec<String>,
    /// The reports of its parts, if it has any.
    pub parts: Vec<Report>,
}

impl Outcome {
    /// Counts something that was done.
    pub fn did(&mut self, what: &str, times: u64) {
        add(&mut self.amounts, what, times);
    }

    /// Counts something that is a part of an amount.
    pub fn detail(&mut self, what: &str, times: u64) {
        add(&mut self.details, what, times);
    }

    /// The amounts, and on request the details, as text.
    pub fn counts(&self, details: bool) -> Vec<String> {
        let details = self.details.iter().filter(|_| details);
        let all = self.amounts.iter().chain(details);
        all.map(|(what, times)| format!("{} {what}", grouped(*times)))
            .collect()
    }

    /// Records a measurement.
    pub fn measured(&mut self, what: &str, figure: impl Display) {
        self.figures.push((what.to_owned(), figure.to_string()));
    }

    /// Takes in the report of a part.
    pub fn take(&mut self, mut part: Report) {
        let prefixed = |what: String| format!("{}: {what}", part.stage);
        let broken = std::mem::take(&mut part.outcome.violations);
        part.broken = broken.len();
        self.violations.extend(broken.into_iter().map(prefixed));
        let omitted = std::mem::take(&mut part.outcome.omitted);
        self.omitted.extend(omitted.into_iter().map(prefixed));
        self.parts.push(part);
    }

    /// Records a violation unless a promise was kept.
    pub fn must(&mut self, kept: bool, broken: impl FnOnce() -> String) {
        if !kept {
            self.violations.push(broken());
        }
    }
}

/// Adds to an amount.
fn add(amounts: &mut Vec<(String, u64)>, what: &str, times: u64) {
    match amounts.iter_mut().find(|(name, _)| name == what) {
        Some((_, sum)) => *sum += times,
        None => amounts.push((what.to_owned(), times)),
    }
}

/// A number with a comma after each group of three digits.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.char_indices() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A percentile of the times; none if there are no times. Sorts them.
pub fn percentile(times: &mut [Duration], percent: usize) -> Option<Duration> {
    times.sort_unstable();
    let last = times.len().checked_sub(1)?;
    Some(times[(times.len() * percent / 100).min(last)])
}

/// The report of a stage that has run.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Report {
    /// The name of the stage.
    pub stage: String,
    /// The seed with which it can be repeated.
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
            violations: vec![format!("could not be run: {error:#}")],
            ..Outcome::default()
        });
        Report {
            stage: self.name.to_owned(),
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
    fn a_violation_in_a_part_is_one_of_the_whole() {
        let part = Stage {
            name: "part",
            what: "breaks a promise",
            promise: "nothing",
            run: |_| anyhow::bail!("no reason"),
        };
        let context = Context {
            seed: 0,
            one_in: 1,
            progress: ProgressBar::hidden(),
        };
        let mut whole = Outcome::default();
        whole.take(part.report(&context));
        assert_eq!(whole.violations, ["part: could not be run: no reason"]);
        assert_eq!(whole.parts[0].broken, 1);
    }

    #[test]
    fn digits_are_grouped_in_threes() {
        let numbers = [0, 999, 1_000, 1_234_567].map(grouped);
        assert_eq!(numbers, ["0", "999", "1,000", "1,234,567"]);
    }
}
