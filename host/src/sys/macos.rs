//! macOS: record locks of the open file description with a timeout, signals aimed at a thread.
//!
//! `flock`, POSIX and open-file-description locks of a file are in one list and exclude each other.
//! A signal interrupts every kind of wait.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr;
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

use super::unix::{Unblocked, check, check_number, range_lock, record_lock, timespec, whole_file};
use crate::deadline::Deadline;
use crate::range::Span;
use crate::sync::{Mutex, lock};
use crate::sys::{Alarm, Backing, Pending};
use crate::types::Mode;

mod kqueue;

pub(crate) use self::kqueue::{Kqueue, Notice, open_for_notices};
pub(crate) use super::unix::{
    Identity, NO_LINK, OPEN_FLAGS, OpenOptionsExt, RangeLocks, Signal, WAITS_FOR_RANGES, adopt,
    attribute, create_dir, create_file, each_name, entry_at, entry_of, exchange, fork_generation,
    holder, host_name, is_reaped, kind_of, link, open_dir, open_file, open_subdir, os_string,
    read_link, remove, remove_dir, rename, rename_new, set_attribute, symlink, try_lock, unlink,
    unlock, without_signals,
};
#[cfg(feature = "sandbox")]
pub(crate) use super::unix::{read_dir, remove_empty};

impl Identity {
    /// On what the file system of `file`, whose identity this is, depends.
    pub(crate) fn backing(self, file: &File) -> Backing {
        let system = rustix::fs::fstatfs(file);
        let remote = |flags: u32| flags & libc::MNT_LOCAL.cast_unsigned() == 0;
        match system.is_ok_and(|system| remote(system.f_flags)) {
            true => Backing::Network,
            false => Backing::Kernel,
        }
    }
}

/// Set in the [`flock_domain`] of a file system that is not known to be local.
pub(crate) const OF_THIS_BOOT: u64 = 1 << 63;

/// Where a `flock` counts as the proof that its holder lives. Not examined on macOS.
pub(crate) fn flock_domain(_: &File) -> io::Result<u64> {
    Err(io::ErrorKind::Unsupported.into())
}

/// A second open file description of an open file, by one of its names. Locks of the two exclude
/// each other. (`/dev/fd` gives a duplicate, which has the locks of the first.)
pub(crate) fn reopen(file: &File, writable: bool) -> io::Result<File> {
    use std::os::unix::ffi::OsStrExt;
    let path = rustix::fs::getpath(file)?;
    let again = OpenOptions::new()
        .read(true)
        .write(writable)
        .custom_flags(OPEN_FLAGS)
        .open(OsStr::from_bytes(path.as_bytes()))?;
    let identity = |file: &File| Identity::of(file, &file.metadata()?);
    if identity(&again)? == identity(file)? {
        Ok(again)
    } else {
        Err(io::ErrorKind::NotFound.into())
    }
}

/// The argument of [`F_OFD_SETLKWTIMEOUT`]: `struct flocktimeout` of the system's headers.
#[repr(C)]
struct TimedLock {
    lock: libc::flock,
    timeout: libc::timespec,
}

const F_OFD_SETLKWTIMEOUT: libc::c_int = 93;

/// Waits for the open-file-description lock. Fails with [`io::ErrorKind::Interrupted`] when a
/// signal ends the wait, and when the deadline may have passed.
///
/// The kernel restarts its timeout when the thread loses a race for the lock, so a call can take
/// longer, by one timeout for each race. Calling again with the remaining time does not add to
/// that.
pub(crate) fn wait(file: &File, mode: Mode, timed_wait: &TimedWait) -> io::Result<()> {
    wait_for(file, whole_file(Some(mode)), timed_wait)
}

/// The same for a range.
pub(crate) fn wait_for_range(
    file: &File,
    mode: Mode,
    span: Span,
    timed_wait: &TimedWait,
) -> io::Result<()> {
    wait_for(file, range_lock(Some(mode), span), timed_wait)
}

