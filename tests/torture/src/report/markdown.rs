//! The tables of the README.

use crate::mutations::Mutation;
use crate::report::results::Results;
use crate::stage::{Report, STAGES, Stage};

/// What each stage does, what must hold, and what its last run came to.
pub fn stages(results: &Results) -> String {
    let rows = STAGES.iter().map(|stage| {
        let done = results.of(stage.name).map(summary);
        [
            format!("`{}`", stage.name),
            stage.what.to_owned(),
            stage.promise.to_owned(),
            done.unwrap_or_else(|| "not run".to_owned()),
        ]
    });
    let table = table(
        ["stage", "what it does", "what must hold", "last run"],
        rows,
    );
    let reports: Vec<_> = STAGES
        .iter()
        .filter_map(|stage| results.of(stage.name))
        .collect();
    let violations: usize = reports.iter().map(|report| report.broken).sum();
    let omitted = reports.iter().flat_map(|report| &report.outcome.omitted);
    let omitted: String = omitted.map(|what| format!("Not done: {what}.\n")).collect();
    format!("{table}\nViolations: {violations}.\n{omitted}")
}

/// What each attack tries, what must hold, and what its last run came to.
pub fn attacks(results: &Results) -> String {
    let rows = parts().map(|part| {
        let report = results.of_part("attackers", part.name);
        let cell = |of: fn(&Report) -> String| report.map_or_else(|| "not run".to_owned(), of);
        [
            part.what.to_owned(),
            part.promise.to_owned(),
            cell(|report| report.outcome.counts(false).join(", ")),
            cell(|report| measured(report).join("; ")),
        ]
    });
    table(["threat", "what must hold", "attempts", "measured"], rows)
}

#[cfg(feature = "components")]
fn parts() -> impl Iterator<Item = &'static Stage> {
    crate::attacks::parts()
}

#[cfg(not(feature = "components"))]
fn parts() -> impl Iterator<Item = &'static Stage> {
    std::iter::empty()
}

/// Each mutation, its bug, and the tests that must fail.
pub fn mutations(all: &[Mutation]) -> String {
    let rows = all.iter().map(|mutation| {
        let tests = mutation.tests.iter().map(|test| format!("`{test}`"));
        [
            format!("`{}`", mutation.name),
            mutation.bug.clone(),
            tests.collect::<Vec<_>>().join(", "),
        ]
    });
    table(["mutation", "bug", "test that must fail"], rows)
}

fn summary(report: &Report) -> String {
    let outcome = &report.outcome;
    let counts = outcome.counts(false).join(", ");
    let all: Vec<_> = std::iter::once(counts)
        .filter(|counts| !counts.is_empty())
        .chain(measured(report))
        .collect();
    match all.is_empty() {
        true => "not done".to_owned(),
        false => all.join("; "),
    }
}

/// Violations, if there are any, and figures.
fn measured(report: &Report) -> Vec<String> {
    let broken = (report.broken > 0).then(|| format!("**{} violations**", report.broken));
    let figures = report.outcome.figures.iter();
    let figures = figures.map(|(what, figure)| format!("{what}: {figure}"));
    broken.into_iter().chain(figures).collect()
}

fn table<const N: usize>(titles: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut text = format!("| {} |\n|{}\n", titles.join(" | "), "---|".repeat(N));
    for row in rows {
        let cells = row.map(|cell| cell.replace('|', "\\|"));
        text.push_str(&format!("| {} |\n", cells.join(" | ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::Outcome;

    #[test]
    fn violations_stand_before_figures() {
        let mut outcome = Outcome::default();
        outcome.did("calls", 1_234_567);
        outcome.detail("calls of one kind", 1);
        outcome.measured("at most", "3 ms");
        let report = |broken| Report {
            stage: "model".to_owned(),
            seed: 7,
            seconds: 0.1,
            broken,
            outcome: outcome.clone(),
        };
        assert_eq!(summary(&report(0)), "1,234,567 calls; at most: 3 ms");
        assert_eq!(
            summary(&report(2)),
            "1,234,567 calls; **2 violations**; at most: 3 ms"
        );
    }

    #[test]
    fn a_bar_in_a_cell_does_not_end_it() {
        let table = table(["a", "b"], [["x|y".to_owned(), String::new()]]);
        assert_eq!(table, "| a | b |\n|---|---|\n| x\\|y |  |\n");
    }
}
