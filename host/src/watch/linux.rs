//! Notifications by inotify, and the ends of processes by pidfds.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::task::Waker;

use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use rustix::fs::inotify::{self, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::{Changes, Interest, Key, Watcher};
use crate::sync::{WakeList, lock};
use crate::sys;

#[derive(Debug, Default)]
pub(super) struct State {
    next: u64,
    /// None while no directory or file is watched.
    running: Option<Arc<Descriptors>>,
    /// By the watch descriptor of the directory or the file.
    interests: HashMap<i32, BTreeMap<u64, Interest>>,
    processes: HashMap<u64, (OwnedFd, Waker)>,
}

#[derive(Debug)]
struct Descriptors {
    notices: OwnedFd,
    /// Ready when there are notifications, or a process has ended.
    ready: OwnedFd,
}

/// The epoll data of the notifications. Processes have numbers from 1 on.
const NOTICES: u64 = 0;

impl Descriptors {
    fn new() -> io::Result<Self> {
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        let this = Self {
            notices: inotify::init(flags)?,
            ready: epoll::create(epoll::CreateFlags::CLOEXEC)?,
        };
        let data = epoll::EventData::new_u64(NOTICES);
        epoll::add(&this.ready, &this.notices, data, epoll::EventFlags::IN)?;
        Ok(this)
    }
}

pub(super) fn watch(watcher: &Arc<Watcher>, dir: &File, interest: Interest) -> io::Result<Key> {
    let mut flags = WatchFlags::DELETE
        | WatchFlags::MOVE
        | WatchFlags::DELETE_SELF
        | WatchFlags::ONLYDIR
        | WatchFlags::MASK_ADD;
    if interest
        .entries
        .iter()
        .any(|entry| entry.changes != Changes::Name)
    {
        flags |= WatchFlags::MODIFY;
    }
    add(watcher, dir, flags, interest)
}

pub(super) fn watch_close(watcher: &Arc<Watcher>, file: &File, waker: Waker) -> io::Result<Key> {
    let entries = Vec::new();
    let flags = WatchFlags::CLOSE_WRITE | WatchFlags::MASK_ADD;
    add(watcher, file, flags, Interest { entries, waker })
}

fn add(
    watcher: &Arc<Watcher>,
    inode: &File,
    flags: WatchFlags,
    interest: Interest,
) -> io::Result<Key> {
    let path = format!("/proc/self/fd/{}", inode.as_raw_fd());
    let mut state = lock(&watcher.state);
    let inode = match &state.running {
        Some(running) => inotify::add_watch(&running.notices, path, flags)?,
        None => {
            let descriptors = Arc::new(Descriptors::new()?);
            let inode = inotify::add_watch(&descriptors.notices, path, flags)?;
            start(watcher, &descriptors)?;
            state.running = Some(descriptors);
            inode
        }
    };
    state.next += 1;
    let number = state.next;
    state
        .interests
        .entry(inode)
        .or_default()
        .insert(number, interest);
    Ok(Key::Inode(inode, number))
}

pub(super) fn watch_process(watcher: &Arc<Watcher>, pid: u32, waker: Waker) -> io::Result<Key> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let process = pidfd_open(pid.ok_or(io::ErrorKind::InvalidInput)?, PidfdFlags::empty())?;
    let mut state = lock(&watcher.state);
    state.next += 1;
    let number = state.next;
    let running = state.running.as_ref().ok_or(io::ErrorKind::NotConnected)?;
    let data = epoll::EventData::new_u64(number);
    let once = epoll::EventFlags::IN | epoll::EventFlags::ONESHOT;
    epoll::add(&running.ready, &process, data, once)?;
    state.processes.insert(number, (process, waker));
    Ok(Key::Process(number))
}

fn start(watcher: &Arc<Watcher>, descriptors: &Arc<Descriptors>) -> io::Result<()> {
    let (watcher, descriptors) = (Arc::clone(watcher), Arc::clone(descriptors));
    sys::spawn("locket-watcher", sys::SMALL_STACK, move || {
        run(&watcher, &descriptors);
    })
}

/// Stops watching. After the last directory, a notification of the system wakes the thread, and
/// it ends.
pub(super) fn forget(watcher: &Watcher, key: Key) {
    let mut state = lock(&watcher.state);
    match key {
        Key::Process(number) => {
            let process = state.processes.remove(&number);
            drop(state);
            // Closing it removes it from the epoll set.
            drop(process);
        }
        Key::Inode(dir, number) => {
            let Some(interests) = state.interests.get_mut(&dir) else {
                return;
            };
            let interest = interests.remove(&number);
            if interests.is_empty() {
                state.interests.remove(&dir);
                if let Some(running) = &state.running {
                    let _ = inotify::remove_watch(&running.notices, dir);
                }
            }
            drop(state);
            // Not under the mutex: dropping a waker can run foreign code.
            drop(interest);
        }
    }
}

