//! A helper's output. Nothing can wait for a pipe until a time, so a thread reads it.

use std::io::{self, Read};
use std::process::{Child, ChildStdout, Command};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::sys;

/// Another process of this program.
pub(super) fn this_program() -> io::Result<Command> {
    std::env::current_exe().map(Command::new)
}

/// Waits for the end of one that was killed: what it has open cannot be removed before.
pub(super) fn wait_for_end(child: &Child) {
    const PATIENCE: Duration = Duration::from_secs(1);
    let _ = sys::wait_for_end(child, PATIENCE);
}

#[derive(Debug)]
pub(super) struct Output(Receiver<io::Result<Vec<u8>>>);

impl Output {
    pub(super) fn of(mut output: ChildStdout) -> io::Result<Self> {
        let (sender, receiver) = channel();
        let read = move || {
            loop {
                let mut some = vec![0; 4096];
                let read = output.read(&mut some).map(|count| {
                    some.truncate(count);
                    some
                });
                let is_over = read.as_ref().map_or(true, Vec::is_empty);
                if sender.send(read).is_err() || is_over {
                    return;
                }
            }
        };
        thread::Builder::new().spawn(read)?;
        Ok(Self(receiver))
    }

    /// What it says next: nothing, once it has ended. None if it says nothing in time.
    pub(super) fn next(&mut self, until: Instant) -> anyhow::Result<Option<Vec<u8>>> {
        let left = until.saturating_duration_since(Instant::now());
        match self.0.recv_timeout(left) {
            Ok(read) => Ok(Some(read?)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            // It has said that it is over.
            Err(RecvTimeoutError::Disconnected) => Ok(Some(Vec::new())),
        }
    }
}
