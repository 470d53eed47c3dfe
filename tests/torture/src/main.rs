//! Runs the stages and says what came of them.

use std::io::{IsTerminal as _, stdout};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use torture::faults::subject;
use torture::mutations;
use torture::stage::{Context, Report, STAGES, Stage};
use torture::stress::process::Role;

/// Proof under faults, and against attackers
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the stages; fails where a promise is broken
    Run {
        /// [default: all of them]
        #[arg(value_parser = stage())]
        stages: Vec<String>,
        /// What chance follows from [default: by chance]
        #[arg(long)]
        seed: Option<u64>,
        /// Again and again for so many hours, each time with the next seed
        #[arg(long, value_name = "HOURS")]
        soak: Option<f64>,
        /// A line of JSON for each stage in place of the table
        #[arg(long)]
        json: bool,
    },
    /// Says what the stages do
    List,
    /// A process that takes part in a stage
    #[command(hide = true)]
    Worker {
        /// As JSON
        role: String,
    },
    /// Tries out whether the suite notices bugs that are made on purpose
    Mutations {
        /// [default: all of them]
        names: Vec<String>,
        /// A line of JSON for each bug in place of the table
        #[arg(long)]
        json: bool,
    },
    /// Goes through one operation on a lock, for those that have it fail
    #[command(hide = true)]
    Subject(subject::Args),
}

fn stage() -> clap::builder::PossibleValuesParser {
    let names = STAGES.iter().map(|stage| stage.name);
    names.collect::<Vec<_>>().into()
}

fn main() -> ExitCode {
    match Args::parse().command {
        Command::Run {
            stages,
            seed,
            soak,
            json,
        } => run(&stages, seed, soak, json),
        Command::List => {
            for stage in STAGES {
                println!("{:<16} {}", stage.name, stage.what);
            }
            ExitCode::SUCCESS
        }
        Command::Mutations { names, json } => match mutations::gate(&names, json) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(e) => {
                eprintln!("{e:#}");
                ExitCode::FAILURE
            }
        },
        Command::Worker { role } => run_worker(&role),
        Command::Subject(args) => subject::main(args),
    }
}

fn run_worker(role: &str) -> ExitCode {
    let role: Role = serde_json::from_str(role).expect("a role");
    match role.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(names: &[String], seed: Option<u64>, soak: Option<f64>, json: bool) -> ExitCode {
    let asked = |stage: &&Stage| names.is_empty() || names.iter().any(|name| name == stage.name);
    let stages: Vec<_> = STAGES.iter().filter(asked).collect();
    let first = seed.unwrap_or_else(|| fastrand::u64(..));
    let end = soak.map(|hours| Instant::now() + Duration::from_secs_f64(hours * 3600.0));
    let start = Instant::now();
    let mut failed = 0;
    for round in 0.. {
        let seed = first.wrapping_add(round);
        if !json {
            println!("seed {seed}");
            println!(
                "{:<16}{:>8}{:>12}  amounts, and figures",
                "stage", "time", "violations"
            );
        }
        for stage in &stages {
            let report = report(stage, seed);
            failed += report.outcome.violations.len();
            match json {
                true => println!("{}", serde_json::to_string(&report).expect("plain data")),
                false => print(&report),
            }
        }
        if !json {
            let (stages, seconds) = (stages.len(), start.elapsed().as_secs_f64());
            println!("{stages} stages, {failed} violations, after {seconds:.0} s");
            if cfg!(not(feature = "components")) {
                println!("NOT DONE: what guests take part in; this was built without Wasmtime");
            }
        }
        if end.is_none_or(|end| Instant::now() >= end) {
            break;
        }
    }
    match failed {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

fn report(stage: &Stage, seed: u64) -> Report {
    let progress = if stdout().is_terminal() {
        let style =
            ProgressStyle::with_template("{prefix:<16} {elapsed:>4} {wide_bar} {pos}/{len} {msg}");
        let bar = ProgressBar::new(0).with_prefix(stage.name);
        bar.with_style(style.expect("a valid template"))
    } else {
        ProgressBar::hidden()
    };
    let report = stage.report(&Context {
        seed,
        progress: progress.clone(),
    });
    progress.finish_and_clear();
    report
}

/// A row of the table, in as many lines as it takes.
fn row(report: &Report, indent: &str) {
    let outcome = &report.outcome;
    let amounts = outcome.amounts.iter();
    let amounts = amounts.map(|(what, times)| format!("{times} {what}"));
    let figures = outcome.figures.iter();
    let figures = figures.map(|(what, figure)| format!("{what} {figure}"));
    let done = amounts.chain(figures).collect::<Vec<_>>().join(", ");
    let name = format!("{indent}{}", report.stage);
    let (seconds, broken) = (report.seconds, report.broken);
    let start = format!("{name:<16}{seconds:>6.1} s{broken:>12}  ");
    let next = " ".repeat(start.len());
    let options = textwrap::Options::new(120)
        .initial_indent(&start)
        .subsequent_indent(&next);
    println!("{}", textwrap::fill(&done, options));
}

fn print(report: &Report) {
    row(report, "");
    let (outcome, name) = (&report.outcome, report.stage);
    for part in &outcome.parts {
        row(part, "  ");
    }
    for omitted in &outcome.omitted {
        println!("  NOT DONE: {omitted}");
    }
    for violation in &outcome.violations {
        println!("  VIOLATION: {violation}");
        println!(
            "  again: cargo run --bin torture -- run {name} --seed {}",
            report.seed
        );
    }
}