fn run(watcher: &Watcher, descriptors: &Arc<Descriptors>) {
    let mut events = Vec::with_capacity(16);
    loop {
        events.clear();
        match epoll::wait(&descriptors.ready, spare_capacity(&mut events), None) {
            Ok(_) | Err(Errno::INTR) => {}
            // Never seen. The queues fall back on the timer.
            Err(_) => return stop(watcher, descriptors),
        }
        for event in &events {
            let woken = match event.data.u64() {
                NOTICES => read(watcher, &descriptors.notices),
                number => {
                    let state = lock(&watcher.state);
                    let process = state.processes.get(&number);
                    process
                        .map(|(_, waker)| waker.clone())
                        .into_iter()
                        .collect()
                }
            };
            WakeList(woken).wake();
        }
        let mut state = lock(&watcher.state);
        if state.interests.is_empty() {
            state.running = None;
            return;
        }
    }
}

fn stop(watcher: &Watcher, descriptors: &Arc<Descriptors>) {
    let mut state = lock(&watcher.state);
    let same = |running: &mut Arc<Descriptors>| Arc::ptr_eq(running, descriptors);
    state.running.take_if(same);
}

/// The wakers that the pending notifications concern.
fn read(watcher: &Watcher, notices: &OwnedFd) -> Vec<Waker> {
    let mut woken = Vec::new();
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut reader = Reader::new(notices, &mut buffer);
    while let Ok(event) = reader.next() {
        let name = event
            .file_name()
            .map(|name| OsStr::from_bytes(name.to_bytes()));
        woken.extend(concerned(watcher, event.wd(), event.events(), name));
    }
    woken
}

fn concerned(watcher: &Watcher, dir: i32, events: ReadFlags, name: Option<&OsStr>) -> Vec<Waker> {
    let mut state = lock(&watcher.state);
    if events.contains(ReadFlags::QUEUE_OVERFLOW) {
        let all = state.interests.values().flat_map(BTreeMap::values);
        return all.map(|interest| interest.waker.clone()).collect();
    }
    let concerns = |interest: &&Interest| match name {
        Some(name) => interest.entries.iter().any(|entry| {
            entry.name == name
                && (entry.changes != Changes::Content || events.contains(ReadFlags::MODIFY))
        }),
        // The directory or the file itself.
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
        let forgotten = state.interests.remove(&dir);
        drop(state);
        drop(forgotten);
    }
    wakers
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use std::process::{Command, Stdio};
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::sync::{Mutex, PoisonError};
    use std::task::Wake;
    use std::time::Duration;

    use super::*;

    struct Tell(Mutex<Sender<()>>);

    impl Wake for Tell {
        fn wake(self: Arc<Self>) {
            let sender = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let _ = sender.send(());
        }
    }

    fn waker() -> (Waker, Receiver<()>) {
        let (sender, receiver) = channel();
        (Waker::from(Arc::new(Tell(Mutex::new(sender)))), receiver)
    }

    /// Each of those who watch a file learns when a process that has it open for writing is killed.
    #[test]
    fn the_end_of_a_process_closes_its_files() {
        let dir = tempfile::tempdir().expect("a directory can be created");
        let path = dir.path().join("file");
        let written = File::create(&path).expect("a file can be created");
        let file = File::open(&path).expect("the file can be opened");
        let watcher = Arc::new(Watcher::default());
        let mut wakes = Vec::new();
        for _ in 0..2 {
            let (waker, woken) = waker();
            let watch = watcher.watch_close(&file, waker);
            wakes.push((watch.expect("the file can be watched"), woken));
        }
        let mut process = Command::new("cat")
            .stdin(Stdio::piped())
            .stdout(written)
            .spawn()
            .expect("the process exists");
        // Opened and closed for reading, which is no news.
        drop(File::open(&path).expect("the file can be opened"));
        for (_, woken) in &wakes {
            assert!(woken.try_recv().is_err(), "nothing was closed");
        }
        process.kill().expect("the process can be killed");
        for (_, woken) in &wakes {
            let told = woken.recv_timeout(Duration::from_secs(20));
            told.expect("the watch reports the end");
        }
        process.wait().expect("the process ends");
    }
}
