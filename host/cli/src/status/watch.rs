//! `locket status --watch`: prints each change until it is interrupted.
//!
//! The system tells of entries that come and go, which existence locks are. Nothing tells of kernel
//! locks, so all paths are examined in short intervals, too.

use std::ffi::{OsStr, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};
use rustix::io::Errno;

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
        let changes = notifications.get_or_insert_with(|| Changes::of(&watched));
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

/// Notifications of entries that come, go or were written.
struct Changes {
    inotify: Option<OwnedFd>,
    names: Vec<OsString>,
}

impl Changes {
    /// Without an answer of the system, the interval has to do.
    fn of(paths: &[Watched<'_>]) -> Self {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok();
        let mut names = Vec::new();
        for path in paths.iter().filter(|path| path.stuck.is_none()) {
            let Some(name) = path.path.file_name() else {
                continue;
            };
            let mut beside = name.to_owned();
            beside.push(".lock");
            names.extend([name.to_owned(), beside]);
            let dir = path.path.parent().unwrap_or(Path::new(""));
            let dir = if dir.as_os_str().is_empty() {
                Path::new(".")
            } else {
                dir
            };
            if let Some(inotify) = &inotify {
                let _ = inotify::add_watch(
                    inotify,
                    dir,
                    WatchFlags::CREATE
                        | WatchFlags::DELETE
                        | WatchFlags::MOVE
                        | WatchFlags::CLOSE_WRITE,
                );
            }
        }
        Self { inotify, names }
    }

    /// Waits for a change, or until the time is over.
    fn wait(&self, time: Duration) -> io::Result<()> {
        let until = Instant::now() + time;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let left = left.try_into().map_err(io::Error::other)?;
            let fds = self.inotify.as_ref();
            let mut fds: Vec<_> = fds
                .map(|fd| PollFd::new(fd, PollFlags::IN))
                .into_iter()
                .collect();
            match poll(&mut fds, Some(&left)) {
                Ok(0) => return Ok(()),
                Ok(_) if self.concerns_us() => return Ok(()),
                Ok(_) | Err(Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// Whether one of the notifications is about one of the names. Takes all that there are.
    fn concerns_us(&self) -> bool {
        let mut room = [MaybeUninit::uninit(); 4096];
        let Some(inotify) = &self.inotify else {
            return false;
        };
        let mut reader = Reader::new(inotify, &mut room);
        let mut concerns = false;
        while let Ok(event) = reader.next() {
            let name = event
                .file_name()
                .map(|name| OsStr::from_bytes(name.to_bytes()));
            // Without a name, some were lost.
            concerns |= name.is_none_or(|name| self.names.iter().any(|ours| ours == name));
        }
        concerns
    }
}
