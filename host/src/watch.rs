//! Watching directories for the sake of locks that are names in them.
//!
//! An engine has one notification descriptor of the system, with one watch for each directory, and
//! one thread that reads it, as long as anybody watches. Where there are no notifications (other
//! systems than Linux, the limit of the user, no `/proc`) watching fails, and tries are made
//! by the clock alone. Network file systems do not tell what other hosts do; the clock finds out.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::task::Waker;

use crate::sync::Mutex;

/// What the watches of an engine share.
#[derive(Debug, Default)]
pub(crate) struct Watcher {
    #[cfg_attr(
        not(target_os = "linux"),
        expect(dead_code, reason = "nothing is watched")
    )]
    state: Mutex<linux::State>,
}

/// A directory that is watched, until this is dropped.
#[derive(Debug)]
pub(crate) struct Watch {
    watcher: Arc<Watcher>,
    key: (i32, u64),
}

/// What is watched for in a directory.
#[derive(Debug)]
pub(crate) struct Interest {
    /// The name that may come to stand for something else or nothing.
    pub(crate) name: OsString,
    /// Whether also to watch what is written to it, and to others whose names begin with it.
    pub(crate) content: bool,
    /// Called each time, and now and then for no reason.
    pub(crate) waker: Waker,
}

impl Watcher {
    /// Watches `dir`.
    pub(crate) fn watch(self: &Arc<Self>, dir: &File, interest: Interest) -> io::Result<Watch> {
        let key = linux::watch(self, dir, interest)?;
        Ok(Watch {
            watcher: Arc::clone(self),
            key,
        })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        linux::forget(&self.watcher, self.key);
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::collections::{BTreeMap, HashMap};
    use std::ffi::OsStr;
    use std::fs::File;
    use std::io;
    use std::mem::MaybeUninit;
    use std::os::fd::{AsRawFd, OwnedFd};
    use std::os::unix::ffi::OsStrExt;
    use std::sync::Arc;
    use std::task::Waker;

    use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};

    use super::{Interest, Watcher};
    use crate::sync::{Woken, lock, thread};
    use crate::sys;

    #[derive(Debug, Default)]
    pub(super) struct State {
        next: u64,
        /// None while nothing is watched.
        running: Option<Arc<OwnedFd>>,
        /// By the numbers of the directories.
        interests: HashMap<i32, BTreeMap<u64, Interest>>,
    }

    pub(super) fn watch(
        watcher: &Arc<Watcher>,
        dir: &File,
        interest: Interest,
    ) -> io::Result<(i32, u64)> {
        let mut flags = WatchFlags::DELETE
            | WatchFlags::MOVE
            | WatchFlags::DELETE_SELF
            | WatchFlags::ONLYDIR
            | WatchFlags::MASK_ADD;
        if interest.content {
            flags |= WatchFlags::MODIFY;
        }
        let path = format!("/proc/self/fd/{}", dir.as_raw_fd());
        let mut state = lock(&watcher.state);
        let dir = match &state.running {
            Some(notices) => inotify::add_watch(notices, path, flags)?,
            None => {
                let notices = Arc::new(inotify::init(CreateFlags::CLOEXEC)?);
                let dir = inotify::add_watch(&notices, path, flags)?;
                start(watcher, &notices)?;
                state.running = Some(notices);
                dir
            }
        };
        state.next += 1;
        let key = (dir, state.next);
        state
            .interests
            .entry(dir)
            .or_default()
            .insert(key.1, interest);
        Ok(key)
    }

    fn start(watcher: &Arc<Watcher>, notices: &Arc<OwnedFd>) -> io::Result<()> {
        let (watcher, notices) = (Arc::clone(watcher), Arc::clone(notices));
        let thread = thread::Builder::new()
            .name("locket-watcher".into())
            .stack_size(256 << 10);
        thread.spawn(move || run(&watcher, &notices)).map(drop)
    }

    /// Stops watching. The system says so to the thread, and it ends if that was the last.
    pub(super) fn forget(watcher: &Watcher, (dir, number): (i32, u64)) {
        let mut state = lock(&watcher.state);
        let Some(interests) = state.interests.get_mut(&dir) else {
            return;
        };
        let interest = interests.remove(&number);
        if interests.is_empty() {
            state.interests.remove(&dir);
            if let Some(notices) = &state.running {
                let _ = inotify::remove_watch(notices, dir);
            }
        }
        drop(state);
        // Dropping a waker can drop a queue, and that this watch.
        drop(interest);
    }

    fn run(watcher: &Watcher, notices: &Arc<OwnedFd>) {
        sys::keep_signals_away();
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(notices, &mut buffer);
        loop {
            let woken = match reader.next() {
                Ok(event) => {
                    let name = event
                        .file_name()
                        .map(|name| OsStr::from_bytes(name.to_bytes()));
                    concerned(watcher, event.wd(), event.events(), name)
                }
                Err(rustix::io::Errno::INTR) => continue,
                // Never seen. Whoever watches finds out by the clock.
                Err(_) => {
                    let mut state = lock(&watcher.state);
                    state.running = None;
                    return;
                }
            };
            Woken(woken).wake();
            let mut state = lock(&watcher.state);
            if state.interests.is_empty() {
                state.running = None;
                return;
            }
        }
    }

    fn concerned(
        watcher: &Watcher,
        dir: i32,
        events: ReadFlags,
        name: Option<&OsStr>,
    ) -> Vec<Waker> {
        let mut state = lock(&watcher.state);
        if events.contains(ReadFlags::QUEUE_OVERFLOW) {
            let all = state.interests.values().flat_map(BTreeMap::values);
            return all.map(|interest| interest.waker.clone()).collect();
        }
        let concerns = |interest: &&Interest| match name {
            Some(name) if interest.content => name.as_bytes().starts_with(interest.name.as_bytes()),
            Some(name) => name == interest.name,
            // The directory itself.
            None => true,
        };
        let interests = state.interests.get(&dir);
        let wakers = interests
            .into_iter()
            .flat_map(BTreeMap::values)
            .filter(concerns)
            .map(|interest| interest.waker.clone())
            .collect();
        if events.contains(ReadFlags::IGNORED) {
            // The system has forgotten it.
            drop(state.interests.remove(&dir));
        }
        wakers
    }
}

#[cfg(not(target_os = "linux"))]
mod linux {
    use std::fs::File;
    use std::io;
    use std::sync::Arc;

    use super::{Interest, Watcher};

    #[derive(Debug, Default)]
    pub(super) struct State;

    pub(super) fn watch(_: &Arc<Watcher>, _: &File, interest: Interest) -> io::Result<(i32, u64)> {
        let Interest {
            name: _,
            content: _,
            waker: _,
        } = interest;
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn forget(_: &Watcher, _: (i32, u64)) {}
}
