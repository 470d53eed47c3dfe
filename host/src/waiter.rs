//! Waiting for a lock: the one thread per file that waits, and how its wait is canceled.
//!
//! The thread is that of a blocking caller, or a helper from the [`WaiterPool`] on behalf of tasks,
//! which must not block. It waits on an object of its own, apart from the one through which the
//! engine holds the lock and makes its tries. So it takes its place among the waiters of other
//! processes while the engine still holds the lock. Once granted, its object becomes the one that
//! holds. The thread opens it itself, since a file system may not answer for long.
//!
//! For a kernel lock it sleeps in the kernel, and a [signal](sys::Interrupter) interrupts it. For an
//! existence lock it sleeps [between tries](entry). The queue forgets a wait when it cancels it, so a
//! lock that is granted at that moment is given back as soon as the thread returns.

use std::io;
use std::sync::{Arc, OnceLock};

use self::entry::EntryWait;
use crate::backend::Request;
use crate::deadline::Deadline;
use crate::lock_path::{Identity, reopen};
use crate::object::LockObject;
use crate::protocol::Protocol;
use crate::range::Span;
#[cfg(feature = "remote")]
use crate::remote::Stop;
use crate::sync::{Mutex, lock, thread};
use crate::sys;
use crate::timer::Timer;
use crate::types::Mode;
use crate::watch::Watcher;

mod entry;
mod pool;

pub(crate) use pool::WaiterPool;

/// One wait for a lock.
#[derive(Debug)]
pub(crate) struct LockWait {
    pub(crate) request: Request,
    /// What of the file is waited for, if not all of it. The description then carries other locks of
    /// its owner, and is not this wait's alone.
    range: Option<Span>,
    /// An object that only this wait uses until it is over; opened by its thread.
    object: OnceLock<Arc<LockObject>>,
    /// Whether this system alone decides when its calls return, and not a file server.
    local: bool,
    method: Method,
    progress: Mutex<Progress>,
}

/// How the thread sleeps.
#[derive(Debug)]
enum Method {
    /// In the kernel, until it is interrupted.
    InKernel(sys::Interrupter),
    /// Between tries, until it is woken.
    BetweenTries(EntryWait),
    /// While a server has it in its queue, until it is stopped.
    #[cfg(feature = "remote")]
    OnServer(Stop),
}

/// What waits are made with.
#[derive(Debug)]
pub(crate) struct Means<'a> {
    pub(crate) timer: &'a Arc<Timer>,
    pub(crate) watcher: &'a Arc<Watcher>,
    pub(crate) signal: Option<sys::Signal>,
}

/// Where the object of a wait comes from.
#[derive(Debug)]
pub(crate) enum Source {
    /// It is open already.
    Open(Arc<LockObject>),
    /// The thread opens another one like this, of the file `identity`.
    Like {
        object: Arc<LockObject>,
        identity: Identity,
        write: bool,
    },
}

impl Source {
    fn open(self) -> io::Result<Arc<LockObject>> {
        let (object, identity, write) = match self {
            Self::Open(object) => return Ok(object),
            Self::Like {
                object,
                identity,
                write,
            } => (object, identity, write),
        };
        if !object.is_on_file() {
            return object.renewed().map(Arc::new);
        }
        let file = reopen(&object.file, write)?;
        // A description whose lock could not be given back has been detached from its file.
        if Identity::of(&file, &file.metadata()?)? != identity {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(Arc::new(LockObject::file(file, write)))
    }
}

#[derive(Debug)]
struct Progress {
    source: Option<Source>,
    thread: Option<sys::Thread>,
    over: bool,
    interrupted: bool,
    /// Whether it was interrupted, and the interruption reached it.
    returning: bool,
    /// The interruption in progress, until the thread returns.
    interruption: Option<sys::Interruption>,
}

/// How a wait ended. Unless it is [`Locked`](Self::Locked), nothing is held.
#[derive(Debug)]
pub(crate) enum Outcome {
    Locked,
    /// Canceled. The object cannot be used any more.
    Interrupted,
    /// The deadline passed.
    TimedOut,
    /// The wait could not begin, because a resource unrelated to the lock is missing.
    NotBegun,
    Failed(io::Error),
}

impl LockWait {
    /// Fails if memory or a signal is missing, so that [`interrupt`](Self::interrupt) does not.
    pub(crate) fn new(
        source: Source,
        local: bool,
        request: Request,
        means: &Means<'_>,
    ) -> io::Result<Self> {
        let method = match request.protocol {
            #[cfg(feature = "remote")]
            Protocol::Remote => Method::OnServer(Stop::default()),
            protocol if protocol.is_existence_lock() => {
                Method::BetweenTries(EntryWait::new(means.watcher, local))
            }
            _ => {
                let signal = means.signal.map_or_else(sys::Signal::any, Ok)?;
                let alarm: Arc<dyn sys::Alarm> = Arc::clone(means.timer) as _;
                Method::InKernel(sys::Interrupter::new(signal, alarm)?)
            }
        };
        Ok(Self {
            request,
            range: None,
            object: OnceLock::new(),
            local,
            method,
            progress: Mutex::new(Progress {
                source: Some(source),
                thread: None,
                over: false,
                interrupted: false,
                returning: false,
                interruption: None,
            }),
        })
    }

