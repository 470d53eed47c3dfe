//! The table of a run in the terminal.

use std::io::{IsTerminal as _, stdout};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::stage::{Context, Report, Stage};

/// The heading of the table.
pub fn print_heading(seed: u64) {
    println!("seed {seed}");
    println!(
        "{:<16}{:>8}{:>12}  amounts, and figures",
        "stage", "time", "violations"
    );
}

/// Runs a stage, with a progress bar if this is a terminal.
pub fn run(stage: &Stage, seed: u64, one_in: u64) -> Report {
    let progress = if stdout().is_terminal() {
        let style =
            ProgressStyle::with_template("{prefix:<16} {elapsed:>4} {wide_bar} {pos}/{len} {msg}");
        let bar = ProgressBar::new(0).with_prefix(stage.name);
        bar.with_style(style.expect("the template is valid"))
    } else {
        ProgressBar::hidden()
    };
    let report = stage.report(&Context {
        seed,
        one_in,
        progress: progress.clone(),
    });
    progress.finish_and_clear();
    report
}

/// The rows of a stage and of its parts, and what was not done or went wrong.
pub fn print(report: &Report) {
    print_row(report, "");
    let outcome = &report.outcome;
    for part in &outcome.parts {
        print_row(part, "  ");
    }
    for omitted in &outcome.omitted {
        println!("  NOT DONE: {omitted}");
    }
    print_violations(report);
}

/// The total, and every violation once more, so that the end of the output is enough.
pub fn print_total(stages: usize, broken: &[Report], time: Duration) {
    let violations: usize = broken.iter().map(|report| report.broken).sum();
    let seconds = time.as_secs_f64();
    println!("{stages} stages, {violations} violations, after {seconds:.0} s");
    if cfg!(not(feature = "components")) {
        println!("NOT DONE: the parts that run guests; this was built without Wasmtime");
    }
    if cfg!(not(feature = "servers")) {
        println!("NOT DONE: the stage `servers`; this was built without the feature `servers`");
    }
    for report in broken {
        println!("{}, with seed {}:", report.stage, report.seed);
        print_violations(report);
    }
}

fn print_violations(report: &Report) {
    let (name, seed) = (&report.stage, report.seed);
    for violation in &report.outcome.violations {
        println!("  VIOLATION: {violation}");
        println!("  again: cargo torture run {name} --seed {seed}");
    }
}

/// A row of the table, in as many lines as it takes.
fn print_row(report: &Report, indent: &str) {
    let figures = report.outcome.figures.iter();
    let figures = figures.map(|(what, figure)| format!("{what}: {figure}"));
    let done = report.outcome.counts(true).into_iter().chain(figures);
    let done = done.collect::<Vec<_>>().join(", ");
    let name = format!("{indent}{}", report.stage);
    let (seconds, broken) = (report.seconds, report.broken);
    let start = format!("{name:<16}{seconds:>6.1} s{broken:>12}  ");
    let next = " ".repeat(start.len());
    let options = textwrap::Options::new(120)
        .initial_indent(&start)
        .subsequent_indent(&next);
    println!("{}", textwrap::fill(&done, options));
}
