//! Waiting for an existence lock, which has no queue in the kernel.
//!
//! The thread makes a try whenever something may have freed the lock: the directory reports that the
//! entry changed, or the system reports the end of its holder. A notice can come just before the
//! change that it reports is complete, so tries follow it at growing intervals. If nothing is
//! reported, rare tries remain, which find what other hosts did.

use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use super::Outcome;
use crate::backend::{Backend, Request, is_out_of_reach};
use crate::deadline::Deadline;
use crate::lock_path::Identity;
use crate::object::LockObject;
use crate::sync::Parker;
use crate::watch::{Interest, Watch, Watcher};

/// The first interval after a notice. Each is twice as long as the one before.
const FIRST: Duration = Duration::from_millis(1);

/// The same for a row. Every transaction on its database is a notice, and a look takes longer.
const FIRST_OF_ROW: Duration = Duration::from_millis(10);

/// The first interval, if there was no notice.
const QUIET: Duration = Duration::from_millis(200);

/// The longest interval if all that frees the lock is reported.
const LONGEST: Duration = Duration::from_secs(5);

/// The longest interval if other hosts can free it, or its age does, or another program has the
/// directory or the database locked, or the end of its holder is not reported.
const LONGEST_UNREPORTED: Duration = Duration::from_millis(200);

/// The longest interval if the system does not report changes of the directory.
const LONGEST_UNWATCHED: Duration = Duration::from_millis(40);

/// How a thread sleeps between tries.
#[derive(Debug)]
pub(super) struct EntryWait {
    parker: Arc<Parker>,
    watcher: Arc<Watcher>,
    local: bool,
}

impl EntryWait {
    pub(super) fn new(watcher: &Arc<Watcher>, local: bool) -> Self {
        Self {
            parker: Arc::default(),
            watcher: Arc::clone(watcher),
            local,
        }
    }

    /// Wakes the thread.
    pub(super) fn wake(&self) {
        self.waker().wake();
    }

    fn waker(&self) -> Waker {
        Waker::from(Arc::clone(&self.parker))
    }

    /// Waits on the calling thread, until `interrupted` says that it was.
    pub(super) fn run(
        &self,
        object: &LockObject,
        request: Request,
        deadline: Deadline,
        interrupted: impl Fn() -> bool,
    ) -> Outcome {
        let backend = request.protocol.backend();
        let mut watch: Option<Watch> = None;
        let mut holder = Holder::default();
        let is_row = object
            .as_marker()
            .is_some_and(|marker| marker.store().is_some());
        let first = if is_row { FIRST_OF_ROW } else { FIRST };
        let (mut pause, mut unreported) = (QUIET, false);
        loop {
            if interrupted() {
                return Outcome::Interrupted;
            }
            // Before the try, so that no change after it is missed. Descriptors may be missing for
            // a moment only.
            if watch.is_none() {
                watch = self.watch(object, request).ok();
            }
            let out_of_reach = match backend.try_lock(object, request) {
                Ok(true) => return Outcome::Locked,
                Ok(false) => false,
                Err(e) if is_out_of_reach(&e) => true,
                Err(e) => return Outcome::Failed(e),
            };
            if deadline.passed() {
                return Outcome::TimedOut;
            }
            let (reported, new) = holder.follow(Life::of(backend, object), self);
            if new {
                // The holder may have ended since the try.
                continue;
            }
            // Whatever comes next may come without a notice.
            let before = unreported;
            unreported = out_of_reach || !reported;
            if unreported && !before {
                pause = first;
            }
            let longest = match &watch {
                None => LONGEST_UNWATCHED,
                Some(_) if unreported || !self.local || request.stale_after.is_some() => {
                    LONGEST_UNREPORTED
                }
                Some(_) => LONGEST,
            };
            // With everything reported there is nothing to look for.
            let quiet = pause == QUIET && holder.watch.is_some();
            pause = if quiet { longest } else { pause.min(longest) };
            let until = Instant::now() + stretched(pause);
            let until = deadline.instant().map_or(until, |at| until.min(at));
            pause = match self.parker.sleep(Some(until)) {
                true => first,
                false => pause * 2,
            };
        }
    }

    fn watch(&self, object: &LockObject, request: Request) -> io::Result<Watch> {
        let interest = Interest {
            entries: request.protocol.backend().watched(object),
            waker: self.waker(),
        };
        self.watcher.watch(&object.file, interest)
    }
}

/// What ends when the holder does.
enum Life {
    Process(u32),
    /// The file on which it keeps a `flock`. The system reports that a file which was open for
    /// writing is closed, whichever process did so and however it ended. A thread that waits for the
    /// `flock` itself would not learn that the entry was removed or replaced.
    Marker(File, Identity),
}

impl Life {
    /// That of the holder that the last try found; `None` if it is not known.
    fn of(backend: &dyn Backend, object: &LockObject) -> Option<Self> {
        let marker = backend.holder_marker(object).and_then(|file| {
            let identity = Identity::of(&file, &file.metadata().ok()?).ok()?;
            Some(Self::Marker(file, identity))
        });
        marker.or_else(|| backend.holder_pid(object).map(Self::Process))
    }

    fn watch(&self, wait: &EntryWait) -> io::Result<Watch> {
        match self {
            Self::Process(pid) => wait.watcher.watch_process(*pid, wait.waker()),
            Self::Marker(file, _) => wait.watcher.watch_close(file, wait.waker()),
        }
    }
}

impl PartialEq for Life {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Process(one), Self::Process(other)) => one == other,
            (Self::Marker(_, one), Self::Marker(_, other)) => one == other,
            _ => false,
        }
    }
}

/// The holder of the lock, whose end is watched for.
#[derive(Default)]
struct Holder {
    life: Option<Life>,
    watch: Option<Watch>,
}

impl Holder {
    /// Watches for the end of the holder. Returns whether the system reports it, and whether that is
    /// new.
    fn follow(&mut self, life: Option<Life>, wait: &EntryWait) -> (bool, bool) {
        if life.is_none() {
            *self = Self::default();
            return (true, false);
        }
        let watched = self.life == life && self.watch.is_some();
        if !watched {
            let watch = life.as_ref().and_then(|life| life.watch(wait).ok());
            *self = Self { life, watch };
        }
        (self.watch.is_some(), self.watch.is_some() && !watched)
    }
}

/// A random time from `pause` to one and a half times `pause`, so that waiters do not try at the
/// same moment.
fn stretched(pause: Duration) -> Duration {
    let part = RandomState::new().hash_one(()) % 512;
    pause + pause * u32::try_from(part).unwrap_or(0) / 1024
}
