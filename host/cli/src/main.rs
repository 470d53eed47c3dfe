//! The command-line tool `locket`; see `locket --help`. This file contains what its subcommands
//! share.

mod break_lock;
mod demo;
mod exec;
mod guest;
mod run;
mod status;

use std::ffi::OsString;
use std::fmt;
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Parser, Subcommand};
use locket::Protocol;

/// File locks that sandboxed WebAssembly components and native processes share.
///
/// A lock belongs to a file. By default it excludes all programs that lock the same file, with
/// flock(2) or with fcntl(2), natively or from within a component.
#[derive(Debug, Parser)]
#[command(name = "locket", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Exec(exec::Exec),
    Run(run::Run),
    Status(status::Status),
    Break(break_lock::Break),
    Demo(demo::Demo),
    #[command(hide = true)]
    DemoWorker(demo::Worker),
}

/// Exit codes: those of `sysexits.h`, and those of shells.
mod exit {
    pub(super) const FAILURE: u8 = 1;
    pub(super) const USAGE: u8 = 64;
    pub(super) const DATA: u8 = 65;
    pub(super) const NO_INPUT: u8 = 66;
    pub(super) const UNAVAILABLE: u8 = 69;
    pub(super) const CANNOT_EXECUTE: u8 = 126;
    pub(super) const NOT_FOUND: u8 = 127;
    /// The code of a process killed by `SIGABRT`, which is the closest equivalent of a trap.
    pub(super) const TRAP: u8 = 134;
    pub(super) const INTERRUPTED: u8 = 130;
}

/// Runs the command line of this process.
fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
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
    let result = match cli.command {
        Command::Exec(exec) => exec.run(),
        Command::Run(run) => run.run(),
        Command::Status(status) => status.run(),
        Command::Break(command) => command.run(),
        Command::Demo(demo) => demo.run(),
        Command::DemoWorker(worker) => worker.run(),
    };
    match result {
        Ok(code) => code.into(),
        Err(error) => {
            if !is_broken_pipe(&error) {
                say(format_args!("{error:#}"));
            }
            let code = error
                .chain()
                .find_map(|cause| cause.downcast_ref::<Coded>());
            code.map_or(exit::FAILURE, |coded| coded.code).into()
        }
    }
}

/// Prints a message on standard error. Ignores write errors.
fn say(message: impl fmt::Display) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "locket: {message}");
}

/// Whether the error is that the reader of our output has gone away. It needs no message.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
}

/// An error that determines the exit code.
#[derive(Debug)]
struct Coded {
    code: u8,
    message: String,
}

impl fmt::Display for Coded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Coded {}

/// Creates an error that makes the tool exit with `code`.
fn coded(code: u8, message: impl fmt::Display) -> anyhow::Error {
    Coded {
        code,
        message: message.to_string(),
    }
    .into()
}

/// Turns an error of the lock engine into one with a hint on how to fix it. If the path is not the
/// cause, the tool exits with `otherwise`.
fn lock_error(error: &locket::Error, otherwise: u8) -> anyhow::Error {
    let code = if error.is_unsupported() {
        exit::UNAVAILABLE
    } else if error.is_denied() || error.is_not_found() || error.is_invalid_path() {
        exit::NO_INPUT
    } else {
        otherwise
    };
    let hint = if error.is_unsupported() {
        "; try another `--protocol`, or a path on a local file system"
    } else if error.is_denied() {
        "; check the permissions: an exclusive lock needs write access to the file, \
         `--shared` and `--protocol flock` need only read access"
    } else if error.is_not_found() {
        "; create the directory first"
    } else if error.is_invalid_path() {
        "; choose the path of a regular file, or a path that does not exist yet"
    } else {
        ""
    };
    coded(code, format_args!("{error}{hint}"))
}

/// Parses a protocol name.
fn protocol() -> impl TypedValueParser<Value = Protocol> {
    PossibleValuesParser::new(Protocol::ALL.iter().map(|protocol| protocol.name()))
        .try_map(|name| name.parse::<Protocol>())
}

/// Parses a number of seconds, which may have a fraction.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text
        .parse()
        .map_err(|_| "not a number of seconds, such as 2.5".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|e| e.to_string())
}

/// Formats a duration for people.
fn human(duration: Duration) -> String {
    if duration < Duration::from_secs(60) {
        let digits = if duration < Duration::from_secs(10) {
            2
        } else {
            0
        };
        format!("{:.digits$} s", duration.as_secs_f64())
    } else {
        indicatif::HumanDuration(duration).to_string()
    }
}

/// Joins a command line into one line of text.
fn one_line<'a>(words: impl IntoIterator<Item = &'a OsString>) -> String {
    let words: Vec<_> = words
        .into_iter()
        .map(|word| word.to_string_lossy())
        .collect();
    printable(&words.join(" "))
}

/// Makes untrusted text safe to print on a terminal.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}
