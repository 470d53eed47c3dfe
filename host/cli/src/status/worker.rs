//! Examines paths in a process of its own, which may hang.

use std::ffi::OsString;
use std::io::{self, BufRead, Write};
use std::path::Path;
use std::time::Duration;

use clap::Args;

use super::examine::examine;
use super::report::Report;
use crate::args::ProtocolArgs;
use crate::helper::Helper;
use crate::paths;

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
            let answer: Answer = match paths::from_bytes(path) {
                Some(path) => examine(&path, &self.locking).map_err(|e| format!("{e:#}")),
                None => Err("the path is not Unicode".into()),
            };
            writeln!(output, "{}", serde_json::to_string(&answer)?)?;
            output.flush()?;
        }
    }
}

/// The process. It ends with its input.
#[derive(Debug)]
pub(crate) struct Worker(Helper);

impl Worker {
    pub(crate) fn start(locking: &ProtocolArgs) -> anyhow::Result<Self> {
        Ok(Self(Helper::start(|command| {
            command.arg("status-worker");
            if let Some(protocol) = locking.protocol {
                command.args(["--protocol", protocol.name()]);
            }
            if let Some(database) = &locking.database {
                let mut option = OsString::from("--database=");
                option.push(database);
                command.arg(option);
            }
        })?))
    }

    /// The number of the process.
    #[cfg(target_os = "linux")]
    pub(crate) fn pid(&self) -> u32 {
        self.0.pid()
    }

    /// Asks about a path, once the last answer is there.
    pub(crate) fn ask(&mut self, path: &Path) -> anyhow::Result<()> {
        self.0.ask(&[paths::bytes(path), &[END]].concat())
    }

    /// The answer, if it comes in time.
    pub(crate) fn answer(&mut self, patience: Duration) -> anyhow::Result<Option<Answer>> {
        self.0.answer(patience)
    }
}

/// What can be read as soon as a part of an answer is there.
#[cfg(target_os = "linux")]
impl std::os::fd::AsFd for Worker {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// It may hang, so nothing waits for its end.
impl Drop for Worker {
    fn drop(&mut self) {
        self.0.kill();
    }
}
