//! Linux: record locks of the open file description, timers and signals aimed at a thread.

use std::fs::{File, OpenOptions};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::ptr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::unix::{check, record_lock, timespec, whole_file};
use crate::Mode;
use crate::deadline::{Clock, Deadline};

pub(crate) use super::unix::{
    Identity, OPEN_FLAGS, OpenOptionsExt, Signal, fork_generation, has_name, holder,
    keep_signals_away, kind_of, remove, try_lock, unlock,
};

impl Identity {
    /// Whether `file`, whose identity this is, lies on a network file system.
    pub(crate) fn is_network(self, file: &File) -> bool {
        const NFS: u64 = 0x6969;
        const SMB: u64 = 0xff53_4d42;
        const SMB2: u64 = 0xfe53_4d42;
        // On a device, then: network file systems have none, and number 0 in its place.
        if rustix::fs::major(self.device) != 0 {
            return false;
        }
        let kind = rustix::fs::fstatfs(file).map(|fs| fs.f_type.cast_unsigned());
        matches!(kind.map(|kind| kind & 0xffff_ffff), Ok(NFS | SMB | SMB2))
    }
}

/// A second open file description of an open file, whatever became of its name. Locks of the two
/// exclude each other. Fails where `/proc` is not there, or where the file may not be opened any
/// more by whom this process has become.
pub(crate) fn reopen(file: &File, writable: bool) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(writable)
        .custom_flags(OPEN_FLAGS)
        .open(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// Waits for the open-file-description lock, which a signal ends with
/// [`io::ErrorKind::Interrupted`].
pub(crate) fn wait(file: &File, mode: Mode, _: &Sleeper) -> io::Result<()> {
    record_lock(file, libc::F_OFD_SETLKW, &mut whole_file(Some(mode)))
}

/// `SIGSTKFLT`, which the kernel never sends, and then those from `SIGRTMIN + 8` on. The C library
/// reserves those below `SIGRTMIN`, and Go runs on `SIGURG`. The first choice is none of the
/// real-time signals because those fail to be sent when the user has too many pending.
pub(super) fn spare_signals() -> impl Iterator<Item = libc::c_int> {
    std::iter::once(libc::SIGSTKFLT).chain(libc::SIGRTMIN() + 8..=libc::SIGRTMAX())
}

/// A thread of this process, as the kernel numbers it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Thread(libc::pid_t);

/// What calls one wait back.
#[derive(Debug)]
pub(crate) struct Bell {
    signal: Signal,
}

impl Bell {
    /// Does what can fail for want of resources before a wait begins, so that
    /// [`ring`](Self::ring) cannot.
    pub(crate) fn new(signal: Signal, _: &Arc<Clock>) -> io::Result<Self> {
        decoy()?;
        Ok(Self { signal })
    }

    /// Makes the calling thread one that is reached until the deadline, and signalled from then
    /// on.
    pub(crate) fn sleeper(&self, deadline: Deadline) -> io::Result<Sleeper> {
        self.signal.unblock()?;
        let thread = Thread(rustix::thread::gettid().as_raw_nonzero().get());
        let alarm = deadline
            .instant()
            .map(|at| Alarm::set(thread, self.signal, at))
            .transpose()?;
        Ok(Sleeper {
            thread,
            _alarm: alarm,
        })
    }

    /// Ends the wait of `thread` for a lock on `file`, whether it is about to wait or waits
    /// already.
    ///
    /// A signal alone gets lost where it arrives before the system call begins. So the descriptor
    /// is pointed at a private file first, on which every lock is free: a thread that has yet to
    /// enter the call comes back at once, and one that is inside is woken by the signal. Either
    /// way nobody can tell from the result what was locked, and it takes another descriptor to
    /// unlock it.
    ///
    /// The caller guarantees that `thread` does not end, and that `file` stays open, during the
    /// call.
    pub(crate) fn ring(&self, thread: Thread, file: &File) -> io::Result<Recall> {
        let kept = file.try_clone().ok();
        detach(file)?;
        // SAFETY: both identifiers are plain numbers; the handler of the signal does nothing.
        let sent =
            unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread.0, self.signal.0) };
        if sent == -1 {
            return Err(io::Error::last_os_error());
        }
        Ok(Recall { kept })
    }
}

