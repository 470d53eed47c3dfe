//! Another process of this program, which answers each question with a line.
//!
//! A call that waits for a file system may be beyond every signal, and hangs whichever process made
//! it until the file system answers. So the tool asks a helper, and leaves one alone that does not
//! answer in time.

#[cfg(unix)]
#[path = "helper/unix.rs"]
mod system;
#[cfg(windows)]
#[path = "helper/windows.rs"]
mod system;

use std::fmt;
use std::io::{self, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;

use self::system::{Output, this_program};
use crate::exit::{self, ExitError};

#[cfg(target_os = "linux")]
const HINT: &str = "; is `/proc` mounted?";
#[cfg(not(target_os = "linux"))]
const HINT: &str = "";

/// The process. It ends with its input, so also if this is dropped, unless it hangs.
#[derive(Debug)]
pub(crate) struct Helper {
    child: Child,
    output: Output,
    /// What it has said since it was asked.
    said: Vec<u8>,
}

impl Helper {
    /// Starts the subcommand to which `prepare` sets the arguments.
    pub(crate) fn start(prepare: impl FnOnce(&mut Command)) -> anyhow::Result<Self> {
        let cannot_start = |e: io::Error| {
            let message = "cannot start another process of this program";
            ExitError::new(exit::SYSTEM, format_args!("{message}: {e}{HINT}"))
        };
        let mut command = this_program().map_err(cannot_start)?;
        prepare(&mut command);
        let streams = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = streams
            .stderr(Stdio::null())
            .spawn()
            .map_err(cannot_start)?;
        let output = child.stdout.take().expect("it is a pipe");
        Ok(Self {
            child,
            output: Output::of(output)?,
            said: Vec::new(),
        })
    }

    /// The number of the process.
    #[cfg(target_os = "linux")]
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks, once the last answer is there.
    pub(crate) fn ask(&mut self, question: &[u8]) -> anyhow::Result<()> {
        let asked = match &mut self.child.stdin {
            Some(input) => input.write_all(question),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        };
        // Not an error of a pipe in the chain: it is not the reader of our output that is gone.
        asked.map_err(|e| has_ended(&e).into())
    }

    /// The answer, if it comes in time.
    pub(crate) fn answer<A: DeserializeOwned>(
        &mut self,
        patience: Duration,
    ) -> anyhow::Result<Option<A>> {
        let until = Instant::now() + patience;
        while !self.said.ends_with(b"\n") {
            match self.output.next(until)? {
                None => return Ok(None),
                Some(nothing) if nothing.is_empty() => {
                    return Err(has_ended(&"it has closed its output").into());
                }
                Some(some) => self.said.extend(some),
            }
        }
        let answer = serde_json::from_slice(&self.said)?;
        self.said.clear();
        Ok(Some(answer))
    }

    /// Closes its input, which is the last question.
    pub(crate) fn close_input(&mut self) {
        drop(self.child.stdin.take());
    }

    /// Kills it. Waits for its end only where that closes what it has open, and not for long.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        #[cfg(windows)]
        system::wait_for_end(&self.child);
    }
}

fn has_ended(why: &dyn fmt::Display) -> ExitError {
    let message = "another process of this program has ended before it answered";
    ExitError::new(exit::SYSTEM, format_args!("{message}: {why}"))
}

/// What can be read as soon as a part of an answer is there.
#[cfg(target_os = "linux")]
impl std::os::fd::AsFd for Helper {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.output.as_fd()
    }
}
