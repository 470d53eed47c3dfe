//! `locket exec`: runs a command while holding a lock, like `flock(1)`.
//!
//! The command inherits the descriptor that carries the lock. If this process is killed in a way
//! that it cannot catch, the command therefore stays protected until it and all its children have
//! ended. In every other case this process outlives the command and releases the lock itself, so a
//! daemon that the command leaves behind does not keep the lock. An existence lock names this
//! process as its holder. A descriptor of the command carries it, too, for users of Locket; those
//! of other libraries take it over, as does anyone in the protocols that have no descriptor.

mod supervise;

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use clap::Args;
use locket::{Engine, Guard, Mode, OnRelease, Protocol};
use rustix::io::{FdFlags, fcntl_setfd};
use tokio::process::Command;

use self::supervise::{exit_code, supervise};
use crate::args::{ProtocolArgs, seconds};
use crate::exit::{self, ExitError};
use crate::output::{eprint_line, human_duration, one_line};

const PROTOCOL: &str =
    "Locking mechanism, and thus which programs the lock excludes [default: native]";

const PROTOCOLS: &str = "\
Locking mechanism, and thus which programs the lock excludes [default: native]

- native: users of flock(2) and users of fcntl(2)
- flock: users of flock(2)
- fcntl: users of fcntl(2)
- link, symlink, mkdir: users of pylockfile, by an entry PATH.lock
- pid-file: users of pylockfile, by PATH itself, which exists only while it is locked
- soft: users of filelock's SoftFileLock, by PATH itself, likewise
- sqlite: users of pylockfile, by a row in --database";

/// Run a command while holding a lock.
///
/// Creates an empty lock file if it does not exist, and never changes the content of an existing
/// one. Releases the lock when COMMAND ends.
///
/// Forwards SIGTERM and SIGHUP to COMMAND. The terminal sends SIGINT and SIGQUIT to COMMAND
/// directly. In each case, waits for COMMAND to end.
#[derive(Args, Debug)]
#[command(
    override_usage = "locket exec [OPTIONS] PATH -- COMMAND [ARG]...",
    after_help = "\
Examples:
  locket exec app.lock -- make install          wait as long as it takes
  locket exec -n backup.lock -- ./backup.sh     fail immediately if the lock is held
  locket exec -w 2.5 -E 75 app.lock -- ./step   wait at most 2.5 seconds, then exit with 75
  locket exec -s data.lock -- ./report          share the lock with other readers

Exit status:
  that of COMMAND, or 128 + N if signal N ended it;
  1 (or -E) the lock could not be acquired, 64 invalid usage, 66 the lock file cannot be opened,
  69 locks are not available for it, 126 COMMAND cannot be executed, 127 COMMAND was not found",
    mut_arg("protocol", |arg| {
        arg.help(PROTOCOL).long_help(PROTOCOLS).hide_possible_values(true)
    }),
    mut_arg("database", |arg| {
        arg.help("Database for `--protocol sqlite`, for example locks.db")
    })
)]
pub(crate) struct Exec {
    /// Acquire a shared lock; it excludes only exclusive holders
    #[arg(short, long, overrides_with = "exclusive")]
    shared: bool,

    /// Acquire an exclusive lock; this is the default
    #[arg(short = 'x', long, overrides_with = "shared")]
    exclusive: bool,

    /// Fail immediately if the lock is held
    #[arg(short, long, overrides_with = "timeout")]
    nonblock: bool,

    /// Wait at most SECONDS, for example 10 or 0.5; 0 is the same as --nonblock
    #[arg(short = 'w', long, value_name = "SECONDS", value_parser = seconds)]
    #[arg(overrides_with = "nonblock")]
    timeout: Option<Duration>,

    /// Exit with this code if the lock could not be acquired, for example 75
    #[arg(short = 'E', long, value_name = "N", default_value_t = exit::FAILURE)]
    conflict_exit_code: u8,

    #[command(flatten)]
    locking: ProtocolArgs,

    /// Also take over an existence lock whose holder is alive once it is SECONDS old, for example
    /// 3600
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    stale_after: Option<Duration>,

    /// Remove the lock file on release; unsafe with programs that might lock the removed file
    #[arg(long)]
    remove: bool,