/// A call that was made, until the thread has come back.
#[derive(Debug)]
pub(crate) struct Recall {
    /// The description on which the thread waited.
    kept: Option<File>,
}

impl Recall {
    /// What the thread may have locked, if it waited on `file`.
    pub(crate) fn held<'a>(&'a self, file: &'a File) -> &'a File {
        self.kept.as_ref().unwrap_or(file)
    }
}

/// A thread that is ready to wait.
pub(crate) struct Sleeper {
    thread: Thread,
    _alarm: Option<Alarm>,
}

impl Sleeper {
    pub(crate) fn thread(&self) -> Thread {
        self.thread
    }

    /// Runs a system call that knows nothing of deadlines, so that it ends when one passes.
    pub(crate) fn untimed<R>(&self, call: impl FnOnce() -> io::Result<R>) -> io::Result<R> {
        call()
    }
}

/// Interrupts the system calls of one thread from a point in time on, until it is dropped.
///
/// It fires again every millisecond, because a single signal gets lost where it arrives just
/// before the system call begins.
struct Alarm(libc::timer_t);

impl Alarm {
    fn set(thread: Thread, signal: Signal, at: Instant) -> io::Result<Self> {
        let mut timer = ptr::null_mut();
        // SAFETY: `event` is plain data for which all zeroes is a value, and `timer` is written
        // by a successful call.
        let this = unsafe {
            let mut event: libc::sigevent = MaybeUninit::zeroed().assume_init();
            event.sigev_notify = libc::SIGEV_THREAD_ID;
            event.sigev_signo = signal.0;
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

/// Points the descriptor of `file` at a private file, and so gives up the open file description
/// behind it, with all its locks if this was the last descriptor of it.
pub(crate) fn detach(file: &File) -> io::Result<()> {
    let decoy = decoy()?;
    // SAFETY: the number stays open and stays owned by `file` throughout; what it refers to
    // changes atomically. Other threads may use it at the same time, and see one file or the other.
    check(unsafe { libc::dup3(decoy.as_raw_fd(), file.as_raw_fd(), libc::O_CLOEXEC) }).map(drop)
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

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    /// It arrives when the thread has made itself known and has yet to enter the system call, and
    /// a signal alone would be lost.
    #[test]
    fn a_call_that_comes_before_the_wait_is_not_lost() {
        let dir = tempfile::tempdir().expect("a folder");
        let open = || {
            let mut options = File::options();
            options.read(true).write(true).create(true).truncate(false);
            Arc::new(options.open(dir.path().join("lock")).expect("a file"))
        };
        let (held, waits) = (open(), open());
        assert!(try_lock(&held, Mode::Exclusive).expect("a lock"));
        let signal = Signal::any().expect("a signal");
        let clock = Arc::new(Clock::new(|| ()));
        let bell = Bell::new(signal, &clock).expect("a bell");
        let (known, thread) = mpsc::channel();
        let (rung, go) = mpsc::channel();
        let (ended, end) = mpsc::channel();
        let waiter = {
            let waits = Arc::clone(&waits);
            let sleeper = move || bell.sleeper(Deadline::Never).map(|sleeper| (bell, sleeper));
            thread::spawn(move || {
                let (bell, sleeper) = sleeper().expect("ready to wait");
                known.send((bell, sleeper.thread())).expect("somebody");
                go.recv().expect("a call");
                let _ = wait(&waits, Mode::Exclusive, &sleeper);
                ended.send(()).expect("somebody");
            })
        };
        let (bell, thread) = thread.recv().expect("a thread");
        let _recall = bell.ring(thread, &waits).expect("a call");
        rung.send(()).expect("somebody");
        let ended = end.recv_timeout(Duration::from_secs(10));
        assert!(ended.is_ok(), "the call was lost");
        waiter.join().expect("its end");
    }
}
