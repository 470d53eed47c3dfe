//! Signals that a handler writes into a pipe. This system does not tell who sent one.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::signal::{SigSet, Signal, raise};
use nix::unistd::{Pid, getpgrp, tcgetpgrp};

use super::caught;
use crate::sys;

/// Signals that are noted and can be read.
pub(crate) struct Signals {
    arrivals: File,
    inherited: SigSet,
}

impl Signals {
    /// Those that a supervised command gets, and that of its end.
    pub(crate) fn of_command() -> io::Result<Self> {
        let this = Self {
            arrivals: sys::signal_notes()?.into(),
            inherited: SigSet::thread_get_mask()?,
        };
        // A program that is started has none of the handlers.
        caught().iter().for_each(|signal| sys::note(signal as i32));
        Ok(this)
    }

    /// Takes the next one, if there is any.
    pub(crate) fn next(&self) -> io::Result<Option<Arrival>> {
        let mut number = [0];
        match (&self.arrivals).read(&mut number) {
            Ok(_) => Ok(Some(Arrival(number[0].into()))),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => self.next(),
            Err(e) => Err(e),
        }
    }

    /// Lets them do again what they did before.
    pub(crate) fn let_through(&self) {
        let caught = caught();
        caught.iter().for_each(|signal| sys::reset(signal as i32));
    }

    /// The mask for programs that are started.
    pub(super) fn inherited(&self) -> &SigSet {
        &self.inherited
    }

    /// Stops this process by one of them, until it is continued.
    pub(super) fn stop_by(&self, signal: Signal) {
        sys::reset(signal as i32);
        let _ = raise(signal);
        sys::note(signal as i32);
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.arrivals.as_fd()
    }
}

/// A signal that has arrived.
pub(crate) struct Arrival(i32);

impl Arrival {
    pub(super) fn number(&self) -> i32 {
        self.0
    }

    pub(super) fn signal(&self) -> Option<Signal> {
        Signal::try_from(self.0).ok()
    }

    /// Whether it has not reached the command as well. A terminal sends these to the whole process
    /// group in the foreground, and so they count as sent by it there.
    pub(super) fn is_for_us_alone(&self, _: Pid) -> bool {
        use Signal::{SIGCONT, SIGINT, SIGQUIT, SIGTSTP, SIGWINCH};
        match self.signal() {
            Some(SIGINT | SIGQUIT | SIGTSTP | SIGWINCH | SIGCONT) => !is_in_foreground(),
            _ => true,
        }
    }
}

/// Whether this process belongs to the group that has the terminal.
fn is_in_foreground() -> bool {
    let group = File::open("/dev/tty").map(tcgetpgrp);
    matches!(group, Ok(Ok(group)) if group == getpgrp())
}
