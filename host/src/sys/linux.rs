//! Linux: record locks of the open file description, timers and signals aimed at a thread.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::ptr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use rustix::fs::{
    AtFlags, CWD, Mode as Permissions, OFlags, ResolveFlags, linkat, openat, openat2,
};
use rustix::io::Errno;

use super::unix::{Unblocked, check, record_lock, timespec, whole_file};
use crate::Mode;
use crate::deadline::{Deadline, Timer};

pub(crate) use super::unix::{
    Identity, NO_LINK, OPEN_FLAGS, OpenOptionsExt, Signal, exchange, fork_generation, has_name,
    holder, keep_signals_away, kind_of, open_dir, remove, rename_new, try_lock, unlock,
};
#[cfg(feature = "sandbox")]
pub(crate) use super::unix::{read_dir, remove_empty};

impl Identity {
    /// Whether `file`, whose identity this is, lies on a network file system.
    pub(crate) fn is_network(self, file: &File) -> bool {
        const NFS: u64 = 0x6969;
        const SMB: u64 = 0xff53_4d42;
        const SMB2: u64 = 0xfe53_4d42;
        // The file system is on a device then. Network file systems have major number 0 instead.
        if rustix::fs::major(self.device) != 0 {
            return false;
        }
        let kind = rustix::fs::fstatfs(file).map(|fs| fs.f_type.cast_unsigned());
        matches!(kind.map(|kind| kind & 0xffff_ffff), Ok(NFS | SMB | SMB2))
    }
}

/// A second open file description of an open file, even if its name is gone. Locks of the two
/// exclude each other. Fails if `/proc` is missing, or if this process may no longer open the file
/// with its current user.
pub(crate) fn reopen(file: &File, writable: bool) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(writable)
        .custom_flags(OPEN_FLAGS)
        .open(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// Waits for the open-file-description lock. Fails with [`io::ErrorKind::Interrupted`] if a signal
/// interrupts the wait.
pub(crate) fn wait(file: &File, mode: Mode, _: &TimedWait) -> io::Result<()> {
    record_lock(file, libc::F_OFD_SETLKW, &mut whole_file(Some(mode)))
}

/// `SIGSTKFLT`, which the kernel never sends, and then the signals from `SIGRTMIN + 8` on. The C
/// library reserves those below `SIGRTMIN`, and Go uses `SIGURG`. The first choice is not a
/// real-time signal, because sending one fails while the user has too many pending.
pub(super) fn spare_signals() -> impl Iterator<Item = libc::c_int> {
    std::iter::once(libc::SIGSTKFLT).chain(libc::SIGRTMIN() + 8..=libc::SIGRTMAX())
}

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
    pub(crate) fn new(signal: Signal, _: &Arc<Timer>) -> io::Result<Self> {
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

/// The path of an open directory.
#[cfg(any(feature = "sandbox", feature = "sqlite"))]
pub(crate) fn path_of(dir: &File) -> io::Result<std::path::PathBuf> {
    fs::read_link(format!("/proc/self/fd/{}", dir.as_raw_fd()))
}

/// Whether a link dangles beneath its directory. A link that leads out of the directory is not a
/// lock, and a guest that may not look there must not learn whether something exists.
pub(crate) fn leads_nowhere(dir: &File, link: &OsStr) -> bool {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let beneath = ResolveFlags::BENEATH;
    let found = openat2(dir, link, flags, Permissions::empty(), beneath);
    matches!(found, Err(Errno::NOENT | Errno::LOOP))
}

/// Keeps the inode of an entry alive, whatever happens to the entry.
pub(crate) fn pin(dir: &File, name: &OsStr) -> io::Result<Option<File>> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(Some(openat(dir, name, flags, Permissions::empty())?.into()))
}

/// A file in a directory without a name, which disappears unless it gets one.
pub(crate) fn nameless_file(dir: &File, permissions: Permissions) -> io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    Ok(openat(dir, ".", flags, permissions)?.into())
}

