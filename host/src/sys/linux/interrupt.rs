//! Interrupting a blocked thread, by a signal that is aimed at it.

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::ptr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crate::deadline::Deadline;
use crate::sys::Alarm;
use crate::sys::unix::{Signal, Unblocked, check, timespec};

/// A thread of this process, as the kernel numbers it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Thread(libc::pid_t);

/// Interrupts one wait.
#[derive(Debug)]
pub(crate) struct Interrupter {
    signal: Signal,
}

impl Interrupter {
    /// Acquires all resources before a wait begins, so that [`interrupt`](Self::interrupt) cannot
    /// fail for lack of them.
    pub(crate) fn new(signal: Signal, _: Arc<dyn Alarm>) -> io::Result<Self> {
        decoy()?;
        Ok(Self { signal })
    }

    /// Lets interruptions reach the calling thread, and signals it from the deadline on.
    pub(crate) fn timed_wait(&self, deadline: Deadline) -> io::Result<TimedWait> {
        let unblocked = self.signal.unblock()?;
        let thread = Thread(rustix::thread::gettid().as_raw_nonzero().get());
        let alarm = deadline
            .instant()
            .map(|at| ThreadTimer::set(thread, self.signal, at))
            .transpose()?;
        Ok(TimedWait {
            thread,
            signal: self.signal,
            _alarm: alarm,
            _unblocked: unblocked,
        })
    }

    /// Interrupts the wait of `thread` for a lock on `file`, whether it is about to wait or waits
    /// already.
    ///
    /// A signal alone gets lost if it arrives before the system call begins. So the descriptor is
    /// pointed at a private file first, on which every lock is free. A thread that has yet to enter
    /// the call then returns at once, and the signal wakes one that is inside. Either way the
    /// result does not tell which file was locked, and unlocking takes another descriptor.
    ///
    /// The caller guarantees that `thread` does not end, and that `file` stays open, during the
    /// call.
    pub(crate) fn interrupt(&self, thread: Thread, file: &File) -> io::Result<Interruption> {
        let kept = file.try_clone().ok();
        let detached = detach(file);
        // SAFETY: both identifiers are plain numbers; the handler of the signal does nothing.
        let sent =
            unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread.0, self.signal.0) };
        if sent == -1 {
            return Err(io::Error::last_os_error());
        }
        // If this fails, the signal may have been enough, or may be lost.
        detached.map(|()| Interruption { kept })
    }
}

/// An interruption, until the thread has returned.
#[derive(Debug)]
pub(crate) struct Interruption {
    /// The description on which the thread waited.
    kept: Option<File>,
}

impl Interruption {
    /// What the thread may have locked, if not the file on which it waited.
    pub(crate) fn held(self) -> Option<File> {
        self.kept
    }
}

/// A thread that is ready to wait.
pub(crate) struct TimedWait {
    thread: Thread,
    signal: Signal,
    // Dropped after the timer, and so after the last signal.
    _alarm: Option<ThreadTimer>,
    _unblocked: Unblocked,
}

impl TimedWait {
    pub(crate) fn thread(&self) -> Thread {
        self.thread
    }

    /// Runs a system call without a timeout of its own, and interrupts it at the deadline.
    pub(crate) fn untimed<R>(&self, call: impl FnOnce() -> io::Result<R>) -> io::Result<R> {
        call()
    }

    /// Runs a system call that waits, and interrupts it after `limit` too. Returns whether it
    /// succeeded; `false` if it took too long, or if no timer is left to limit it. Fails with
    /// [`io::ErrorKind::Interrupted`] if the thread was interrupted before.
    pub(crate) fn at_most(
        &self,
        limit: Duration,
        call: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<bool> {
        let until = Instant::now() + limit;
        let Ok(_alarm) = ThreadTimer::set(self.thread, self.signal, until) else {
            return Ok(false);
        };
        match call() {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::Interrupted && until <= Instant::now() => {
                Ok(false)
            }
            Err(e) => Err(e),
        }
    }
}

/// Interrupts the system calls of one thread from a given time on, until it is dropped.
///
/// It fires every millisecond, because a single signal gets lost if it arrives just before the
/// system call begins.
struct ThreadTimer(libc::timer_t);

impl ThreadTimer {
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

impl Drop for ThreadTimer {
    fn drop(&mut self) {
        // SAFETY: the timer exists and is deleted once. A signal that it has already sent is
        // delivered at the latest when this call returns.
        unsafe { libc::timer_delete(self.0) };
    }
}

/// Points the descriptor of `file` at a private file, which closes the open file description behind
/// it and, if this was its last descriptor, frees its locks.
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
    use std::task::Waker;
    use std::thread;

    use super::*;
    use crate::sys::{Pending, try_lock, wait};
    use crate::types::Mode;

    /// Linux signals threads by timers of its own.
    #[derive(Debug)]
    struct NoAlarm;

    impl Alarm for NoAlarm {
        fn wake_at(self: Arc<Self>, _: Instant, _: Waker) -> io::Result<Pending> {
            unreachable!("no alarm is needed")
        }
    }

    /// The interruption arrives after the thread has announced itself and before it enters the
    /// system call, when a signal alone would be lost.
    #[test]
    fn an_interruption_before_the_wait_is_not_lost() {
        let dir = tempfile::tempdir().expect("a directory can be created");
        let open = || {
            let mut options = File::options();
            options.read(true).write(true).create(true).truncate(false);
            Arc::new(
                options
                    .open(dir.path().join("lock"))
                    .expect("the file can be opened"),
            )
        };
        let (held, waits) = (open(), open());
        assert!(try_lock(&held, Mode::Exclusive).expect("the lock can be tried"));
        let signal = Signal::any().expect("a signal is free");
        let interrupter =
            Interrupter::new(signal, Arc::new(NoAlarm)).expect("an interrupter can be created");
        let (known, thread) = mpsc::channel();
        let (rung, go) = mpsc::channel();
        let (ended, end) = mpsc::channel();
        let waiter = {
            let waits = Arc::clone(&waits);
            let timed_wait = move || {
                interrupter
                    .timed_wait(Deadline::Never)
                    .map(|timed_wait| (interrupter, timed_wait))
            };
            thread::spawn(move || {
                let (interrupter, timed_wait) = timed_wait().expect("the thread can wait");
                known
                    .send((interrupter, timed_wait.thread()))
                    .expect("the other thread listens");
                go.recv().expect("the interruption is announced");
                let _ = wait(&waits, Mode::Exclusive, &timed_wait);
                ended.send(()).expect("the other thread listens");
            })
        };
        let (interrupter, thread) = thread.recv().expect("the waiter announces its thread");
        let _recall = interrupter
            .interrupt(thread, &waits)
            .expect("the interruption works");
        rung.send(()).expect("the other thread listens");
        let ended = end.recv_timeout(Duration::from_secs(10));
        assert!(ended.is_ok(), "the interruption was lost");
        waiter.join().expect("the waiter does not panic");
    }
}
