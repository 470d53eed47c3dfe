//! With a waiter: how long it takes from a release until the next holder runs.
//!
//! Between processes, one holds and the other waits, both by the same method. The time runs from just
//! before the release in one to just after the acquire in the other. The limit is a blocking
//! `flock(2)`, whose waiter the kernel wakes itself. A task cannot wait in the kernel, so a thread
//! does so for it and then wakes it: two wake-ups instead of one. The release comes only once the
//! waiter is in the kernel's queue and all its threads sleep, while the holder is working. So the
//! holder has one processor, and the waiter another one, which is idle. On many machines, virtual ones
//! above all, waking that processor takes most of the time. (With two processors in all, the thread
//! that waits for a task shares one with the task, and the second wake-up is cheap.) If the waiter has
//! to share the holder's processor, no idle one has to wake, and everything else shows. The other
//! libraries make the same system call as the limit, so how close they come to 1.0 says how far to
//! trust the figures.
//!
//! Inside a process: from thread to thread, against a flag under a mutex with a condition
//! variable; and from task to task, in processor time of the whole process, the kernel's turn after
//! every bounded run included, on one processor, since what it takes to wake another is no work.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use clap::ValueEnum;
use locket::{Engine, LockFile, Options, Protocol};
use tokio::task::LocalSet;

use crate::Plan;
use crate::measure::{Contestant, compare, now, processor_time, spin};
use crate::methods::{Api, EX, Method, Turn, asked, runtime};
use crate::process::{Place, Process, WORK, asleep, contend, hand_off, inode};
use crate::report::{Report, Section, Target};

pub(crate) fn run(plan: &Plan, report: &mut Report) {
    report.add(between_processes(plan, BETWEEN_PROCESSES, Place::Others));
    let title = "The same on one processor: the waiter runs once the holder lets it";
    report.add(between_processes(plan, title, Place::First));
    // In threads of their own, since a place cannot be left.
    for inside in [between_threads, between_tasks] {
        let section = thread::scope(|scope| scope.spawn(|| inside(plan)).join());
        report.add(section.unwrap());
    }
}

pub(crate) const BETWEEN_PROCESSES: &str =
    "Hand-off between processes: release in one, running in the other, on another processor";

/// All contestants by name, the limit first.
const MANNERS: [(&str, Method, Option<Target>); 10] = [
    (FLOCK, Method::FLOCK, None),
    ("fs4", Method::Fs4, None),
    ("fd-lock", Method::FdLock, None),
    ("std::fs::File::lock", Method::Std, None),
    (BLOCKING, Method::locket(Api::Blocking), LIKE_FLOCK),
    (
        "locket, blocking, without identity check",
        Method::Locket {
            api: Api::Blocking,
            protocol: Protocol::Flock,
            pinned: true,
        },
        LIKE_FLOCK,
    ),
    (TIMEOUT, Method::locket(Api::Timeout), LIKE_FLOCK),
    (ASYNC, Method::locket(Api::Async), TWO_WAKES),
    (
        "locket, async, in tokio",
        Method::locket(Api::Tokio),
        TWO_WAKES,
    ),
    (
        NATIVE,
        Method::Locket {
            api: Api::Timeout,
            protocol: Protocol::Native,
            pinned: false,
        },
        None,
    ),
];

pub(crate) const FLOCK: &str = "blocking flock(2)";
pub(crate) const BLOCKING: &str = "locket, blocking";
pub(crate) const TIMEOUT: &str = "locket, blocking, with a timeout";
pub(crate) const ASYNC: &str = "locket, async";
pub(crate) const NATIVE: &str = "locket, with a timeout, native protocol";

const LIKE_FLOCK: Option<Target> = Some(Target::RatioAtMost(1.2));
const TWO_WAKES: Option<Target> = Some(Target::RatioAtMost(2.8));

/// Another process, which locks by the method of that name.
pub(crate) fn contender(place: Place, manner: &str, path: &Path) -> Process {
    let place = place.to_possible_value().expect("none is hidden");
    let words = [place.get_name(), manner].map(OsStr::new);
    Process::role("contender", &[words[0], words[1], path.as_os_str()])
}

/// The role of that process.
pub(crate) fn contend_as(place: Place, manner: &str, path: &Path) {
    place.take();
    let named = MANNERS.iter().find(|(name, ..)| *name == manner);
    let protocol = |protocol: &&Protocol| protocol_name(**protocol) == manner;
    let manner = match named {
        Some((_, manner, _)) => *manner,
        None => Method::Locket {
            api: Api::Blocking,
            protocol: *Protocol::ALL.iter().find(protocol).expect("one of them"),
            pinned: false,
        },
    };
    contend(manner.on_a_handle(path));
}

/// How to call ours, blocking, in a protocol.
pub(crate) fn protocol_name(protocol: Protocol) -> String {
    format!("locket, {protocol}, blocking")
}

