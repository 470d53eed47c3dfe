//! Notifications of the system about the directories of lock files: none on this system.

use std::io;
use std::path::Path;
use std::thread;
use std::time::Duration;

pub(super) struct Changes;

impl Changes {
    pub(super) fn of<'a>(_: impl Iterator<Item = &'a Path>) -> Self {
        Self
    }

    /// Waits until the time is over.
    #[expect(clippy::unnecessary_wraps, reason = "other systems can fail")]
    #[expect(
        clippy::disallowed_methods,
        reason = "the system reports no lock that comes or goes"
    )]
    pub(super) fn wait(&self, time: Duration) -> io::Result<()> {
        thread::sleep(time);
        Ok(())
    }
}
