//! Runs the command of `locket exec` or `locket trace` to its end, and passes signals on to it.
//!
//! All signals that can be caught are blocked and taken one after the other, so nothing happens in
//! between, and no handler, thread or runtime is needed. What our caller ignores is left alone: the
//! command ignores it too (see `nohup`).

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use nix::libc::{self, signalfd_siginfo};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{WaitOptions, getsid, waitpid};

use super::start::{start, start_error};
use crate::exit::{self, ExitError};
use crate::output::shell_word;
use crate::sys;

/// What goes wrong with a command.
pub(crate) enum Failure {
    /// It could not be started.
    Start(io::Error),
    /// It was started, and how it ends cannot be known.
    Wait(io::Error),
}

impl Failure {
    /// The error for the user.
    pub(crate) fn into_error(self, program: &OsStr) -> ExitError {
        match self {
            Self::Start(e) => start_error(&e, program),
            Self::Wait(e) => {
                let name = shell_word(program);
                let message = format_args!("cannot tell how `{name}` ended: {e}");
                ExitError::new(exit::SYSTEM, message)
            }
        }
    }
}

/// Runs a command until it ends, whatever signals arrive in the meantime.
pub(super) fn supervise(words: &[OsString]) -> Result<ExitStatus, Failure> {
    let signals = Signals::of_command().map_err(Failure::Start)?;
    let mut supervised = Supervised::start(words, signals)?;
    loop {
        if let Some(status) = supervised.look()? {
            return Ok(status);
        }
        // The next look tells what happened, even if this fails.
        let _ = poll(&mut [PollFd::new(&supervised, PollFlags::IN)], None);
    }
}

/// Signals that are blocked and can be read.
pub(crate) struct Signals {
    all: SigSet,
    arrivals: SignalFd,
    /// The mask before.
    inherited: SigSet,
}

impl Signals {
    pub(crate) fn of(all: SigSet) -> io::Result<Self> {
        let inherited = all.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
        Ok(Self {
            all,
            arrivals: readable(&all)?,
            inherited,
        })
    }

    /// Those that a supervised command gets, and that of its end.
    pub(crate) fn of_command() -> io::Result<Self> {
        // Otherwise the system would not keep how the command ended.
        sys::reset(libc::SIGCHLD);
        Self::of(caught())
    }

    /// Takes the next one, if there is any.
    pub(crate) fn next(&self) -> io::Result<Option<signalfd_siginfo>> {
        Ok(self.arrivals.read_signal()?)
    }

    /// Lets them do again what they did before.
    pub(crate) fn restore(&self) -> io::Result<()> {
        Ok(self.inherited.thread_set_mask()?)
    }

    /// Blocks them once more.
    pub(crate) fn block(&self) -> io::Result<()> {
        Ok(self.all.thread_block()?)
    }
}

/// What can be read as soon as one of these has arrived.
pub(crate) fn readable(signals: &SigSet) -> io::Result<SignalFd> {
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    Ok(SignalFd::with_flags(signals, flags)?)
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.arrivals.as_fd()
    }
}

/// A command that runs, and gets the signals of this process. There is something to look at if its
/// descriptor can be read.
pub(crate) struct Supervised {
    child: Pid,
    signals: Signals,
    /// Those that came before the command did not reach it by themselves.
    early: bool,
}

impl Supervised {
    pub(crate) fn start(words: &[OsString], signals: Signals) -> Result<Self, Failure> {
        Ok(Self {
            child: start(words, &signals.inherited).map_err(Failure::Start)?,
            signals,
            early: true,
        })
    }

    /// Passes on what has arrived. Returns how the command ended, if it has.
    pub(crate) fn look(&mut self) -> Result<Option<ExitStatus>, Failure> {
        loop {
            let child = rustix::process::Pid::from_raw(self.child.as_raw());
            let ended = waitpid(child, WaitOptions::NOHANG);
            if let Some((_, status)) = ended.map_err(|e| Failure::Wait(e.into()))? {
                return Ok(Some(ExitStatus::from_raw(status.as_raw())));
            }
            let Some(arrival) = self.signals.next().map_err(Failure::Wait)? else {
                self.early = false;
                return Ok(None);
            };
            pass_on(&arrival, self.child, self.early);
        }
    }
}

impl AsFd for Supervised {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.signals.as_fd()
    }
}

/// The signals to take: all but those that report a fault of this process, and those that the
/// terminal stops a background process by.
fn caught() -> SigSet {
    use Signal::{
        SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGKILL, SIGPIPE, SIGSEGV, SIGSTOP, SIGSYS, SIGTRAP,
        SIGTTIN, SIGTTOU,
    };
    const LEFT_ALONE: [Signal; 12] = [
        SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGKILL, SIGPIPE, SIGSEGV, SIGSTOP, SIGSYS, SIGTRAP,
        SIGTTIN, SIGTTOU,
    ];
    Signal::iterator()
        .filter(|signal| !LEFT_ALONE.contains(signal) && !sys::is_ignored(*signal as i32))
        .collect()
}

fn pass_on(arrival: &signalfd_siginfo, child: Pid, early: bool) {
    let number = arrival.ssi_signo.cast_signed();
    let Ok(signal) = Signal::try_from(number) else {
        return;
    };
    // The command keeps its process identifier until it is waited for, by this thread.
    if signal != Signal::SIGCHLD && (early || is_for_us_alone(arrival, signal, child)) {
        let _ = kill(child, signal);
    }
    // Ctrl-Z stops us as it stops the command, and `fg` continues both.
    if signal == Signal::SIGTSTP {
        let stop = SigSet::from(signal);
        let _ = raise(signal);
        let _ = stop.thread_unblock();
        let _ = stop.thread_block();
    }
}

/// Whether a signal has not reached the command as well.
fn is_for_us_alone(arrival: &signalfd_siginfo, signal: Signal, child: Pid) -> bool {
    use Signal::{SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTSTP, SIGWINCH};
    let from_kernel = arrival.ssi_code > 0;
    match signal {
        // A terminal sends them to the whole process group in the foreground. A lost connection
        // first goes to the leader of the session alone.
        SIGHUP if from_kernel => getsid(None) == Ok(rustix::process::getpid()),
        SIGINT | SIGQUIT | SIGTSTP | SIGWINCH | SIGCONT if from_kernel => false,
        _ => from_kernel || arrival.ssi_pid.cast_signed() != child.as_raw(),
    }
}
