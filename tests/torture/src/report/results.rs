//! The last report of each stage, kept in `results.json`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::stage::{Report, STAGES};

/// Reports, one of each stage that has run.
#[derive(Clone, Debug, Default)]
pub struct Results(Vec<Report>);

impl Results {
    fn path() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("results.json")
    }

    /// Those that were saved last.
    ///
    /// # Errors
    ///
    /// Those of files; a file that has something else in it.
    pub fn load() -> Result<Self> {
        let path = Self::path();
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        Ok(Self(serde_json::from_str(&text)?))
    }

    /// Saves them, a line for each stage, as `run --json` prints it.
    ///
    /// # Errors
    ///
    /// Those of files.
    pub fn save(&self) -> Result<()> {
        let lines: Vec<_> = self
            .0
            .iter()
            .map(serde_json::to_string)
            .collect::<Result<_, _>>()?;
        fs::write(Self::path(), format!("[\n{}\n]\n", lines.join(",\n")))?;
        Ok(())
    }

    /// Puts a new report in the place of the last one of its stage.
    pub fn put(&mut self, report: Report) {
        self.0.retain(|other| other.stage != report.stage);
        self.0.push(report);
        let place = |report: &Report| STAGES.iter().position(|stage| stage.name == report.stage);
        self.0
            .sort_by_key(|report| place(report).unwrap_or(STAGES.len()));
    }

    /// The report of a stage, if it has run.
    pub fn of(&self, stage: &str) -> Option<&Report> {
        self.0.iter().find(|report| report.stage == stage)
    }

    /// The report of a part of a stage, if it has run.
    pub fn of_part(&self, stage: &str, part: &str) -> Option<&Report> {
        let parts = &self.of(stage)?.outcome.parts;
        parts.iter().find(|report| report.stage == part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::Outcome;

    #[test]
    fn a_report_replaces_the_last_one_of_its_stage() {
        let report = |stage: &Report, seed| Report {
            seed,
            ..stage.clone()
        };
        let new = |index: usize| Report {
            stage: STAGES[index].name.to_owned(),
            seed: 1,
            seconds: 0.5,
            broken: 0,
            outcome: Outcome::default(),
        };
        let mut results = Results::default();
        results.put(new(1));
        results.put(new(0));
        results.put(report(&new(1), 2));
        let seeds: Vec<_> = results.0.iter().map(|report| report.seed).collect();
        assert_eq!(seeds, [1, 2], "in the order of the stages");
        assert_eq!(
            results.of(STAGES[1].name).map(|report| report.seed),
            Some(2)
        );
    }
}
