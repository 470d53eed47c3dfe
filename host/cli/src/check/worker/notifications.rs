//! What the system tells of the entries of a directory.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};

use super::super::actor::PATIENCE;
use super::super::step::{Answer, Change};

pub(super) struct Notifications(OwnedFd);

impl Notifications {
    pub(super) fn of(dir: &Path) -> io::Result<Self> {
        let notifications = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let changes = WatchFlags::CREATE | WatchFlags::DELETE;
        inotify::add_watch(&notifications, dir, changes)?;
        Ok(Self(notifications))
    }

    /// Refuses if nothing is told in time.
    pub(super) fn told(&self, name: &str, change: Change) -> io::Result<Answer> {
        let wanted = match change {
            Change::Creation => ReadFlags::CREATE,
            Change::Removal => ReadFlags::DELETE,
        };
        let until = Instant::now() + PATIENCE / 4;
        let mut room = [MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(&self.0, &mut room);
        loop {
            match reader.next() {
                Ok(event) => {
                    let named = event.file_name().map(|name| name.to_bytes());
                    if named == Some(name.as_bytes()) && event.events().contains(wanted) {
                        return Ok(Answer::Done);
                    }
                }
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    let left = until.saturating_duration_since(Instant::now());
                    let left = left.try_into().map_err(io::Error::other)?;
                    let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
                    if poll(&mut fds, Some(&left))? == 0 {
                        return Ok(Answer::Refused);
                    }
                }
                Err(e) => return Err(e.into()),
            }
        }
    }
}