    /// A wait for a range of a file, through a duplicate of the descriptor of its owner. Whatever
    /// comes of it, the owner puts right what it holds.
    pub(crate) fn for_range(
        object: Arc<LockObject>,
        local: bool,
        mode: Mode,
        range: Span,
        means: &Means<'_>,
    ) -> io::Result<Self> {
        if !sys::WAITS_FOR_RANGES {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let request = Request {
            mode,
            protocol: Protocol::Fcntl,
            stale_after: None,
            fencing: false,
        };
        let wait = Self::new(Source::Open(object), local, request, means)?;
        Ok(Self {
            range: Some(range),
            ..wait
        })
    }

    /// The object on which it waits, if its thread has opened it.
    pub(crate) fn object(&self) -> Option<&Arc<LockObject>> {
        self.object.get()
    }

    /// Takes the object back from a wait that no thread has begun.
    pub(crate) fn take_back(&self) -> Option<Arc<LockObject>> {
        match lock(&self.progress).source.take() {
            Some(Source::Open(object)) => Some(object),
            _ => None,
        }
    }

    /// Waits on the calling thread.
    pub(crate) fn run(&self, deadline: Deadline) -> Outcome {
        let source = lock(&self.progress).source.take();
        let Some(Ok(object)) = source.map(Source::open) else {
            return self.end(Outcome::NotBegun);
        };
        let outcome = self.wait(self.object.get_or_init(|| object), deadline);
        self.end(outcome)
    }

    fn end(&self, outcome: Outcome) -> Outcome {
        let mut progress = lock(&self.progress);
        progress.thread = None;
        progress.over = true;
        if !progress.interrupted {
            return outcome;
        }
        let interruption = progress.interruption.take();
        drop(progress);
        if self.range.is_some() {
            return Outcome::Interrupted;
        }
        let backend = self.request.protocol.backend();
        // Closing it is not enough: a forked child may have a copy.
        if let (Some(interruption), Some(object)) = (interruption, self.object()) {
            let _ = match interruption.held() {
                Some(file) => backend.unlock(&LockObject::file(file, object.writable)),
                None => backend.unlock(object),
            };
            return Outcome::Interrupted;
        }
        match outcome {
            // The queue has forgotten the wait, and gives the lock back.
            Outcome::Locked => Outcome::Locked,
            _ => Outcome::Interrupted,
        }
    }

    fn wait(&self, object: &LockObject, deadline: Deadline) -> Outcome {
        let interrupter = match &self.method {
            Method::InKernel(interrupter) => interrupter,
            Method::BetweenTries(wait) => {
                let interrupted = || lock(&self.progress).interrupted;
                return wait.run(object, self.request, deadline, interrupted);
            }
            #[cfg(feature = "remote")]
            Method::OnServer(stop) => return self.wait_on_server(object, deadline, stop),
        };
        let Ok(timed_wait) = interrupter.timed_wait(deadline) else {
            return Outcome::NotBegun;
        };
        {
            let mut progress = lock(&self.progress);
            if progress.interrupted {
                return Outcome::Interrupted;
            }
            progress.thread = Some(timed_wait.thread());
        }
        loop {
            match self.sleep(object, &timed_wait) {
                Ok(()) => return Outcome::Locked,
                Err(e) if e.kind() != io::ErrorKind::Interrupted => return Outcome::Failed(e),
                // By a cancellation, by the deadline, or by a signal of the program's own.
                Err(_) if lock(&self.progress).interrupted => return Outcome::Interrupted,
                Err(_) if deadline.passed() => return Outcome::TimedOut,
                Err(_) => {}
            }
        }
    }

    #[cfg(feature = "remote")]
    fn wait_on_server(&self, object: &LockObject, deadline: Deadline, stop: &Stop) -> Outcome {
        let Some(claim) = object.as_claim() else {
            return Outcome::NotBegun;
        };
        match claim.seat.wait(self.request.mode, deadline, stop) {
            Ok(()) => Outcome::Locked,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Outcome::Interrupted,
            Err(e) if e.kind() == io::ErrorKind::TimedOut => Outcome::TimedOut,
            Err(e) => Outcome::Failed(e),
        }
    }

    fn sleep(&self, object: &LockObject, timed_wait: &sys::TimedWait) -> io::Result<()> {
        let backend = self.request.protocol.backend();
        // A model checker runs all threads on one, which must not block.
        if cfg!(any(loom, shuttle)) {
            while !backend.try_lock(object, self.request)? {
                thread::yield_now();
            }
            return Ok(());
        }
        if let Some(range) = self.range {
            return sys::wait_for_range(&object.file, self.request.mode, range, timed_wait);
        }
        backend.wait(object, self.request, timed_wait)
    }

    /// Interrupts the waiter, which returns within microseconds. Returns `false` if it was interrupted
    /// before, or is about to report an outcome already, or if the system refused to interrupt it; it
    /// then returns with the lock at the latest.
    pub(crate) fn interrupt(&self) -> bool {
        let mut progress = lock(&self.progress);
        if progress.interrupted || progress.over {
            return false;
        }
        progress.interrupted = true;
        progress.returning = true;
        let interrupter = match &self.method {
            Method::InKernel(interrupter) => interrupter,
            Method::BetweenTries(wait) => {
                wait.wake();
                return true;
            }
            #[cfg(feature = "remote")]
            Method::OnServer(stop) => {
                stop.stop();
                return true;
            }
        };
        if let (Some(thread), Some(object)) = (progress.thread, self.object()) {
            // The thread cannot end: it takes this mutex before it lets go of the wait.
            progress.interruption = interrupter.interrupt(thread, &object.file).ok();
            progress.returning = progress.interruption.is_some();
        }
        progress.returning
    }

    /// No thread will begin it, and none is to be interrupted.
    fn withdraw(&self) {
        lock(&self.progress).over = true;
    }

    /// Whether [`interrupt`](Self::interrupt) makes no call that may take long.
    fn is_interrupted_at_once(&self) -> bool {
        self.local || !matches!(self.method, Method::InKernel(_))
    }

    /// Whether a caller was told that it returns at once.
    fn is_returning(&self) -> bool {
        lock(&self.progress).returning
    }
}
