//! Runs the command of `locket exec` or `locket trace` to its end, and passes signals on to it.
//!
//! All signals that can be caught are taken one after the other, and no thread or runtime is needed.
//! What our caller ignores is left alone: the command ignores it too (see `nohup`).

#[cfg(target_os = "linux")]
#[path = "signals/linux.rs"]
mod signals;
#[cfg(target_os = "macos")]
#[path = "signals/macos.rs"]
mod signals;

use std::ffi::OsString;
use std::io::PipeReader;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::rc::Rc;

use nix::libc;
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::Pid;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{WaitOptions, waitpid};

use self::signals::Arrival;
pub(crate) use self::signals::Signals;
#[cfg(target_os = "linux")]
pub(crate) use self::signals::readable;
pub(crate) use super::failure::Failure;
use super::start::start;
use crate::sys;

/// Runs a command until it ends, whatever signals arrive in the meantime. Once there is something to
/// read from `end`, ends it by SIGTERM; `None` if that is so before it starts.
pub(super) fn supervise(
    words: &[OsString],
    variables: &[(&str, String)],
    signals: &Rc<Signals>,
    mut end: Option<&PipeReader>,
) -> Result<Option<ExitStatus>, Failure> {
    if end.is_some_and(is_readable) {
        return Ok(None);
    }
    let mut supervised = Supervised::start(words, variables, Rc::clone(signals))?;
    loop {
        if let Some(status) = supervised.look()? {
            return Ok(Some(status));
        }
        if end.take_if(|end| is_readable(end)).is_some() {
            supervised.send(Signal::SIGTERM);
        }
        // The next look tells what happened, even if this fails.
        let polled = PollFd::new(&supervised, PollFlags::IN);
        let _ = match end {
            Some(end) => poll(&mut [polled, PollFd::new(end, PollFlags::IN)], None),
            None => poll(&mut [polled], None),
        };
    }
}

fn is_readable(pipe: &PipeReader) -> bool {
    let now = Timespec::default();
    poll(&mut [PollFd::new(pipe, PollFlags::IN)], Some(&now)).is_ok_and(|ready| ready > 0)
}

/// A command that runs, and gets the signals of this process. There is something to look at if its
/// descriptor can be read.
pub(crate) struct Supervised {
    child: Pid,
    signals: Rc<Signals>,
    /// Those that came before the command did not reach it by themselves.
    early: bool,
}

impl Supervised {
    pub(crate) fn start(
        words: &[OsString],
        variables: &[(&str, String)],
        signals: Rc<Signals>,
    ) -> Result<Self, Failure> {
        Ok(Self {
            child: start(words, variables, signals.inherited()).map_err(Failure::Start)?,
            signals,
            early: true,
        })
    }

    /// Sends the command a signal. It keeps its process identifier until it is waited for, by this
    /// thread.
    fn send(&self, signal: Signal) {
        sys::send(self.child, signal as i32);
    }

    #[cfg(target_os = "linux")]
    pub(crate) fn signals(&self) -> &Signals {
        &self.signals
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
            pass_on(&arrival, &self.signals, self.child, self.early);
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

fn pass_on(arrival: &Arrival, signals: &Signals, child: Pid, early: bool) {
    let number = arrival.number();
    // The command keeps its process identifier until it is waited for, by this thread.
    if number != libc::SIGCHLD && (early || arrival.is_for_us_alone(child)) {
        sys::send(child, number);
    }
    // Ctrl-Z stops us as it stops the command, and `fg` continues both.
    if arrival.signal() == Some(Signal::SIGTSTP) {
        signals.stop_by(Signal::SIGTSTP);
    }
}