fn wait_for(file: &File, lock: libc::flock, timed_wait: &TimedWait) -> io::Result<()> {
    let Some(at) = timed_wait.deadline.instant() else {
        return record_lock(file, libc::F_OFD_SETLKW, &mut { lock });
    };
    let left = at.saturating_duration_since(Instant::now());
    let mut timed = TimedLock {
        lock,
        // All zeroes would mean no timeout.
        timeout: timespec(left.max(Duration::from_nanos(1))),
    };
    // SAFETY: the descriptor is open, and `timed` is what the command takes, valid for reads and
    // writes during the call.
    let locked = check(unsafe {
        libc::fcntl(
            file.as_raw_fd(),
            F_OFD_SETLKWTIMEOUT,
            ptr::from_mut(&mut timed),
        )
    });
    match locked {
        Ok(_) => Ok(()),
        Err(e) if e.raw_os_error() == Some(libc::ETIMEDOUT) => {
            Err(io::ErrorKind::Interrupted.into())
        }
        Err(e) => Err(e),
    }
}

/// `SIGEMT`, which no processor of a Mac raises, and then `SIGINFO`, which has no effect on a
/// program that does not handle it. Go uses `SIGURG`, `SIGUSR1` and `SIGUSR2` belong to the
/// program, and there are no real-time signals.
pub(super) fn spare_signals() -> impl Iterator<Item = libc::c_int> {
    [libc::SIGEMT, libc::SIGINFO].into_iter()
}

/// A thread of this process, and the signal that wakes it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Thread(libc::pthread_t, Signal);

impl Thread {
    /// Sends the signal. The caller guarantees that the thread has not ended.
    fn signal(self) -> io::Result<()> {
        // SAFETY: the caller guarantees that the thread exists; the handler of the signal does
        // nothing.
        check_number(unsafe { libc::pthread_kill(self.0, self.1.0) })
    }
}

/// Interrupts one wait.
#[derive(Debug)]
pub(crate) struct Interrupter {
    signal: Signal,
    alarm: Arc<dyn Alarm>,
    /// Keeps the timer thread alive, so that [`interrupt`](Self::interrupt) need not start one.
    _ready: Pending,
}

impl Interrupter {
    /// Acquires all resources before a wait begins.
    pub(crate) fn new(signal: Signal, alarm: Arc<dyn Alarm>) -> io::Result<Self> {
        const AGES: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);
        let ready = Arc::clone(&alarm).wake_at(Instant::now() + AGES, Waker::noop().clone())?;
        Ok(Self {
            signal,
            alarm,
            _ready: ready,
        })
    }

    /// Lets interruptions reach the calling thread.
    pub(crate) fn timed_wait(&self, deadline: Deadline) -> io::Result<TimedWait> {
        let unblocked = self.signal.unblock()?;
        // SAFETY: has no preconditions.
        let thread = Thread(unsafe { libc::pthread_self() }, self.signal);
        Ok(TimedWait {
            thread,
            deadline,
            alarm: Arc::clone(&self.alarm),
            _unblocked: unblocked,
        })
    }

    /// Interrupts the wait of `thread` for a lock on `file`, whether it is about to wait or waits
    /// already.
    ///
    /// A signal gets lost if it arrives before the system call begins, so it is sent until the
    /// thread has returned. Pointing the descriptor elsewhere first, as on Linux, would block: on
    /// macOS, `dup2` and `close` wait until no thread uses the descriptor.
    ///
    /// The caller guarantees that `thread` does not end before the result is dropped.
    pub(crate) fn interrupt(&self, thread: Thread, _: &File) -> io::Result<Interruption> {
        thread.signal()?;
        let again = RepeatedSignal::set(&self.alarm, thread, Instant::now() + AGAIN)?;
        Ok(Interruption { _again: again })
    }
}

/// An interruption, until the thread has returned.
#[derive(Debug)]
pub(crate) struct Interruption {
    _again: RepeatedSignal,
}

impl Interruption {
    /// What the thread may have locked, if not the file on which it waited.
    pub(crate) fn held(self) -> Option<File> {
        None
    }
}

/// A thread that is ready to wait.
pub(crate) struct TimedWait {
    thread: Thread,
    deadline: Deadline,
    alarm: Arc<dyn Alarm>,
    _unblocked: Unblocked,
}

impl TimedWait {
    pub(crate) fn thread(&self) -> Thread {
        self.thread
    }

    /// Runs a system call without a timeout of its own, and interrupts it at the deadline.
    pub(crate) fn untimed<R>(&self, call: impl FnOnce() -> io::Result<R>) -> io::Result<R> {
        let _alarm = self
            .deadline
            .instant()
            .map(|at| RepeatedSignal::set(&self.alarm, self.thread, at))
            .transpose()?;
        call()
    }
}

/// How soon a signal that may have come too early is sent again.
const AGAIN: Duration = Duration::from_millis(1);

