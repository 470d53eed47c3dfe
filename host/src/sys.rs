//! The system calls that no safe binding offers, and with them all `unsafe` of this crate.
//!
//! Four groups: locks owned by an open file description, the interruption of a thread that waits
//! in the kernel, one-shot timers aimed at a thread, and a counter of forks.

#![expect(unsafe_code, reason = "these system calls have no safe binding")]

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::Mode;

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// A record lock over the whole file, whatever its length.
fn whole_file(kind: libc::c_int) -> libc::flock {
    // SAFETY: `flock` is plain data for which all zeroes is a value: from offset 0 to the end,
    // and `l_pid` 0 as open-file-description locks demand.
    let mut lock: libc::flock = unsafe { MaybeUninit::zeroed().assume_init() };
    lock.l_type = kind as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    lock
}

fn kind(mode: Mode) -> libc::c_int {
    match mode {
        Mode::Exclusive => libc::F_WRLCK,
        Mode::Shared => libc::F_RDLCK,
    }
}

fn fcntl_lock(file: &File, command: libc::c_int, lock: &mut libc::flock) -> io::Result<()> {
    // SAFETY: the descriptor is open, and `lock` is valid for reads and writes during the call.
    check(unsafe { libc::fcntl(file.as_raw_fd(), command, ptr::from_mut(lock)) }).map(drop)
}

/// Takes the open-file-description lock; waits for it in the kernel if `wait`, else answers
/// `false` where it is held. A signal ends the wait with [`io::ErrorKind::Interrupted`].
pub(crate) fn ofd_lock(file: &File, mode: Mode, wait: bool) -> io::Result<bool> {
    let command = if wait {
        libc::F_OFD_SETLKW
    } else {
        libc::F_OFD_SETLK
    };
    match fcntl_lock(file, command, &mut whole_file(kind(mode))) {
        Ok(()) => Ok(true),
        Err(e) if !wait && matches!(e.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => {
            Ok(false)
        }
        Err(e) => Err(e),
    }
}

/// Gives the open-file-description lock back.
pub(crate) fn ofd_unlock(file: &File) -> io::Result<()> {
    fcntl_lock(file, libc::F_OFD_SETLK, &mut whole_file(libc::F_UNLCK))
}

/// The mode in which another open file description or process holds a record lock on any part of
/// the file. Asks without taking anything.
pub(crate) fn ofd_holder(file: &File) -> io::Result<Option<Mode>> {
    let mut lock = whole_file(libc::F_WRLCK);
    fcntl_lock(file, libc::F_OFD_GETLK, &mut lock)?;
    Ok(match libc::c_int::from(lock.l_type) {
        libc::F_UNLCK => None,
        libc::F_RDLCK => Some(Mode::Shared),
        _ => Some(Mode::Exclusive),
    })
}

/// A thread of this process, as the kernel numbers it, and the signal that wakes it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Thread(libc::pid_t, Signal);

impl Thread {
    /// Makes the calling thread one that [`interrupt`] and [`Alarm`] reach.
    pub(crate) fn current(signal: Signal) -> io::Result<Self> {
        // SAFETY: `set` is initialised by `sigemptyset` before it is read; unblocking a signal
        // that has a handler has no other effect on the thread.
        unsafe {
            let mut set = MaybeUninit::uninit();
            check(libc::sigemptyset(set.as_mut_ptr()))?;
            check(libc::sigaddset(set.as_mut_ptr(), signal.0))?;
            match libc::pthread_sigmask(libc::SIG_UNBLOCK, set.as_ptr(), ptr::null_mut()) {
                0 => {}
                e => return Err(io::Error::from_raw_os_error(e)),
            }
        }
        let number = rustix::thread::gettid().as_raw_nonzero().get();
        Ok(Self(number, signal))
    }
}

/// Ends the wait of `thread` for a lock on `file`, whether it is about to wait or waits already.
///
/// A signal alone gets lost where it arrives before the system call begins. So the descriptor is
/// pointed at a private file first, on which every lock is free: a thread that has yet to enter
/// the call comes back at once, and one that is inside is woken by the signal. Either way nobody
/// can tell from the result what was locked, and it takes another descriptor to unlock it.
///
/// The caller guarantees that `thread` does not end, and that `file` stays open, during the call.
pub(crate) fn interrupt(thread: Thread, file: &File) -> io::Result<()> {
    detach(file)?;
    // SAFETY: both identifiers are plain numbers; the handler of the signal does nothing.
    let sent = unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread.0, thread.1.0) };
    if sent == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Points the descriptor of `file` at a private file, and so gives up the open file description
/// behind it, with all its locks if this was the last descriptor of it.
pub(crate) fn detach(file: &File) -> io::Result<()> {
    let decoy = decoy()?;
    // SAFETY: the number stays open and stays owned by `file` throughout; what it refers to
    // changes atomically. Other threads may use it at the same time, and see one file or the other.
    check(unsafe { libc::dup3(decoy.as_raw_fd(), file.as_raw_fd(), libc::O_CLOEXEC) }).map(drop)
}

