//! Notifications of the system about the directories of lock files.

use std::ffi::{OsStr, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};
use rustix::io::Errno;

/// Notifications of entries that come, go or were written.
#[derive(Debug)]
pub(crate) struct Changes {
    inotify: Option<OwnedFd>,
    names: Vec<OsString>,
}

impl Changes {
    /// Without an answer of the system, the interval has to do.
    pub(crate) fn of<'a>(paths: impl Iterator<Item = &'a Path>) -> Self {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok();
        let mut names = Vec::new();
        for path in paths {
            let Some(name) = path.file_name() else {
                continue;
            };
            let mut beside = name.to_owned();
            beside.push(".lock");
            names.extend([name.to_owned(), beside]);
            let dir = path.parent().unwrap_or(Path::new(""));
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
    pub(crate) fn wait(&self, time: Duration) -> io::Result<()> {
        let until = Instant::now() + time;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let left = left.try_into().map_err(io::Error::other)?;
            let fd = self.descriptor().map(|fd| PollFd::new(fd, PollFlags::IN));
            let mut fds: Vec<_> = fd.into_iter().collect();
            match poll(&mut fds, Some(&left)) {
                Ok(0) => return Ok(()),
                Ok(_) if self.concerns_us() => return Ok(()),
                Ok(_) | Err(Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// What can be read as soon as there is a notification.
    pub(crate) fn descriptor(&self) -> Option<&OwnedFd> {
        self.inotify.as_ref()
    }

    /// Whether one of the notifications is about one of the names. Takes all that there are.
    pub(crate) fn concerns_us(&self) -> bool {
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