/// Gives it a free name.
pub(crate) fn give_name(file: &File, dir: &File, name: &OsStr) -> io::Result<()> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok(linkat(CWD, path, dir, name, AtFlags::SYMLINK_FOLLOW)?)
}

/// The PID namespace of the system's first process.
pub(crate) const INITIAL_PID_NAMESPACE: u64 = 0xefff_fffc;

/// The PID namespace of this process.
pub(crate) fn pid_namespace() -> u64 {
    let namespace = fs::metadata("/proc/self/ns/pid");
    namespace.map_or(INITIAL_PID_NAMESPACE, |namespace| namespace.ino())
}

/// The identifier of this boot; 0 if the system does not tell.
pub(crate) fn boot_id() -> u128 {
    static BOOT: OnceLock<u128> = OnceLock::new();
    *BOOT.get_or_init(|| {
        let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        u128::from_str_radix(&id.trim().replace('-', ""), 16).unwrap_or(0)
    })
}

/// When a process started, in clock ticks since the boot. `None` if it is gone, or if the clock of
/// this process is not the system's.
pub(crate) fn start_ticks(pid: u32) -> Option<u64> {
    const INITIAL_TIME_NAMESPACE: u64 = 0xefff_fffa;
    let namespace = fs::metadata("/proc/self/ns/time");
    if namespace.is_ok_and(|namespace| namespace.ino() != INITIAL_TIME_NAMESPACE) {
        return None;
    }
    stat_fields(pid)?.get(19)?.parse().ok()
}

/// Whether a process has ended and has not been reaped.
pub(crate) fn is_zombie(pid: u32) -> bool {
    let Some(fields) = stat_fields(pid) else {
        return false;
    };
    // The first thread can end before the others.
    let threads = fields.get(17).and_then(|threads| threads.parse().ok());
    matches!(fields[0].as_str(), "Z" | "X") && threads.is_some_and(|threads: u32| threads <= 1)
}

/// The fields of `/proc/<pid>/stat` after the name of the program, which can be anything.
fn stat_fields(pid: u32) -> Option<Vec<String>> {
    if !numbers_are_ours() {
        return None;
    }
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let fields = std::str::from_utf8(&stat[end + 1..]).ok()?;
    let fields: Vec<_> = fields.split_whitespace().map(str::to_owned).collect();
    (!fields.is_empty()).then_some(fields)
}

/// Whether `/proc` shows the process numbers of this process's namespace. A new namespace needs a
/// mount of its own for that.
fn numbers_are_ours() -> bool {
    let me = std::process::id().to_string();
    fs::read_link("/proc/self").is_ok_and(|number| number.as_os_str() == me.as_str())
}

/// Whether a process in a namespace below this one may have this number there.
pub(crate) fn has_inner_pid(pid: u32) -> bool {
    if !numbers_are_ours() {
        return true;
    }
    let Ok(processes) = fs::read_dir("/proc") else {
        return true;
    };
    let mut seen = false;
    for process in processes.flatten() {
        let Some(outer) = process
            .file_name()
            .to_str()
            .and_then(|n| n.parse::<u32>().ok())
        else {
            continue;
        };
        seen |= outer == 1;
        let status = fs::read(process.path().join("status")).unwrap_or_default();
        let inner = status
            .split(|byte| *byte == b'\n')
            .find_map(|line| line.strip_prefix(b"NSpid:"))
            .and_then(|pids| std::str::from_utf8(pids).ok()?.split_whitespace().last())
            .and_then(|inner| inner.parse::<u32>().ok());
        if outer != pid && inner == Some(pid) {
            return true;
        }
    }
    // If the first process is hidden, others may be too.
    !seen
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    /// The interruption arrives after the thread has announced itself and before it enters the
    /// system call, when a signal alone would be lost.
    #[test]
    fn a_call_that_comes_before_the_wait_is_not_lost() {
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
        let clock = Arc::new(Timer::new(|| ()));
        let interrupter = Interrupter::new(signal, &clock).expect("an interrupter can be created");
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