/// Does what can fail for want of resources before a wait begins, so that [`interrupt`] cannot.
pub(crate) fn prepare_interrupts() -> io::Result<()> {
    decoy().map(drop)
}

fn decoy() -> io::Result<&'static File> {
    static DECOY: OnceLock<File> = OnceLock::new();
    if let Some(file) = DECOY.get() {
        return Ok(file);
    }
    let flags = rustix::fs::MemfdFlags::CLOEXEC;
    let file = File::from(rustix::fs::memfd_create(c"locket", flags)?);
    Ok(DECOY.get_or_init(|| file))
}

extern "C" fn ignore(_: libc::c_int) {}

/// A signal that ends the wait of a thread and has no other effect. Its handler is this
/// crate's, which does nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Signal(libc::c_int);

impl Signal {
    /// `SIGSTKFLT`, which the kernel never sends, or where somebody in this process handles that,
    /// the first from `SIGRTMIN + 8` on that nobody does. The C library reserves those below
    /// `SIGRTMIN`, and Go runs on `SIGURG`. The first choice is none of the real-time signals
    /// because those fail to be sent when the user has too many pending.
    pub(crate) fn any() -> io::Result<Self> {
        static SIGNAL: OnceLock<Option<Signal>> = OnceLock::new();
        let signal = SIGNAL.get_or_init(|| {
            let spare = std::iter::once(libc::SIGSTKFLT);
            let mut signals = spare.chain(libc::SIGRTMIN() + 8..=libc::SIGRTMAX());
            signals.find_map(|signal| Self::claim(signal).ok())
        });
        signal.ok_or_else(|| io::Error::other("every signal of this process is taken"))
    }

    /// Installs the empty handler on `number`, unless that has a handler of somebody else's.
    /// Without `SA_RESTART`, since to end a system call is all that the signal is for.
    pub(crate) fn claim(number: libc::c_int) -> io::Result<Self> {
        let handler = ignore as extern "C" fn(libc::c_int) as usize;
        // SAFETY: both structures are plain data for which all zeroes is a value, and the handler
        // may run on any thread at any time, since it does nothing.
        unsafe {
            let mut old: libc::sigaction = MaybeUninit::zeroed().assume_init();
            check(libc::sigaction(number, ptr::null(), &mut old))?;
            if old.sa_sigaction != libc::SIG_DFL && old.sa_sigaction != handler {
                let taken = format!("signal {number} is handled by somebody else");
                return Err(io::Error::new(io::ErrorKind::AddrInUse, taken));
            }
            let mut new: libc::sigaction = MaybeUninit::zeroed().assume_init();
            new.sa_sigaction = handler;
            check(libc::sigaction(number, &new, ptr::null_mut()))?;
        }
        Ok(Self(number))
    }
}

/// Interrupts the system calls of one thread from a point in time on, until it is dropped.
///
/// It fires again every millisecond, because a single signal gets lost where it arrives just
/// before the system call begins.
pub(crate) struct Alarm(libc::timer_t);

impl Alarm {
    pub(crate) fn set(thread: Thread, at: Instant) -> io::Result<Self> {
        let mut timer = ptr::null_mut();
        // SAFETY: `event` is plain data for which all zeroes is a value, and `timer` is written
        // by a successful call.
        let this = unsafe {
            let mut event: libc::sigevent = MaybeUninit::zeroed().assume_init();
            event.sigev_notify = libc::SIGEV_THREAD_ID;
            event.sigev_signo = thread.1.0;
            event.sigev_notify_thread_id = thread.0;
            check(libc::timer_create(
                libc::CLOCK_MONOTONIC,
                &mut event,
                &mut timer,
            ))?;
            Self(timer)
        };
        let spec = libc::itimerspec {
            it_interval: timespec(Duration::from_millis(1)),
            // All zeroes would disarm it.
            it_value: timespec(
                at.saturating_duration_since(Instant::now())
                    .max(Duration::from_nanos(1)),
            ),
        };
        // SAFETY: the timer exists, `spec` is valid for reads.
        check(unsafe { libc::timer_settime(this.0, 0, &spec, ptr::null_mut()) })?;
        Ok(this)
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        // SAFETY: the timer exists and is deleted once. A signal that it has already sent is
        // delivered at the latest when this call returns.
        unsafe { libc::timer_delete(self.0) };
    }
}

fn timespec(duration: Duration) -> libc::timespec {
    libc::timespec {
        tv_sec: libc::time_t::try_from(duration.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}

/// How many times this process image was forked on the way from the first call to here: a value
/// that differs from an earlier one means that this is a child, which shares its parent's open
/// file descriptions and must leave their locks alone.
pub(crate) fn fork_generation() -> u32 {
    static GENERATION: AtomicU32 = AtomicU32::new(0);
    static WATCHED: OnceLock<()> = OnceLock::new();
    extern "C" fn child() {
        GENERATION.fetch_add(1, Ordering::Relaxed);
    }
    WATCHED.get_or_init(|| {
        // SAFETY: the handler is safe to run in a child of a process with several threads: it
        // changes one atomic.
        unsafe { libc::pthread_atfork(None, None, Some(child)) };
    });
    GENERATION.load(Ordering::Relaxed)
}
