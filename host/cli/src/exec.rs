//! `locket exec`: runs a command while holding a lock, or several, like `flock(1)`.
//!
//! The command inherits the descriptor that carries the lock. If this process is killed in a way
//! that it cannot catch, the command therefore stays protected until it and all its children have
//! ended. In every other case this process outlives the command and releases the lock itself, so a
//! daemon that the command leaves behind does not keep the lock. (On Windows, where a lock belongs to
//! one process, the command is ended with this one.) An existence lock names this
//! process as its holder. A descriptor of the command carries it, too, for users of Locket; those
//! of other libraries take it over, as does anyone in the protocols that have no descriptor.

mod acquire;
#[cfg(target_os = "linux")]
mod ancestor;
#[cfg(not(target_os = "linux"))]
#[path = "exec/no_ancestor.rs"]
mod ancestor;
#[cfg(unix)]
mod descriptor;
mod failure;
mod line;
#[cfg(feature = "remote")]
mod loss;
mod open;
#[cfg(unix)]
mod start;
#[cfg(unix)]
pub(crate) mod supervise;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use locket::{Guard, Mode, Protocol};

#[cfg(feature = "remote")]
use self::loss::{Losses, OnLoss};
#[cfg(unix)]
use self::unix::Executed;
#[cfg(unix)]
pub(crate) use self::unix::end_like;
#[cfg(windows)]
use self::windows::{Executed, end_like};
use crate::args::{ProtocolArgs, seconds};
use crate::exit::{self, ExitError};
use crate::output::{HumanDuration, eprint_line, one_line, shown_error};
#[cfg(feature = "remote")]
use crate::remote::RemoteArgs;

const PROTOCOL: &str =
    "Locking mechanism, and thus which programs the lock excludes [default: native]";

const PROTOCOLS: &str = "\
Locking mechanism, and thus which programs the lock excludes [default: native, or flock for what native \
cannot lock: directories, devices, programs, and files that may not be written to]

- native: users of flock(2) and users of fcntl(2)
- flock: users of flock(2)
- fcntl: users of fcntl(2)
- link, symlink, mkdir: users of pylockfile, by an entry PATH.lock
- pid-file: users of pylockfile, by PATH itself, which exists only while it is locked
- soft: users of filelock's SoftFileLock, by PATH itself, likewise
- sqlite: users of pylockfile, by a row in --database";

/// Run a command while holding a lock, or several.
///
/// Creates an empty lock file if it does not exist, and never changes the content of an existing
/// one. Releases the lock when COMMAND ends.
///
/// Passes signals on to COMMAND, and waits for it to end. If a signal ends COMMAND, the same signal
/// ends `locket`.
///
/// Acquires several locks all or none, in whatever order they are named, without deadlocks.
///
/// Takes the command lines of flock(1). With the number of an open descriptor in place of PATH and
/// COMMAND, locks that open file until it is closed, for example in a shell.
#[derive(Args, Debug)]
#[command(
    override_usage = "locket exec [OPTIONS] PATH... -- COMMAND [ARG]...\n       \
                      locket exec [OPTIONS] PATH -c COMMAND\n       \
                      locket exec [OPTIONS] DESCRIPTOR",
    after_help = "\
Examples:
  locket exec app.lock -- make install          wait as long as it takes
  locket exec -n backup.lock -- ./backup.sh     fail immediately if the lock is held
  locket exec -w 2.5 -E 75 app.lock -- ./step   wait at most 2.5 seconds, then exit with 75
  locket exec -s data.lock -- ./report          share the lock with other readers
  locket exec a.lock b.lock -- ./merge          hold both locks
  locket exec out --also-shared in -- ./build   hold `out` alone, and share `in`
  locket exec app.lock -c 'make && ./test'      run a line of the shell
  (locket exec -n 9 || exit 1; make) 9>app.lock lock a part of a script
  locket exec --remote etcd://db1:2379/locks nightly -- ./job
                                                lock a name on a server

Differs from flock(1):
  excludes the users of fcntl(2), too;
  passes signals on, and dies of the signal that ended COMMAND;
  releases the lock when COMMAND ends, even if a daemon stays behind (-F leaves it to that);
  with -u, takes only DESCRIPTOR;
  takes more than one PATH if `--` follows. flock(1) takes the second for the program, and so does
  this command if there is such a program, or an option before the `--`: then use --also