fn between_processes(plan: &Plan, title: &str, place: Place) -> Section {
    let path = &plan.file("handoff");
    let inode = inode(path);
    let contestants = MANNERS.map(|(name, _, target)| {
        let (mut holder, mut waiter) = (
            contender(Place::First, name, path),
            contender(place, name, path),
        );
        let go = move |samples: &mut Vec<f64>| {
            let mut once = || hand_off(&mut holder, &mut waiter, Some(inode), Duration::ZERO);
            samples.extend((0..10).map(|_| once()));
        };
        Contestant::new(name, go).target(target)
    });
    compare(title, plan.rounds(120), contestants.into())
}

/// A thread that takes a turn on request, and reports when it was granted.
struct Peer {
    start: Sender<()>,
    granted: Receiver<u64>,
    id: i32,
    asking: Arc<AtomicBool>,
}

impl Peer {
    fn new(turn: impl FnOnce() -> Turn<'static> + Send + 'static) -> Self {
        let ((start, starts), (tells, granted)) = (channel(), channel());
        let (tells_id, id) = channel();
        let asking = Arc::new(AtomicBool::new(false));
        let asks = Arc::clone(&asking);
        thread::spawn(move || {
            Place::Others.take();
            tells_id
                .send(rustix::thread::gettid().as_raw_pid())
                .unwrap();
            let mut turn = turn();
            for () in starts {
                asks.store(true, Ordering::SeqCst);
                let mut time = 0;
                turn(&mut || time = now());
                tells.send(time).unwrap();
            }
        });
        Self {
            start,
            granted,
            id: id.recv().unwrap(),
            asking,
        }
    }

    /// Holds in this thread, by means of `turn`, until the peer sleeps; the time from the release
    /// until the peer holds the lock.
    fn hand_off(&self, turn: &mut Turn<'_>) -> f64 {
        let mut released = 0;
        turn(&mut || {
            self.asking.store(false, Ordering::SeqCst);
            self.start.send(()).unwrap();
            while !(self.asking.load(Ordering::SeqCst) && asleep(std::process::id(), Some(self.id)))
            {
                thread::yield_now();
            }
            spin(WORK);
            released = now();
        });
        self.granted.recv().unwrap().saturating_sub(released) as f64
    }
}

/// What a lock inside a process costs where no file is locked.
fn flag(shared: Arc<(Mutex<bool>, Condvar)>) -> Turn<'static> {
    Box::new(move |held| {
        let (taken, freed) = &*shared;
        let guard = taken.lock().unwrap();
        *freed.wait_while(guard, |taken| *taken).unwrap() = true;
        held();
        *taken.lock().unwrap() = false;
        freed.notify_one();
    })
}

fn ours(lock: LockFile) -> Turn<'static> {
    Box::new(move |held| {
        let _guard = lock.acquire(EX, None).unwrap();
        held();
    })
}

fn between_threads(plan: &Plan) -> Section {
    fn contestant<'a>(name: &str, peer: Peer, mut turn: Turn<'a>) -> Contestant<'a> {
        Contestant::new(name, move |samples| {
            samples.extend((0..10).map(|_| peer.hand_off(&mut turn)));
        })
    }
    Place::First.take();
    let shared = Arc::new((Mutex::new(false), Condvar::new()));
    let peer = Peer::new({
        let shared = Arc::clone(&shared);
        || flag(shared)
    });
    let mut contestants = vec![contestant("Mutex and Condvar of std", peer, flag(shared))];
    for (name, pinned) in KINDS {
        let lock = open(plan, pinned);
        let turn = ours(lock.clone());
        let peer = Peer::new(|| ours(lock));
        contestants.push(contestant(&format!("locket, {name}"), peer, turn));
    }
    let title = "Hand-off inside a process, thread to thread: release in one, running in the other";
    compare(title, plan.rounds(120), contestants)
}

const KINDS: [(&str, bool); 2] = [("checked", false), ("without identity check", true)];

fn open(plan: &Plan, pinned: bool) -> LockFile {
    let options = Options::new().skip_identity_check(pinned);
    let path = plan.file("inside");
    Engine::new().open_with(path, &options).unwrap()
}

/// A thousand tasks of tokio wait; the time of handing the lock through all of them.
fn between_tasks(plan: &Plan) -> Section {
    const TASKS: usize = 1000;
    Place::First.take();
    let contestants = KINDS.map(|(name, pinned)| {
        let lock = open(plan, pinned);
        let runtime = runtime();
        let go = move |samples: &mut Vec<f64>| {
            let tasks = LocalSet::new();
            let guard = lock.acquire(EX, None).unwrap();
            for _ in 0..TASKS {
                let acquire = lock.acquire_async(EX, None);
                tasks.spawn_local(async { drop(acquire.await.unwrap()) });
            }
            asked(&runtime, &tasks);
            let before = processor_time();
            drop(guard);
            runtime.block_on(tasks);
            let spent = processor_time() - before;
            samples.push(spent.as_nanos() as f64 / TASKS as f64);
        };
        Contestant::new(format!("locket, {name}"), go).target(Target::MedianAtMost(1000.0))
    });
    let title = "Hand-off inside a process, task to task: processor time of the process, each";
    compare(title, plan.rounds(80), contestants.into())
}