/// Interrupts the system calls of one thread from a given time on, until it is dropped. The system
/// has no timers aimed at a thread, so the engine's timer does it.
///
/// It fires repeatedly, because a single signal gets lost if it arrives just before the system call
/// begins.
#[derive(Debug)]
struct RepeatedSignal(Arc<Ringer>);

#[derive(Debug)]
struct Ringer {
    alarm: Arc<dyn Alarm>,
    thread: Thread,
    /// `None` once canceled. Locked while the signal is sent.
    next: Mutex<Option<Pending>>,
}

impl RepeatedSignal {
    fn set(alarm: &Arc<dyn Alarm>, thread: Thread, at: Instant) -> io::Result<Self> {
        let ringer = Arc::new(Ringer {
            alarm: Arc::clone(alarm),
            thread,
            next: Mutex::default(),
        });
        let mut next = lock(&ringer.next);
        *next = Some(Arc::clone(alarm).wake_at(at, Waker::from(Arc::clone(&ringer)))?);
        drop(next);
        Ok(Self(ringer))
    }
}

impl Wake for Ringer {
    fn wake(self: Arc<Self>) {
        let mut next = lock(&self.next);
        if next.is_some() {
            let sent = self.thread.signal();
            debug_assert!(sent.is_ok(), "{sent:?}");
            let waker = Waker::from(Arc::clone(&self));
            *next = Arc::clone(&self.alarm)
                .wake_at(Instant::now() + AGAIN, waker)
                .ok();
        }
    }
}

impl Drop for RepeatedSignal {
    fn drop(&mut self) {
        let next = lock(&self.0.next).take();
        drop(next);
    }
}

/// Points the descriptor of `file`, on which no thread waits, at an empty pipe, which closes the
/// open file description behind it and, if this was its last descriptor, frees its locks.
pub(crate) fn detach(file: &File) -> io::Result<()> {
    let (reader, _) = std::io::pipe()?;
    let decoy = OwnedFd::from(reader);
    // SAFETY: the number stays open and stays owned by `file` throughout; what it refers to
    // changes atomically. Other threads may use it at the same time, and see one file or the other.
    check(unsafe { libc::dup2(decoy.as_raw_fd(), file.as_raw_fd()) })?;
    // There is no `dup3`: a program that is started between the two calls inherits the pipe, which
    // is unused, and no lock.
    rustix::io::fcntl_setfd(file, rustix::io::FdFlags::CLOEXEC)?;
    Ok(())
}

/// Whether a link dangles.
pub(crate) fn leads_nowhere(dir: &File, link: &OsStr) -> bool {
    use rustix::fs::{AtFlags, statat};
    use rustix::io::Errno;
    let found = statat(dir, link, AtFlags::empty());
    matches!(found, Err(Errno::NOENT | Errno::LOOP))
}

/// macOS has no descriptor that keeps the inode number of any kind of entry, but does not reuse
/// numbers soon.
pub(crate) fn pin(_: &File, _: &OsStr) -> io::Result<Option<File>> {
    Ok(None)
}

/// On macOS, files have names from the start.
pub(crate) fn nameless_file(_: &File, _: u32) -> io::Result<File> {
    Err(io::ErrorKind::Unsupported.into())
}

/// As [`nameless_file`].
pub(crate) fn give_name(_: &File, _: &File, _: &OsStr) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// macOS has no namespaces; this stands for the only one.
pub(crate) const INITIAL_PID_NAMESPACE: u64 = 0xefff_fffc;

/// The PID namespace of this process.
pub(crate) fn pid_namespace() -> u64 {
    INITIAL_PID_NAMESPACE
}

/// Not queried. So a holder is proven dead only if no process has its number.
pub(crate) fn boot_id() -> u128 {
    0
}

/// As [`boot_id`].
pub(crate) fn start_ticks(_: u32) -> Option<u64> {
    None
}

/// Not known on macOS, so the process counts as alive.
pub(crate) fn is_zombie(_: u32) -> bool {
    false
}

/// macOS has no namespaces.
pub(crate) fn has_inner_pid(_: u32) -> bool {
    false
}

/// The path of an open file or directory.
pub(crate) fn path_of(dir: &File) -> io::Result<std::path::PathBuf> {
    use std::os::unix::ffi::OsStrExt;
    let path = rustix::fs::getpath(dir)?;
    Ok(OsStr::from_bytes(path.as_bytes()).into())
}
