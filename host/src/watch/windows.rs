//! Notifications of changes in a directory, and of the ends of processes.
//!
//! The system tells that a directory has changed, and not what; so each change wakes all who watch
//! it. A thread can wait for few objects only. More are not watched.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::task::Waker;

use super::{Changes, Interest, Key, Watcher};
use crate::sync::{WakeList, lock};
use crate::sys::{self, MOST_NOTICES, Notice};

#[derive(Debug, Default)]
pub(super) struct State {
    next: u64,
    /// Set when something is added; none while nothing is watched.
    running: Option<Arc<Notice>>,
    watched: BTreeMap<u64, Watched>,
}

#[derive(Debug)]
struct Watched {
    notice: Arc<Notice>,
    waker: Waker,
    /// Whether there will be no more news.
    over: bool,
}

pub(super) fn watch(watcher: &Arc<Watcher>, dir: &File, interest: Interest) -> io::Result<Key> {
    let Interest { entries, waker } = interest;
    let content = entries.iter().any(|entry| entry.changes != Changes::Name);
    add(watcher, Notice::of_directory(dir, content)?, waker)
}

/// No holder keeps a file locked to show that it lives.
pub(super) fn watch_close(_: &Arc<Watcher>, _: &File, _: Waker) -> io::Result<Key> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(super) fn watch_process(watcher: &Arc<Watcher>, pid: u32, waker: Waker) -> io::Result<Key> {
    add(watcher, Notice::of_process(pid)?, waker)
}

fn add(watcher: &Arc<Watcher>, notice: Notice, waker: Waker) -> io::Result<Key> {
    let mut state = lock(&watcher.state);
    // One is for what is added.
    if state.watched.len() + 1 >= MOST_NOTICES {
        return Err(io::ErrorKind::QuotaExceeded.into());
    }
    match &state.running {
        Some(running) => running.set(),
        None => {
            let running = Arc::new(Notice::event()?);
            start(watcher, &running)?;
            state.running = Some(running);
        }
    }
    state.next += 1;
    let number = state.next;
    let notice = Arc::new(notice);
    let over = false;
    state.watched.insert(
        number,
        Watched {
            notice,
            waker,
            over,
        },
    );
    Ok(Key::Process(number))
}

fn start(watcher: &Arc<Watcher>, added: &Arc<Notice>) -> io::Result<()> {
    let (watcher, added) = (Arc::clone(watcher), Arc::clone(added));
    sys::spawn("locket-watcher", sys::SMALL_STACK, move || {
        run(&watcher, &added);
    })
}

pub(super) fn forget(watcher: &Watcher, key: Key) {
    let (Key::Process(number) | Key::Inode(_, number)) = key;
    let mut state = lock(&watcher.state);
    let watched = state.watched.remove(&number);
    if let Some(running) = &state.running {
        running.set();
    }
    drop(state);
    // Not under the mutex: dropping a waker can run foreign code.
    drop(watched);
}

fn run(watcher: &Watcher, added: &Arc<Notice>) {
    loop {
        let mut state = lock(&watcher.state);
        if state.watched.is_empty() {
            state.running = None;
            return;
        }
        let watched = state.watched.iter().filter(|(_, watched)| !watched.over);
        let (numbers, notices): (Vec<u64>, Vec<Arc<Notice>>) = watched
            .map(|(number, watched)| (*number, Arc::clone(&watched.notice)))
            .unzip();
        drop(state);
        let all = || [added].into_iter().chain(&notices).map(|notice| &**notice);
        let mut first = match Notice::wait_for(all(), false) {
            Ok(first) => first,
            // Never seen. The queues fall back on the timer.
            Err(_) => return lock(&watcher.state).running = None,
        };
        // All that have news, so that a busy directory does not hide another.
        while let Some(index) = first {
            if let Some(number) = index.checked_sub(1).and_then(|index| numbers.get(index)) {
                tell(watcher, *number);
            }
            let rest = Notice::wait_for(all().skip(index + 1), true);
            first = rest.ok().flatten().map(|next| index + 1 + next);
        }
    }
}

fn tell(watcher: &Watcher, number: u64) {
    let mut state = lock(&watcher.state);
    let waker = state.watched.get_mut(&number).map(|watched| {
        // Before others are told, so that no change after what they see is missed.
        watched.over = watched.notice.again().is_err();
        watched.waker.clone()
    });
    drop(state);
    WakeList(waker.into_iter().collect()).wake();
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};
    use std::sync::{Mutex, PoisonError};
    use std::task::Wake;
    use std::time::Duration;

    use super::super::WatchedEntry;
    use super::*;

    struct Tell(Mutex<Sender<()>>);

    impl Wake for Tell {
        fn wake(self: Arc<Self>) {
            let sender = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let _ = sender.send(());
        }
    }

    #[test]
    fn changes_and_ends_are_told() {
        let limit = Duration::from_secs(20);
        let folder = tempfile::tempdir().expect("a directory can be created");
        let dir = sys::open_dir(folder.path()).expect("it can be opened");
        let watcher = Arc::new(Watcher::default());
        let (sender, told) = channel();
        let waker = Waker::from(Arc::new(Tell(Mutex::new(sender))));
        let entry = WatchedEntry {
            name: "lock".into(),
            changes: Changes::Name,
        };
        let interest = Interest {
            entries: vec![entry],
            waker: waker.clone(),
        };
        let watch = watcher.watch(&dir, interest).expect("it can be watched");
        for _ in 0..3 {
            let path = folder.path().join("lock");
            std::fs::write(&path, "").expect("a file can be created");
            told.recv_timeout(limit).expect("a new name is told");
            std::fs::remove_file(&path).expect("a file can be removed");
            told.recv_timeout(limit).expect("a removal is told");
            while told.recv_timeout(Duration::from_millis(50)).is_ok() {}
        }
        drop(watch);
        let mut child = std::process::Command::new(std::env::current_exe().expect("it is known"))
            .arg("--list")
            .stdout(std::process::Stdio::null())
            .spawn()
            .expect("the process exists");
        let end = watcher.watch_process(child.id(), waker);
        let end = end.expect("it can be watched");
        told.recv_timeout(limit).expect("the end is told");
        child.wait().expect("the process ends");
        drop(end);
        while lock(&watcher.state).running.is_some() {
            std::thread::yield_now();
        }
    }
}
