//! A helper's output, which can be waited for.

use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::process::{ChildStdout, Command};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use crate::sys;

/// Another process of this program, whatever has become of its file.
pub(super) fn this_program() -> io::Result<Command> {
    let mut command = match cfg!(target_os = "linux") {
        true => Command::new("/proc/self/exe"),
        false => Command::new(std::env::current_exe()?),
    };
    command.arg0("locket");
    // It may hang with what it has open: it must not keep the output and the locks of others.
    sys::pass_no_descriptors_on(&mut command);
    Ok(command)
}

#[derive(Debug)]
pub(super) struct Output(ChildStdout);

impl Output {
    #[expect(clippy::unnecessary_wraps, reason = "other systems can fail")]
    pub(super) fn of(output: ChildStdout) -> io::Result<Self> {
        Ok(Self(output))
    }

    /// What it says next: nothing, once it has ended. None if it says nothing in time.
    pub(super) fn next(&mut self, until: Instant) -> anyhow::Result<Option<Vec<u8>>> {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
            match poll(&mut fds, Some(&left.try_into()?)) {
                Ok(0) => return Ok(None),
                Ok(_) => break,
                Err(Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        let mut some = vec![0; 4096];
        let count = self.0.read(&mut some)?;
        some.truncate(count);
        Ok(Some(some))
    }
}

#[cfg(target_os = "linux")]
impl std::os::fd::AsFd for Output {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}
