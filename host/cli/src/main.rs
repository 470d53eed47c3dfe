//! The command-line tool `locket`; see `locket --help`.

#![cfg_attr(not(test), warn(clippy::disallowed_methods))]

mod args;
mod break_lock;
mod check;
#[cfg(feature = "run")]
mod componentize;
#[cfg(feature = "run")]
mod demo;
mod exec;
mod exit;
mod generate;
#[cfg(feature = "run")]
mod guest;
mod helper;
mod output;
mod paths;
#[cfg(feature = "remote")]
mod remote;
#[cfg(feature = "run")]
mod run;
mod status;
mod sys;
#[cfg(target_os = "linux")]
mod trace;
#[cfg(not(target_os = "linux"))]
#[path = "trace/unavailable.rs"]
mod trace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The version, and which lock servers this build knows.
const VERSION: &str = match (cfg!(feature = "etcd"), cfg!(feature = "postgres")) {
    (true, true) => concat!(
        env!("CARGO_PKG_VERSION"),
        " (lock servers: etcd, PostgreSQL)"
    ),
    (true, false) => concat!(env!("CARGO_PKG_VERSION"), " (lock servers: etcd)"),
    (false, true) => concat!(env!("CARGO_PKG_VERSION"), " (lock servers: PostgreSQL)"),
    (false, false) => concat!(env!("CARGO_PKG_VERSION"), " (no lock servers)"),
};

/// File locks that sandboxed WebAssembly components and native processes share.
///
/// A lock belongs to a file. By default it excludes all programs that lock the same file, with
/// flock(2) or with fcntl(2), natively or from within a component.
#[derive(Debug, Parser)]
#[command(name = "locket", version = VERSION, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Exec(exec::Exec),
    #[cfg(feature = "run")]
    Run(run::Run),
    #[cfg(feature = "run")]
    Componentize(componentize::Componentize),
    Status(status::Status),
    Trace(trace::Trace),
    Break(break_lock::Break),
    Check(check::Check),
    #[cfg(feature = "run")]
    Demo(demo::Demo),
    Completions(generate::Completions),
    Man(generate::Man),
    #[cfg(feature = "run")]
    #[command(hide = true)]
    DemoWorker(demo::Worker),
    #[cfg(feature = "run")]
    #[command(hide = true)]
    DemoDatabaseWorker(demo::DatabaseWorker),
    #[command(hide = true)]
    CheckWorker(check::CheckWorker),
    #[command(hide = true)]
    StatusWorker(status::StatusWorker),
}

/// The same for `locket exec` alone.
#[derive(Debug, Parser)]
#[command(name = "locket", version = VERSION, max_term_width = 100)]
struct ExecCli {
    #[command(subcommand)]
    command: ExecCommand,
}

#[derive(Debug, Subcommand)]
enum ExecCommand {
    Exec(exec::Exec),
}

/// Parses the command line. For `exec`, which scripts run often, the other commands need not be
/// defined.
fn parse() -> Result<Cli, clap::Error> {
    if std::env::args_os()
        .nth(1)
        .is_some_and(|name| name == "exec")
    {
        let ExecCommand::Exec(exec) = ExecCli::try_parse()?.command;
        let command = Command::Exec(exec);
        return Ok(Cli { command });
    }
    Cli::try_parse()
}

/// Runs the command line of this process.
fn main() -> ExitCode {
    let cli = match parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() {
                exit::USAGE.into()
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    #[cfg(unix)]
    sys::keep_ends_of_children();
    let result = match cli.command {
        Command::Exec(exec) => exec.run(),
        #[cfg(feature = "run")]
        Command::Run(run) => run.run(),
        #[cfg(feature = "run")]
        Command::Componentize(command) => command.run(),
        Command::Status(status) => status.run(),
        Command::Trace(trace) => trace.run(),
        Command::Break(command) => command.run(),
        Command::Check(check) => check.run(),
        #[cfg(feature = "run")]
        Command::Demo(demo) => demo.run(),
        Command::Completions(completions) => completions.run(),
        Command::Man(man) => man.run(),
        #[cfg(feature = "run")]
        Command::DemoWorker(worker) => worker.run(),
        #[cfg(feature = "run")]
        Command::DemoDatabaseWorker(worker) => worker.run(),
        Command::CheckWorker(worker) => worker.run(),
        Command::StatusWorker(worker) => worker.run(),
    };
    match result {
        Ok(code) => code.into(),
        Err(error) => {
            if !exit::is_broken_pipe(&error) {
                output::eprint_line(format_args!("{error:#}"));
            }
            exit::code(&error).into()
        }
    }
}
