//! Signals that are blocked, and read from a descriptor with their senders. Nothing happens in between,
//! and no handler is needed.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::libc::{self, signalfd_siginfo};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;
use rustix::process::getsid;

use super::caught;
use crate::sys;

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
        Self::of(sys::add_real_time(&caught()))
    }

    /// Takes the next one, if there is any.
    pub(crate) fn next(&self) -> io::Result<Option<Arrival>> {
        Ok(self.arrivals.read_signal()?.map(Arrival))
    }

    /// The mask for programs that are started.
    pub(super) fn inherited(&self) -> &SigSet {
        &self.inherited
    }

    /// Stops this process by one of them, until it is continued.
    pub(super) fn stop_by(&self, signal: Signal) {
        // A stop would discard it, and neither this process nor the command would continue.
        if sys::is_pending(libc::SIGCONT) {
            return;
        }
        let stop = SigSet::from(signal);
        let _ = raise(signal);
        let _ = stop.thread_unblock();
        let _ = stop.thread_block();
    }

    /// Lets them do again what they did before. Those that have arrived were meant for what is over,
    /// and do nothing more.
    pub(crate) fn let_through(&self) {
        while let Ok(Some(_)) = self.next() {}
        let _ = self.restore();
    }

    /// Lets them do again what they did before, at once if they have arrived.
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

/// A signal that has arrived.
pub(crate) struct Arrival(signalfd_siginfo);

impl Arrival {
    pub(super) fn number(&self) -> i32 {
        self.0.ssi_signo.cast_signed()
    }

    /// `None` for a real-time signal.
    pub(super) fn signal(&self) -> Option<Signal> {
        Signal::try_from(self.number()).ok()
    }

    /// Whether it has not reached the command as well.
    pub(super) fn is_for_us_alone(&self, child: Pid) -> bool {
        use Signal::{SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTSTP, SIGWINCH};
        let from_kernel = self.0.ssi_code > 0;
        match self.signal() {
            // A terminal sends them to the whole process group in the foreground. A lost connection
            // first goes to the leader of the session alone.
            Some(SIGHUP) if from_kernel => getsid(None) == Ok(rustix::process::getpid()),
            Some(SIGINT | SIGQUIT | SIGTSTP | SIGWINCH | SIGCONT) if from_kernel => false,
            _ => from_kernel || self.0.ssi_pid.cast_signed() != child.as_raw(),
        }
    }
}
