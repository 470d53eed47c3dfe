//! Runs the stages and reports what came of them.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use locket_test_support::fuse;
use torture::faults::subject;
use torture::mutations;
use torture::report::results::Results;
use torture::report::{self, terminal};
use torture::stage::{STAGES, Stage};
use torture::stress::process::Role;

/// Stress tests, fault injection, attacks, and mutation tests
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the stages; fail if a promise is broken
    Run(Run),
    /// List the stages, with what they do
    List,
    /// Render the tables of the README from the saved results, the stages and the patches
    Report,
    /// Run the mutation tests: plant each bug and check that the suite notices
    Mutations {
        /// The mutations [default: all]
        names: Vec<String>,
        /// Print a line of JSON for each mutation instead of a table
        #[arg(long)]
        json: bool,
        /// Run every Nth mutation; with the next commit, the ones after them
        #[arg(long, value_name = "N", default_value_t = 1)]
        #[arg(value_parser = clap::value_parser!(u64).range(1..), conflicts_with = "names")]
        one_in: u64,
    },
    /// A worker process of a stress stage
    #[command(hide = true)]
    Worker {
        /// As JSON
        role: String,
    },
    /// A worker of the stage `servers`
    #[cfg(feature = "servers")]
    #[command(hide = true)]
    ServerWorker {
        /// As JSON
        role: String,
    },
    /// Serves a file system that stops at the command of a stage
    #[command(hide = true)]
    FileSystem,
    /// A process that goes through one operation on a lock while a fault is injected
    #[command(hide = true)]
    Subject(subject::Args),
}

#[derive(clap::Args)]
struct Run {
    /// The stages [default: all]
    #[arg(value_parser = stage_names())]
    stages: Vec<String>,
    /// Seed of all random choices [default: a random one]
    #[arg(long)]
    seed: Option<u64>,
    /// Kill a process at one in so many system calls, by chance
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    one_in: u64,
    /// Repeat for this many hours, each round with the next seed
    #[arg(long, value_name = "HOURS")]
    soak: Option<f64>,
    /// Print a line of JSON for each stage instead of a table
    #[arg(long)]
    json: bool,
    /// Save the reports in results.json and render the tables of the README
    #[arg(long)]
    save: bool,
}

fn stage_names() -> clap::builder::PossibleValuesParser {
    let names = STAGES.iter().map(|stage| stage.name);
    names.collect::<Vec<_>>().into()
}

fn main() -> ExitCode {
    let done = match Args::parse().command {
        Command::Run(args) => run(&args),
        Command::List => {
            for stage in STAGES {
                println!("{:<16} {}", stage.name, stage.what);
            }
            Ok(true)
        }
        Command::Report => report::update_readme().map(|()| true),
        Command::Mutations {
            names,
            json,
            one_in,
        } => mutations::gate(&names, one_in, json),
        Command::Worker { role } => run_worker(&role),
        #[cfg(feature = "servers")]
        Command::ServerWorker { role } => server_worker(&role),
        Command::FileSystem => {
            fuse::daemon::serve();
            Ok(true)
        }
        Command::Subject(args) => return subject::main(args),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(feature = "servers")]
fn server_worker(role: &str) -> anyhow::Result<bool> {
    let role: torture::ServerRole = serde_json::from_str(role)?;
    role.run()?;
    Ok(true)
}

fn run_worker(role: &str) -> anyhow::Result<bool> {
    let role: Role = serde_json::from_str(role)?;
    role.run()?;
    Ok(true)
}

/// Runs stages; whether every promise was kept.
fn run(args: &Run) -> anyhow::Result<bool> {
    let chosen = |stage: &&Stage| {
        args.stages.is_empty() || args.stages.iter().any(|name| name == stage.name)
    };
    let stages: Vec<_> = STAGES.iter().filter(chosen).collect();
    let first = args.seed.unwrap_or_else(|| fastrand::u64(..));
    let soak = args
        .soak
        .map(|hours| Duration::from_secs_f64(hours * 3600.0));
    let start = Instant::now();
    let mut broken = Vec::new();
    for round in 0.. {
        let seed = first.wrapping_add(round);
        if !args.json {
            terminal::print_heading(seed);
        }
        for stage in &stages {
            let report = terminal::run(stage, seed, args.one_in);
            match args.json {
                true => println!("{}", serde_json::to_string(&report)?),
                false => terminal::print(&report),
            }
            if args.save {
                let mut results = Results::load()?;
                results.put(report.clone());
                results.save()?;
            }
            if report.broken > 0 {
                broken.push(report);
            }
        }
        if !args.json {
            terminal::print_total(stages.len(), &broken, start.elapsed());
        }
        if soak.is_none_or(|time| start.elapsed() >= time) {
            break;
        }
    }
    if args.save {
        report::update_readme()?;
    }
    Ok(broken.is_empty())
}
