//! `locket exec`: runs a command while holding a lock, like `flock(1)`.
//!
//! The command inherits the descriptor that carries the lock. If this process is killed in a way
//! that it cannot catch, the command therefore stays protected until it and all its children have
//! ended. In every other case this process outlives the command and releases the lock itself, so a
//! daemon that the command leaves behind does not keep the lock. An existence lock names this
//! process as its holder, so the command loses its protection if this process is killed.

use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use clap::Args;
use locket::{Engine, Guard, Mode, OnRelease, Options, Protocol};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{Pid, kill_process};
use tokio::process::Command;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{coded, exit, human, lock_error, one_line, protocol, say, seconds};

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
  69 locks are not available for it, 126 COMMAND cannot be executed, 127 COMMAND was not found"
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

    /// Locking mechanism, and thus which programs the lock excludes [default: native]
    ///
    /// - native: users of flock(2) and users of fcntl(2)
    /// - flock: users of flock(2)
    /// - fcntl: users of fcntl(2)
    /// - link, symlink, mkdir: users of pylockfile, by an entry PATH.lock
    /// - pid-file: users of pylockfile, by PATH itself, which exists only while it is locked
    /// - soft: users of filelock's SoftFileLock, by PATH itself, likewise
    /// - sqlite: users of pylockfile, by a row in --database
    #[arg(long, value_name = "PROTOCOL", value_parser = protocol(), hide_possible_values = true)]
    #[arg(verbatim_doc_comment)]
    protocol: Option<Protocol>,

    /// Database for `--protocol sqlite`, for example locks.db
    #[arg(long, value_name = "FILE")]
    database: Option<PathBuf>,

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
        self.tell(format_args!("executing {line}"));
        let start = Instant::now();
        let status = self.execute(&guard)?;
        // Release explicitly: a descendant may still have the descriptor, and dropping the guard
        // would leave the lock to it.
        if let Err(e) = guard.release() {
            say(format_args!(
                "warning: {e}; `{line}` may have run without protection"
            ));
        }
        let code = exit_code(status);
        self.tell(format_args!(
            "{status} after {}; released the lock",
            human(start.elapsed())
        ));
        Ok(code)
    }

    fn tell(&self, message: impl std::fmt::Display) {
        if self.verbose {
            say(message);
        }
    }

    /// Acquires the lock. Returns `None` if others hold it for too long.
    fn acquire(&self) -> anyhow::Result<Option<Guard>> {
        let on_release = if self.remove {
            OnRelease::Remove
        } else {
            OnRelease::Keep
        };
        let mut options = Options::new()
            .protocol(self.protocol.unwrap_or_default())
            .stale_after(self.stale_after)
            .on_release(on_release);
        if let Some(database) = &self.database {
            options = options.database(database);
        }
        let lock = Engine::new()
            .open_with(&self.path, &options)
            .map_err(|e| lock_error(&e, exit::NO_INPUT))?;
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
            self.tell(format_args!("waiting for the {mode} lock of {path}"));
            result = lock.acquire(mode, timeout);
        }
        match result {
            Ok(guard) => {
                let time = human(start.elapsed());
                self.tell(format_args!(
                    "acquired the {mode} lock of {path} after {time}"
                ));
                Ok(Some(guard))
            }
            // As with flock(1), only the exit code reports it, to keep scripts quiet.
            Err(e) if e.is_would_block() || e.is_timeout() => {
                self.tell(format_args!(
                    "{e}; `locket status {path}` shows who holds it"
                ));
                Ok(None)
            }
            Err(e) => Err(lock_error(&e, exit::UNAVAILABLE)),
        }
    }

    fn execute(&self, guard: &Guard) -> anyhow::Result<ExitStatus> {
        // This process has one thread, so no other thread can fork at the wrong moment.
        if !self.protocol.unwrap_or_default().is_existence_lock() {
            fcntl_setfd(guard.as_fd(), FdFlags::empty())?;
        }
        let (program, args) = self.command.split_first().expect("clap requires a command");
        let mut command = Command::new(program);
        command.args(args);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(supervise(command)).map_err(|e| {
            let name = program.display();
            if e.kind() == io::ErrorKind::NotFound {
                let hint = "check the spelling, PATH and, for a script, its interpreter";
                coded(
                    exit::NOT_FOUND,
                    format_args!("`{name}` was not found; {hint}"),
                )
            } else {
                let hint = "is it a program, with permission to execute?";
                coded(
                    exit::CANNOT_EXECUTE,
                    format_args!("cannot execute `{name}`: {e}; {hint}"),
                )
            }
        })
    }
}

/// Runs a command until it ends, whatever signals arrive in the meantime.
async fn supervise(mut command: Command) -> io::Result<ExitStatus> {
    let ignored = ignored_signals();
    let catch = |kind: SignalKind| {
        // The command must keep ignoring the signals that our caller ignores (see `nohup`).
        let ignores = ignored >> (kind.as_raw_value() - 1) & 1 == 1;
        (!ignores).then(|| signal(kind)).transpose()
    };
    let mut terminate = catch(SignalKind::terminate())?;
    let mut hang_up = catch(SignalKind::hangup())?;
    let _keyboard = (catch(SignalKind::interrupt())?, catch(SignalKind::quit())?);

    let mut child = command.spawn()?;
    // The child keeps its process identifier until it is waited for, which only `wait` below does.
    let pid = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
    let pass_on = |signal| pid.map(|pid| kill_process(pid, signal));
    loop {
        tokio::select! {
            status = child.wait() => return status,
            () = arrival(&mut terminate) => pass_on(rustix::process::Signal::TERM),
            () = arrival(&mut hang_up) => pass_on(rustix::process::Signal::HUP),
        };
    }
}

async fn arrival(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

/// The signals that this process has ignored since it started, one bit each.
fn ignored_signals() -> u64 {
    procfs::process::Process::myself()
        .and_then(|process| process.status())
        .map_or(0, |status| status.sigign)
}

/// The exit code that a shell would report.
fn exit_code(status: ExitStatus) -> u8 {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| code.try_into().ok())
        .unwrap_or(exit::FAILURE)
}
