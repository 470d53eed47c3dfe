//! Runs the command of `locket exec` with the descriptors that carry the locks.

use std::ffi::OsString;
use std::io::{self, PipeReader};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::ExitStatus;
use std::rc::Rc;

use locket::{Guard, Protocol};
use nix::sys::signal::SigSet;
use rustix::io::{FdFlags, fcntl_setfd};

use super::Exec;
use super::failure::start_error;
use super::start::command;
use super::supervise::{Signals, supervise};
use crate::exit::{self, ExitError};
use crate::sys;

/// What became of the command.
pub(super) struct Executed {
    status: Result<Option<ExitStatus>, ExitError>,
    /// They wait until the locks are released, which they must not prevent.
    signals: Option<Rc<Signals>>,
}

impl Executed {
    /// It was not started.
    pub(super) fn not() -> Self {
        Self {
            status: Ok(None),
            signals: None,
        }
    }

    /// Lets signals end this process again. Returns how the command ended; `None` if it was to
    /// [end](supervise) before it began.
    pub(super) fn finish(self) -> Result<Option<ExitStatus>, ExitError> {
        if let Some(signals) = self.signals {
            signals.let_through();
        }
        self.status
    }
}

impl Exec {
    /// Runs the command to its end.
    pub(super) fn execute(
        &self,
        guards: &[Guard],
        words: &[OsString],
        end: Option<&PipeReader>,
    ) -> Executed {
        let mut signals = None;
        let status = self.run_command(guards, words, end, &mut signals);
        Executed { status, signals }
    }

    fn run_command(
        &self,
        guards: &[Guard],
        words: &[OsString],
        end: Option<&PipeReader>,
        signals: &mut Option<Rc<Signals>>,
    ) -> Result<Option<ExitStatus>, ExitError> {
        let system = |e: io::Error| ExitError::new(exit::SYSTEM, e);
        // No other thread of this process forks, so none can at the wrong moment.
        let carried = !matches!(self.protocol(), Some(Protocol::Symlink | Protocol::Sqlite));
        #[cfg(feature = "remote")]
        let carried = carried && !self.remote.is_set();
        for guard in guards.iter().filter(|_| carried && !self.close) {
            fcntl_setfd(guard.as_fd(), FdFlags::empty()).map_err(|e| system(e.into()))?;
        }
        if self.no_fork {
            let mask = SigSet::thread_get_mask().map_err(|e| system(e.into()))?;
            let mut command = command(words, mask);
            command.envs(Self::variables(guards));
            sys::keep_ends_of_children_as_before();
            return Err(start_error(&command.exec(), &words[0]));
        }
        let caught = Signals::of_command().map_err(|e| start_error(&e, &words[0]))?;
        let signals = signals.insert(Rc::new(caught));
        let supervised = supervise(words, &Self::variables(guards), signals, end);
        supervised.map_err(|failure| failure.into_error(&words[0]))
    }
}

/// Ends as the command did: by the same signal, or with the code that is returned.
pub(crate) fn end_like(status: ExitStatus) -> u8 {
    if let Some(signal) = status.signal() {
        sys::die_of(signal);
    }
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| code.try_into().ok())
        .unwrap_or(exit::FAILURE)
}
