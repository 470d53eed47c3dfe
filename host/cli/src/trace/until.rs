//! What ends a trace: the end of its command, or else a signal or a time.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::process::ExitStatus;
use std::rc::Rc;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::SignalFd;
use rustix::event::{PollFd, PollFlags, poll};

use crate::exec::end_like;
use crate::exec::supervise::{Failure, Signals, Supervised, readable};
use crate::exit;
use crate::output::eprint_line;
use crate::sys;

/// The signals that end a trace: without a command, or before that is started.
const ENDING: [Signal; 4] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
];

/// Signals wait from here on, also for processes that are started.
pub(super) struct Prepared<'a> {
    command: &'a [OsString],
    signals: Signals,
    /// Those of them that end it.
    ending: SignalFd,
    duration: Option<Duration>,
}

pub(super) enum Until {
    Command {
        program: OsString,
        command: Supervised,
    },
    Interrupt {
        signals: Rc<Signals>,
        time: Option<Instant>,
    },
}

/// How a trace ended.
pub(super) enum End {
    Command(ExitStatus),
    Time,
}

impl<'a> Prepared<'a> {
    pub(super) fn new(command: &'a [OsString], duration: Option<Duration>) -> anyhow::Result<Self> {
        let ending = ENDING.into_iter();
        let ending: SigSet = ending
            .filter(|signal| !sys::is_ignored(*signal as i32))
            .collect();
        let signals = if command.is_empty() {
            Signals::of(ending)?
        } else {
            Signals::of_command()?
        };
        sys::end_first_process();
        Ok(Self {
            command,
            signals,
            ending: readable(&ending)?,
            duration,
        })
    }

    /// Runs `act`, which may block. Until it returns, signals end this process, including those that
    /// are pending already.
    pub(super) fn interruptibly<T>(&self, act: impl FnOnce() -> T) -> io::Result<T> {
        self.signals.restore()?;
        let done = act();
        self.signals.block()?;
        Ok(done)
    }

    /// Starts the command, if there is one.
    pub(super) fn start(self) -> anyhow::Result<Until> {
        let signals = Rc::new(self.signals);
        let Some(program) = self.command.first() else {
            // A time beyond those that the clock has never comes.
            let time = self
                .duration
                .and_then(|all| Instant::now().checked_add(all));
            return Ok(Until::Interrupt { signals, time });
        };
        let started = Supervised::start(self.command, &[], signals);
        Ok(Until::Command {
            program: program.clone(),
            command: started.map_err(|failure| failure.into_error(program))?,
        })
    }
}

/// What can be read as soon as a signal has come that ends it.
impl AsFd for Prepared<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ending.as_fd()
    }
}

impl Until {
    /// Whether the end has come. From then on, signals end this process.
    pub(super) fn look(&mut self) -> anyhow::Result<Option<End>> {
        match self {
            Self::Command { program, command } => {
                let ended = command.look();
                let ended = ended.map_err(|failure: Failure| failure.into_error(program))?;
                if ended.is_some() {
                    command.signals().let_through();
                }
                Ok(ended.map(End::Command))
            }
            Self::Interrupt { signals, time } => {
                if signals.next()?.is_some() {
                    // A second signal ends this process at once.
                    signals.restore()?;
                    return Ok(Some(End::Time));
                }
                let is_over = time.is_some_and(|time| time <= Instant::now());
                if is_over {
                    signals.let_through();
                }
                Ok(is_over.then_some(End::Time))
            }
        }
    }

    /// The time at which it ends by itself.
    pub(super) fn time(&self) -> Option<Instant> {
        match self {
            Self::Command { .. } => None,
            Self::Interrupt { time, .. } => *time,
        }
    }

    /// Waits for the end of the command, which does not depend on the trace.
    pub(super) fn outlast(&mut self) -> anyhow::Result<End> {
        if let Self::Interrupt { signals, .. } = self {
            signals.let_through();
            return Ok(End::Time);
        }
        loop {
            if let Some(end) = self.look()? {
                return Ok(end);
            }
            // The next look tells what happened, even if this fails.
            let _ = poll(&mut [PollFd::new(&*self, PollFlags::IN)], None);
        }
    }
}

impl AsFd for Until {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Command { command, .. } => command.as_fd(),
            Self::Interrupt { signals, .. } => signals.as_fd(),
        }
    }
}

impl End {
    /// The exit code: that of the command, or else that of the trace.
    pub(super) fn code(self, trace: anyhow::Result<u8>) -> anyhow::Result<u8> {
        let Self::Command(status) = self else {
            return trace;
        };
        if let Err(e) = trace
            && !exit::is_broken_pipe(&e)
        {
            eprint_line(format_args!("{e:#}"));
        }
        Ok(end_like(status))
    }
}
