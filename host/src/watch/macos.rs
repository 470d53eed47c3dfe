//! Notifications by kqueue: of directories, and of the ends of processes.
//!
//! The system tells that the entries of a directory have changed, and not which ones, so all who
//! watch the directory are woken. It does not tell that a file was closed.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::task::Waker;

use super::{Changes, Interest, Key, Watcher};
use crate::sync::{WakeList, lock};
use crate::sys::{self, Identity, Kqueue, Notice};

#[derive(Debug, Default)]
pub(super) struct State {
    next: u64,
    /// None while no directory is watched.
    running: Option<Arc<Kqueue>>,
    /// By the number of the descriptor.
    directories: HashMap<i32, Directory>,
    /// By the number of the process.
    processes: HashMap<u32, BTreeMap<u64, Waker>>,
    /// The process of each watch.
    pids: HashMap<u64, u32>,
}

/// A directory that is watched.
#[derive(Debug)]
struct Directory {
    identity: Identity,
    /// Not a duplicate, which would keep locks of the directory.
    _file: File,
    interests: BTreeMap<u64, Interest>,
}

pub(super) fn watch(watcher: &Arc<Watcher>, dir: &File, interest: Interest) -> io::Result<Key> {
    let reported = |entry: &super::WatchedEntry| entry.changes == Changes::Name;
    if !interest.entries.iter().all(reported) {
        // That takes a descriptor of each file, and of those that are created later.
        return Err(io::ErrorKind::Unsupported.into());
    }
    let identity = Identity::of(dir, &dir.metadata()?)?;
    let mut state = lock(&watcher.state);
    state.next += 1;
    let number = state.next;
    let known = state.directories.iter_mut();
    if let Some((descriptor, known)) = { known }.find(|(_, known)| known.identity == identity) {
        known.interests.insert(number, interest);
        return Ok(Key::Inode(*descriptor, number));
    }
    let file = sys::open_for_notices(dir)?;
    let descriptor = file.as_raw_fd();
    match &state.running {
        Some(running) => running.watch_directory(&file)?,
        None => {
            let kqueue = Arc::new(Kqueue::new()?);
            kqueue.watch_directory(&file)?;
            start(watcher, &kqueue)?;
            state.running = Some(kqueue);
        }
    }
    let directory = Directory {
        identity,
        _file: file,
        interests: BTreeMap::from([(number, interest)]),
    };
    state.directories.insert(descriptor, directory);
    Ok(Key::Inode(descriptor, number))
}

pub(super) fn watch_close(_: &Arc<Watcher>, _: &File, _: Waker) -> io::Result<Key> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(super) fn watch_process(watcher: &Arc<Watcher>, pid: u32, waker: Waker) -> io::Result<Key> {
    let mut state = lock(&watcher.state);
    let running = state.running.as_ref().ok_or(io::ErrorKind::NotConnected)?;
    // Once more if it is watched already: the process may be another one of that number.
    running.watch_process(pid)?;
    state.next += 1;
    let number = state.next;
    state.pids.insert(number, pid);
    let wakers = state.processes.entry(pid).or_default();
    wakers.insert(number, waker);
    Ok(Key::Process(number))
}

fn start(watcher: &Arc<Watcher>, kqueue: &Arc<Kqueue>) -> io::Result<()> {
    let (watcher, kqueue) = (Arc::clone(watcher), Arc::clone(kqueue));
    sys::spawn("locket-watcher", sys::SMALL_STACK, move || {
        run(&watcher, &kqueue);
    })
}

/// Stops watching. After the last directory the thread ends.
pub(super) fn forget(watcher: &Watcher, key: Key) {
    let mut state = lock(&watcher.state);
    match key {
        Key::Process(number) => {
            let Some(pid) = state.pids.remove(&number) else {
                return;
            };
            let Some(wakers) = state.processes.get_mut(&pid) else {
                return;
            };
            let waker = wakers.remove(&number);
            if wakers.is_empty() {
                state.processes.remove(&pid);
                if let Some(running) = &state.running {
                    running.forget_process(pid);
                }
            }
            drop(state);
            // Not under the mutex: dropping a waker can run foreign code.
            drop(waker);
        }
        Key::Inode(descriptor, number) => {
            let Some(directory) = state.directories.get_mut(&descriptor) else {
                return;
            };
            let interest = directory.interests.remove(&number);
            if directory.interests.is_empty() {
                // Closing it ends the notices.
                state.directories.remove(&descriptor);
            }
            if state.directories.is_empty()
                && let Some(running) = &state.running
            {
                running.wake();
            }
            drop(state);
            drop(interest);
        }
    }
}

fn run(watcher: &Watcher, kqueue: &Arc<Kqueue>) {
    loop {
        let Ok(notices) = kqueue.wait() else {
            // Never seen. The queues fall back on the timer.
            let mut state = lock(&watcher.state);
            let same = |running: &mut Arc<Kqueue>| Arc::ptr_eq(running, kqueue);
            state.running.take_if(same);
            return;
        };
        let mut state = lock(&watcher.state);
        let woken = notices.iter().flat_map(|notice| concerned(&state, notice));
        let woken = WakeList(woken.collect());
        let is_over = state.directories.is_empty();
        if is_over {
            state.running = None;
        }
        drop(state);
        woken.wake();
        if is_over {
            return;
        }
    }
}

/// The wakers that a notice concerns. The number may be that of another descriptor or process by now,
/// for whose waiters it is one wake-up too many.
fn concerned(state: &State, notice: &Notice) -> Vec<Waker> {
    match notice {
        Notice::Directory(descriptor) => {
            let directory = state.directories.get(descriptor);
            let interests = directory.into_iter().flat_map(|dir| dir.interests.values());
            interests.map(|interest| interest.waker.clone()).collect()
        }
        Notice::Process(pid) => {
            let wakers = state.processes.get(pid).into_iter();
            wakers.flat_map(BTreeMap::values).cloned().collect()
        }
        Notice::Nothing => Vec::new(),
    }
}
