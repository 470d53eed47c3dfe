//! Runs the command of `locket exec` to its end, and passes signals on to it.
//!
//! All signals that can be caught are blocked and taken one after the other, so nothing happens in
//! between, and no handler, thread or runtime is needed. What our caller ignores is left alone: the
//! command ignores it too (see `nohup`).

use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use nix::libc::{self, signalfd_siginfo};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{WaitOptions, getsid, waitpid};

use super::start::start;
use crate::sys;

/// What goes wrong with a command.
pub(super) enum Failure {
    /// It could not be started.
    Start(io::Error),
    /// It was started, and how it ends cannot be known.
    Wait(io::Error),
}

/// Runs a command until it ends, whatever signals arrive in the meantime.
pub(super) fn supervise(words: &[OsString]) -> Result<ExitStatus, Failure> {
    // Otherwise the system would not keep how the command ended.
    sys::reset(libc::SIGCHLD);
    let signals = caught();
    let inherited = signals
        .thread_swap_mask(SigmaskHow::SIG_BLOCK)
        .map_err(|e| Failure::Start(e.into()))?;
    let arrivals = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .map_err(|e| Failure::Start(e.into()))?;
    let child = start(words, &inherited).map_err(Failure::Start)?;
    let awaited = rustix::process::Pid::from_raw(child.as_raw());
    // Those that came before the command did not reach it by themselves.
    let mut early = true;
    loop {
        let ended = waitpid(awaited, WaitOptions::NOHANG);
        if let Some((_, status)) = ended.map_err(|e| Failure::Wait(e.into()))? {
            return Ok(ExitStatus::from_raw(status.as_raw()));
        }
        match arrivals.read_signal() {
            Ok(Some(arrival)) => pass_on(&arrival, child, early),
            Ok(None) => {
                early = false;
                // The next read tells what happened, even if this fails.
                let _ = poll(&mut [PollFd::new(&arrivals, PollFlags::IN)], None);
            }
            Err(e) => return Err(Failure::Wait(e.into())),
        }
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
