//! Somebody waits: how long it takes from a release to the moment at which the next owner runs.
//!
//! Between processes: one holds, the other waits, both in the same manner; the time is that from
//! just before the release in one to just after the acquire in the other. The limit is a blocking
//! `flock(2)`: the kernel wakes the waiter itself. A task cannot wait in the kernel, so a thread
//! does for it, and wakes it: two wake-ups instead of one. The release comes only once the waiter
//! is in the kernel's queue and all its threads sleep, out of work that the holder is at. So the
//! holder has one processor, and the waiter another, which idles: to wake that is most of the
//! time on many machines, virtual ones above all. (Where there are two in all, the thread that
//! waits for a task and the task share one, and the second wake-up is cheap.) Where the waiter has to make do with the
//! holder's processor, no idle one must be woken, and everything that is done besides shows. That
//! the other libraries, which make the same system call, come to 1.0 says how far to trust it.
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
use crate::manners::{Api, EX, Manner, Turn, asked, runtime};
use crate::measure::{Contestant, compare, now, processor_time, spin};
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

/// Everybody by name, the limit first.
const MANNERS: [(&str, Manner, Option<Target>); 10] = [
    (FLOCK, Manner::FLOCK, None),
    ("fs4", Manner::Fs4, None),
    ("fd-lock", Manner::FdLock, None),
    ("std::fs::File::lock", Manner::Std, None),
    (BLOCKING, Manner::locket(Api::Blocking), LIKE_FLOCK),
    (
        "locket, blocking, without identity check",
        Manner::Locket {
            api: Api::Blocking,
            protocol: Protocol::Flock,
            pinned: true,
        },
        LIKE_FLOCK,
    ),
    (TIMEOUT, Manner::locket(Api::Timeout), LIKE_FLOCK),
    (ASYNC, Manner::locket(Api::Async), TWO_WAKES),
    (
        "locket, async, in tokio",
        Manner::locket(Api::Tokio),
        TWO_WAKES,
    ),
    (
        NATIVE,
        Manner::Locket {
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

/// Another process, to lock in the manner of that name.
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
        None => Manner::Locket {
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

/// A thread that takes a turn when told, and then tells when it had it.
struct Peer {
    start: Sender<()>,
    had: Receiver<u64>,
    id: i32,
    asking: Arc<AtomicBool>,
}

impl Peer {
    fn new(turn: impl FnOnce() -> Turn<'static> + Send + 'static) -> Self {
        let ((start, starts), (tells, had)) = (channel(), channel());
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
            had,
            id: id.recv().unwrap(),
            asking,
        }
    }

    /// Holds in this thread, by means of `turn`, until the peer sleeps; the time from the release
    /// to the moment at which the peer had it.
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
        self.had.recv().unwrap().saturating_sub(released) as f64
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
    let options = Options::new().pinned(pinned);
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