    /// Report progress on standard error
    #[arg(short, long)]
    verbose: bool,

    /// File to lock, for example app.lock
    path: PathBuf,

    /// Command to run, and its arguments, for example `-- make -j4`
    #[arg(required = true, trailing_var_arg = true)]
    command: Vec<OsString>,
}

impl Exec {
    pub(crate) fn run(self) -> anyhow::Result<u8> {
        let Some(guard) = self.acquire()? else {
            return Ok(self.conflict_exit_code);
        };
        let line = one_line(&self.command);
        self.verbose(format_args!("executing {line}"));
        let start = Instant::now();
        let status = self.execute(&guard)?;
        // Release explicitly: a descendant may still have the descriptor, and dropping the guard
        // would leave the lock to it.
        if let Err(e) = guard.release() {
            eprint_line(format_args!(
                "warning: {e}; `{line}` may have run without protection"
            ));
        }
        let code = exit_code(status);
        self.verbose(format_args!(
            "{status} after {}; released the lock",
            human_duration(start.elapsed())
        ));
        Ok(code)
    }

    fn verbose(&self, message: impl std::fmt::Display) {
        if self.verbose {
            eprint_line(message);
        }
    }

    /// Acquires the lock. Returns `None` if others hold it for too long.
    fn acquire(&self) -> anyhow::Result<Option<Guard>> {
        let on_release = if self.remove {
            OnRelease::Remove
        } else {
            OnRelease::Keep
        };
        let options = self
            .locking
            .options(self.locking.protocol_or_default())
            .stale_after(self.stale_after)
            .on_release(on_release);
        let lock = Engine::new()
            .open_with(&self.path, &options)
            .map_err(|e| ExitError::from_lock(&e, exit::NO_INPUT))?;
        let mode = if self.shared {
            Mode::Shared
        } else {
            Mode::Exclusive
        };
        let timeout = if self.nonblock {
            Some(Duration::ZERO)
        } else {
            self.timeout
        };
        let path = self.path.display();
        let start = Instant::now();
        let mut result = lock.acquire(mode, Duration::ZERO);
        if timeout != Some(Duration::ZERO) && result.as_ref().is_err_and(|e| e.is_would_block()) {
            self.verbose(format_args!("waiting for the {mode} lock of {path}"));
            result = lock.acquire(mode, timeout);
        }
        match result {
            Ok(guard) => {
                let time = human_duration(start.elapsed());
                self.verbose(format_args!(
                    "acquired the {mode} lock of {path} after {time}"
                ));
                Ok(Some(guard))
            }
            // As with flock(1), only the exit code reports it, to keep scripts quiet.
            Err(e) if e.is_would_block() || e.is_timeout() => {
                self.verbose(format_args!(
                    "{e}; `locket status {path}` shows who holds it"
                ));
                Ok(None)
            }
            Err(e) => Err(ExitError::from_lock(&e, exit::UNAVAILABLE).into()),
        }
    }

    fn execute(&self, guard: &Guard) -> anyhow::Result<ExitStatus> {
        // This process has one thread, so no other thread can fork at the wrong moment.
        let protocol = self.locking.protocol_or_default();
        if !matches!(protocol, Protocol::Symlink | Protocol::Sqlite) {
            fcntl_setfd(guard.as_fd(), FdFlags::empty())?;
        }
        let (program, args) = self.command.split_first().expect("clap requires a command");
        let mut command = Command::new(program);
        command.args(args);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let status = runtime.block_on(supervise(command));
        status.map_err(|e| start_error(&e, program).into())
    }
}

/// The error for a command that could not be started.
fn start_error(error: &io::Error, program: &OsStr) -> ExitError {
    let name = program.display();
    if error.kind() == io::ErrorKind::NotFound {
        let hint = "check the spelling, PATH and, for a script, its interpreter";
        ExitError::new(
            exit::NOT_FOUND,
            format_args!("`{name}` was not found; {hint}"),
        )
    } else {
        let hint = "is it a program, with permission to execute?";
        ExitError::new(
            exit::CANNOT_EXECUTE,
            format_args!("cannot execute `{name}`: {error}; {hint}"),
        )
    }
}
