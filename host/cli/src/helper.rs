//! Another process of this program, which answers each question with a line.
//!
//! A call that waits for a file system may be beyond every signal, and hangs whichever process made
//! it until the file system answers. So the tool asks a helper, and leaves one alone that does not
//! answer in time.

use std::fmt;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use serde::de::DeserializeOwned;

use crate::exit::{self, ExitError};
use crate::sys;

/// The process. It ends with its input, so also if this is dropped, unless it hangs.
#[derive(Debug)]
pub(crate) struct Helper {
    child: Child,
    /// What it has said since it was asked.
    said: Vec<u8>,
}

impl Helper {
    /// Starts the subcommand to which `prepare` sets the arguments.
    pub(crate) fn start(prepare: impl FnOnce(&mut Command)) -> anyhow::Result<Self> {
        let mut command = Command::new("/proc/self/exe");
        command.arg0("locket");
        prepare(&mut command);
        // It may hang with what it has open: it must not keep the output and the locks of others.
        sys::pass_no_descriptors_on(&mut command);
        let streams = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let child = streams.stderr(Stdio::null()).spawn();
        Ok(Self {
            child: child.map_err(|e| {
                let message = "cannot start another process of this program";
                ExitError::new(
                    exit::SYSTEM,
                    format_args!("{message}: {e}; is `/proc` mounted?"),
                )
            })?,
            said: Vec::new(),
        })
    }

    /// The number of the process.
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
            match self.listen(until)? {
                None => return Ok(None),
                Some(0) => return Err(has_ended(&"it has closed its output").into()),
                Some(_) => {}
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

    /// Kills it, without waiting for its end.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
    }

    /// Takes what it says next, and how long that is: nothing, once it has ended. None if it says
    /// nothing in time.
    fn listen(&mut self, until: Instant) -> anyhow::Result<Option<usize>> {
        let output = self.child.stdout.as_mut().expect("it is a pipe");
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let mut fds = [PollFd::new(output, PollFlags::IN)];
            match poll(&mut fds, Some(&left.try_into()?)) {
                Ok(0) => return Ok(None),
                Ok(_) => break,
                Err(Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        let mut some = [0; 4096];
        let count = output.read(&mut some)?;
        self.said.extend_from_slice(&some[..count]);
        Ok(Some(count))
    }
}

fn has_ended(why: &dyn fmt::Display) -> ExitError {
    let message = "another process of this program has ended before it answered";
    ExitError::new(exit::SYSTEM, format_args!("{message}: {why}"))
}

/// What can be read as soon as a part of an answer is there.
impl AsFd for Helper {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.child.stdout.as_ref().expect("it is a pipe").as_fd()
    }
}
