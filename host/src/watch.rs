//! Watching the directories of existence locks, and the processes that hold them.
//!
//! While a directory is watched, an engine has one thread that waits for notifications of the
//! directories and for the ends of processes. If notifications are not available (at a limit of the
//! user or the system, without `/proc` on Linux), watching fails, and only the timer makes tries.
//! Network file systems do not report what other hosts do; the timer finds out.

#[cfg(target_os = "linux")]
#[path = "watch/linux.rs"]
mod system;
#[cfg(target_os = "macos")]
#[path = "watch/macos.rs"]
mod system;
#[cfg(windows)]
#[path = "watch/windows.rs"]
mod system;
#[cfg(not(any(target_os = "linux", target_os = "macos", windows)))]
#[path = "watch/unsupported.rs"]
mod system;

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::task::Waker;

use crate::sync::Mutex;
use crate::sys::Process;

/// What the watches of an engine share.
#[derive(Debug)]
pub(crate) struct Watcher {
    state: Mutex<system::State>,
    process: Process,
}

impl Default for Watcher {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            process: Process::current(),
        }
    }
}

/// Watches a directory, a file or a process until it is dropped.
#[derive(Debug)]
pub(crate) struct Watch {
    watcher: Arc<Watcher>,
    key: Key,
}

#[derive(Clone, Copy, Debug)]
#[cfg_attr(windows, expect(dead_code, reason = "not both kinds everywhere"))]
enum Key {
    Inode(i32, u64),
    Process(u64),
}

/// What is watched for in a directory.
#[derive(Debug)]
pub(crate) struct Interest {
    /// The entries that may change or disappear.
    pub(crate) entries: Vec<WatchedEntry>,
    /// Woken at each change, and sometimes without one.
    pub(crate) waker: Waker,
}

/// An entry of a watched directory.
#[derive(Debug)]
#[cfg_attr(windows, expect(dead_code, reason = "not told by name everywhere"))]
pub(crate) struct WatchedEntry {
    #[cfg_attr(
        target_os = "macos",
        expect(dead_code, reason = "the system does not tell the entry")
    )]
    pub(crate) name: OsString,
    pub(crate) changes: Changes,
}

/// Which changes of an entry are reported.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[cfg_attr(
    not(feature = "sqlite"),
    expect(dead_code, reason = "only rows have content")
)]
pub(crate) enum Changes {
    /// It is renamed or removed.
    Name,
    /// It is renamed, removed or written to.
    NameAndContent,
    /// It is written to.
    Content,
}

impl Watcher {
    /// Watches `dir`.
    pub(crate) fn watch(self: &Arc<Self>, dir: &File, interest: Interest) -> io::Result<Watch> {
        let key = system::watch(self, dir, interest)?;
        Ok(Watch {
            watcher: Arc::clone(self),
            key,
        })
    }

    /// Wakes `waker` when an open description of the file is closed that was open for writing. The
    /// system reports the end of a killed process that way, too, in whatever container it ran. It
    /// does so just before it drops the locks of the description.
    pub(crate) fn watch_close(self: &Arc<Self>, file: &File, waker: Waker) -> io::Result<Watch> {
        let key = system::watch_close(self, file, waker)?;
        Ok(Watch {
            watcher: Arc::clone(self),
            key,
        })
    }

    /// Wakes `waker` when a process has ended. Works only while a directory is watched.
    pub(crate) fn watch_process(self: &Arc<Self>, pid: u32, waker: Waker) -> io::Result<Watch> {
        let key = system::watch_process(self, pid, waker)?;
        Ok(Watch {
            watcher: Arc::clone(self),
            key,
        })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // A forked child shares the notification descriptor, and would end the parent's watch.
        if self.watcher.process.is_parent() {
            return;
        }
        system::forget(&self.watcher, self.key);
    }
}
