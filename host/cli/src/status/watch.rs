//! `locket status --watch`: prints each change until it is interrupted.
//!
//! The system tells of entries that come and go, which existence locks are. Nothing tells of kernel
//! locks, so all paths are examined in short intervals, too.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::changes::Changes;
use super::report::{Report, Unknown};
use super::worker::{Answer, PATIENCE, Worker};
use crate::args::ProtocolArgs;

/// What happens between two looks is missed. `--help` says so.
const INTERVAL: Duration = Duration::from_millis(200);

/// Calls `tell` with each answer that is not that of the time before. Returns only if that fails.
pub(super) fn watch(
    paths: &[PathBuf],
    locking: &ProtocolArgs,
    mut tell: impl FnMut(&Path, &Answer) -> anyhow::Result<()>,
) -> anyhow::Result<u8> {
    #[cfg(unix)]
    crate::sys::end_first_process();
    let mut watched: Vec<_> = paths.iter().map(|path| Watched::new(path)).collect();
    let mut free = None;
    // Only paths that have answered once, since asking for notifications may hang as well.
    let mut notifications = None;
    loop {
        for path in &mut watched {
            let answer = path.look(&mut free, locking)?;
            let name = path.path;
            if let Some(new) = path.news(answer) {
                tell(name, new)?;
            }
        }
        let changes = notifications.get_or_insert_with(|| {
            let answered = watched.iter().filter(|path| path.stuck.is_none());
            Changes::of(answered.map(|path| path.path))
        });
        changes.wait(INTERVAL)?;
    }
}

/// A path, and what is known of it.
struct Watched<'a> {
    path: &'a Path,
    last: Option<Answer>,
    /// The worker that hangs there.
    stuck: Option<Worker>,
}

impl<'a> Watched<'a> {
    fn new(path: &'a Path) -> Self {
        Self {
            path,
            last: None,
            stuck: None,
        }
    }

    /// Asks the worker that is `free`, or a new one. While one hangs, no other is asked.
    fn look(
        &mut self,
        free: &mut Option<Worker>,
        locking: &ProtocolArgs,
    ) -> anyhow::Result<Answer> {
        let (mut worker, patience) = match (self.stuck.take(), free.take()) {
            (Some(stuck), other) => {
                *free = other;
                (stuck, Duration::ZERO)
            }
            (None, worker) => {
                let mut worker = worker.map_or_else(|| Worker::start(locking), Ok)?;
                worker.ask(self.path)?;
                (worker, PATIENCE)
            }
        };
        Ok(match worker.answer(patience)? {
            Some(answer) => {
                *free = Some(worker);
                answer
            }
            None => {
                self.stuck = Some(worker);
                Ok(Report::unknown(self.path, Unknown::NoAnswer))
            }
        })
    }

    /// The answer, if it says something new.
    fn news(&mut self, answer: Answer) -> Option<&Answer> {
        let is_old = self
            .last
            .as_ref()
            .is_some_and(|last| lasting(last) == lasting(&answer));
        if is_old {
            return None;
        }
        Some(self.last.insert(answer))
    }
}

/// An answer without the times at which processes started, which are rounded in one way or the other.
fn lasting(answer: &Answer) -> Answer {
    let mut report = answer.clone()?;
    let holders = report.holders.iter_mut().map(|holder| &mut holder.process);
    let waiters = report.waiters.iter_mut().map(|waiter| &mut waiter.process);
    for process in holders.chain(waiters) {
        process.started = None;
    }
    Ok(report)
}