Exit status:
  that of COMMAND, or 128 + N, as a shell sees it, if signal N ended it;
  1 (or -E) the lock could not be acquired, 64 invalid usage, 65 no such descriptor,
  66 the lock file cannot be opened, 69 locks are not available for it, or a `locket exec` that
  waits for this one holds it, 71 the system fails, 76 the lock on a server was lost, 126 COMMAND cannot be executed,
  127 COMMAND was not found",
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
    #[arg(
        short = 'x',
        long,
        visible_short_alias = 'e',
        overrides_with = "shared"
    )]
    exclusive: bool,

    /// Lock PATH, too, in the same mode; may be repeated. Safe in scripts, whatever PATH is called
    #[arg(long, value_name = "PATH")]
    also: Vec<PathBuf>,

    /// Lock PATH, too, in shared mode; may be repeated
    #[arg(long, value_name = "PATH")]
    also_shared: Vec<PathBuf>,

    /// Fail immediately if the lock is held
    #[arg(short, long, visible_aliases = ["nb", "nonblocking"], overrides_with = "timeout")]
    nonblock: bool,

    /// Wait at most SECONDS in all, for example 10 or 0.5; 0 is the same as --nonblock
    #[arg(short = 'w', long, visible_alias = "wait", value_name = "SECONDS")]
    #[arg(value_parser = seconds, overrides_with = "nonblock")]
    timeout: Option<Duration>,

    /// Exit with this code if the lock could not be acquired, for example 75
    #[arg(short = 'E', long, value_name = "N", default_value_t = exit::FAILURE)]
    conflict_exit_code: u8,

    #[command(flatten)]
    locking: ProtocolArgs,

    #[cfg(feature = "remote")]
    #[command(flatten)]
    remote: RemoteArgs,

    /// What to do if the lock on the server is lost while COMMAND runs
    #[cfg(feature = "remote")]
    #[arg(
        long,
        value_name = "ACTION",
        value_enum,
        default_value_t,
        requires = "remote"
    )]
    on_loss: OnLoss,

    /// Set LOCKET_TOKEN to a number that is larger each time the lock is acquired exclusively, kept in
    /// an extended attribute of the lock file; for several locks, to their numbers with commas between
    /// them. A lock on a server sets it unless the server has none
    #[arg(long)]
    fencing: bool,

    /// The same as `--protocol fcntl`
    #[arg(long, conflicts_with = "protocol")]
    fcntl: bool,

    /// Also take over an existence lock whose holder is alive once it is SECONDS old, for example
    /// 3600
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    stale_after: Option<Duration>,

    /// Remove the lock file on release; unsafe with programs that might lock the removed file
    #[arg(long, conflicts_with = "no_fork")]
    remove: bool,

    /// Do not pass the descriptor that carries the lock on to COMMAND
    #[arg(short = 'o', long)]
    close: bool,

    /// Replace this process by COMMAND, which then holds the lock; only with kernel locks
    #[arg(short = 'F', long, conflicts_with = "close")]
    no_fork: bool,

    /// Unlock DESCRIPTOR
    #[arg(short, long)]
    unlock: bool,

    /// Report progress on standard error
    #[arg(short, long)]
    verbose: bool,

    /// Run COMMAND by the shell: $SHELL, or else sh
    #[arg(
        short = 'c',
        long = "command",
        value_name = "COMMAND",
        conflicts_with = "command"
    )]
    line: Option<OsString>,

    /// File to lock, for example app.lock, or several before `--`; or the number of an open descriptor
    path: PathBuf,

    /// Command to run, and its arguments, for example `-- make -j4`
    #[arg(trailing_var_arg = true)]
    command: Vec<OsString>,
}

