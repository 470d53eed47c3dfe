//! Examines paths in a process of its own.
//!
//! A call that waits for a file system may be beyond every signal, and hangs whichever process made
//! it until the file system answers. So the tool asks a worker, and leaves one alone that does not
//! answer in time.

use std::ffi::OsString;
use std::io::{self, BufRead, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use clap::Args;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::examine::examine;
use super::report::Report;
use crate::args::ProtocolArgs;
use crate::exit::{self, ExitError};
use crate::sys;

/// How long a path may take to answer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// What ends a path that is asked about. No path contains it.
const END: u8 = 0;

/// A report, or why there is none.
pub(crate) type Answer = Result<Report, String>;

/// Examine paths for `locket status`: each on standard input, with a zero byte at its end
#[derive(Args, Debug)]
pub(crate) struct StatusWorker {
    #[command(flatten)]
    locking: ProtocolArgs,
}

impl StatusWorker {
    pub(crate) fn run(self) -> anyhow::Result<u8> {
        let (mut input, mut output) = (io::stdin().lock(), io::stdout().lock());
        loop {
            let mut path = Vec::new();
            input.read_until(END, &mut path)?;
            if path.pop() != Some(END) {
                return Ok(0);
            }
            let path = PathBuf::from(OsString::from_vec(path));
            let answer: Answer = examine(&path, &self.locking).map_err(|e| format!("{e:#}"));
            writeln!(output, "{}", serde_json::to_string(&answer)?)?;
            output.flush()?;
        }
    }
}

/// The process. It ends with its input.
#[derive(Debug)]
pub(crate) struct Worker {
    child: Child,
    /// What it has said since it was asked.
    said: Vec<u8>,
}

impl Worker {
    pub(crate) fn start(locking: &ProtocolArgs) -> anyhow::Result<Self> {
        let mut command = Command::new("/proc/self/exe");
        command.arg0("locket").arg("status-worker");
        if let Some(protocol) = locking.protocol {
            command.args(["--protocol", protocol.name()]);
        }
        if let Some(database) = &locking.database {
            let mut option = OsString::from("--database=");
            option.push(database);
            command.arg(option);
        }
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

    /// Asks about a path, once the last answer is there.
    pub(crate) fn ask(&mut self, path: &Path) -> io::Result<()> {
        let question = [path.as_os_str().as_bytes(), &[END]].concat();
        let input = self.child.stdin.as_mut().expect("it is a pipe");
        input.write_all(&question)
    }

    /// The answer, if it comes in time.
    pub(crate) fn answer(&mut self, patience: Duration) -> anyhow::Result<Option<Answer>> {
        let until = Instant::now() + patience;
        let output = self.child.stdout.as_mut().expect("it is a pipe");
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let mut fds = [PollFd::new(output, PollFlags::IN)];
            match poll(&mut fds, Some(&left.try_into()?)) {
                Ok(0) => return Ok(None),
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(e) => return Err(e.into()),
            }
            let mut some = [0; 4096];
            let count = output.read(&mut some)?;
            anyhow::ensure!(count > 0, "the process that examines paths has ended");
            self.said.extend_from_slice(&some[..count]);
            if self.said.ends_with(b"\n") {
                let answer = serde_json::from_slice(&self.said)?;
                self.said.clear();
                return Ok(Some(answer));
            }
        }
    }
}

/// What can be read as soon as a part of an answer is there.
impl AsFd for Worker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.child.stdout.as_ref().expect("it is a pipe").as_fd()
    }
}

/// It may hang, so nothing waits for its end.
impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
    }
}