impl Exec {
    pub(crate) fn run(self) -> anyhow::Result<u8> {
        let Some(words) = self.words() else {
            return self.run_on_descriptor();
        };
        self.check()?;
        let Some(guards) = self.acquire()? else {
            return Ok(self.conflict_exit_code);
        };
        if self.verbose {
            eprint_line(format_args!("executing {}", one_line(&words)));
        }
        let start = Instant::now();
        #[cfg(feature = "remote")]
        let losses = match self.remote.is_set() {
            true => Losses::of(&guards, self.on_loss)?,
            false => Losses::default(),
        };
        #[cfg(feature = "remote")]
        let end = losses.end();
        #[cfg(not(feature = "remote"))]
        let end = None;
        #[cfg(feature = "remote")]
        let is_lost = losses.is_told(&guards);
        #[cfg(not(feature = "remote"))]
        let is_lost = false;
        let released = match guards.len() {
            1 => "the lock",
            _ => "the locks",
        };
        let executed = match is_lost {
            true => Executed::not(),
            false => self.execute(&guards, &words, end),
        };
        // Before anything is said: a reader that does not read must keep no lock.
        let errors = release(guards);
        let status = executed.finish();
        #[cfg(feature = "remote")]
        self.remote.warn();
        #[cfg(feature = "remote")]
        let lost = losses.finish();
        #[cfg(not(feature = "remote"))]
        let lost = false;
        // Whatever became of the command.
        if lost && self.ends_by_loss() {
            return Ok(exit::LOST);
        }
        let Some(status) = status? else {
            unreachable!("only a loss keeps the command from starting")
        };
        for error in &errors {
            let (error, line) = (shown_error(error), one_line(&words));
            eprint_line(format_args!(
                "warning: {error}; `{line}` may have run without protection"
            ));
        }
        // It went before the command ended, and was not noticed until now.
        if errors.iter().any(locket::Error::is_lost) && self.ends_by_loss() {
            return Ok(exit::LOST);
        }
        let time = HumanDuration(start.elapsed());
        self.verbose(format_args!("{status} after {time}; released {released}"));
        // Gives the lease back, which would stay if a signal ends this process below.
        drop(self);
        Ok(end_like(status))
    }

    fn verbose(&self, message: impl std::fmt::Display) {
        if self.verbose {
            eprint_line(message);
        }
    }

    /// Whether the loss of a lock ends the command, and is what this process exits with.
    fn ends_by_loss(&self) -> bool {
        #[cfg(feature = "remote")]
        return self.remote.is_set() && self.on_loss == OnLoss::Term;
        #[cfg(not(feature = "remote"))]
        false
    }

    /// Refuses what does not go together.
    fn check(&self) -> Result<(), ExitError> {
        let existence = self.protocol().is_some_and(Protocol::is_existence_lock);
        #[cfg(feature = "remote")]
        if self.remote.is_set() && (self.remove || self.fencing || self.no_fork || self.fcntl) {
            let why = "a lock on a server takes none of --remove, --fencing, --no-fork and --fcntl";
            return Err(ExitError::new(exit::USAGE, why));
        }
        let why = if self.unlock {
            "--unlock takes the number of an open descriptor, and no COMMAND"
        } else if self.no_fork && existence {
            "--no-fork takes a kernel lock: no process would be left to remove an existence lock"
        } else if self.no_fork && cfg!(windows) {
            let why =
                "--no-fork is not available: Windows cannot replace a process by another program";
            return Err(ExitError::new(exit::UNAVAILABLE, why));
        } else {
            return Ok(());
        };
        Err(ExitError::new(exit::USAGE, why))
    }

    /// What the command gets in its environment beside ours.
    fn variables(guards: &[Guard]) -> Vec<(&'static str, String)> {
        let tokens: Option<Vec<_>> = guards.iter().map(Guard::token).collect();
        let tokens = tokens.map(|tokens| {
            let tokens: Vec<_> = tokens.iter().map(u64::to_string).collect();
            ("LOCKET_TOKEN", tokens.join(","))
        });
        tokens.into_iter().collect()
    }

    /// The protocol that the user chose.
    fn protocol(&self) -> Option<Protocol> {
        if self.fcntl {
            Some(Protocol::Fcntl)
        } else {
            self.locking.protocol
        }
    }

    fn mode(&self) -> Mode {
        if self.shared {
            Mode::Shared
        } else {
            Mode::Exclusive
        }
    }

    fn timeout(&self) -> Option<Duration> {
        if self.nonblock {
            Some(Duration::ZERO)
        } else {
            self.timeout
        }
    }
}

/// Releases explicitly: a descendant may still have a descriptor, and dropping the guard would leave
/// the lock to it.
fn release(guards: Vec<Guard>) -> Vec<locket::Error> {
    let released = guards.into_iter().map(Guard::release);
    released.filter_map(Result::err).collect()
}
