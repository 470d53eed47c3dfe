//! How signals are handled, locks of open files, and descriptors by their number.

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use locket::Mode;
use nix::errno::Errno;
use nix::libc::{self, c_int};
use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::unistd::Pid;

/// Whether our caller ignores `SIGPIPE`, as services of systemd do.
static SIGPIPE_WAS_IGNORED: AtomicBool = AtomicBool::new(false);

/// Whether our caller ignores `SIGCHLD`.
static SIGCHLD_WAS_IGNORED: AtomicBool = AtomicBool::new(false);

/// Runs before `main`, since Rust's runtime ignores `SIGPIPE` for itself, and resets it in every
/// program that it starts.
// SAFETY: the loader calls the functions of this type that it finds in this section. This one needs
// nothing of the runtime: it makes one system call and changes one atomic.
#[used]
#[cfg_attr(target_os = "linux", unsafe(link_section = ".init_array"))]
#[cfg_attr(target_os = "macos", unsafe(link_section = "__DATA,__mod_init_func"))]
static NOTE_SIGPIPE: extern "C" fn() = {
    extern "C" fn note() {
        SIGPIPE_WAS_IGNORED.store(is_ignored(libc::SIGPIPE), Ordering::Relaxed);
    }
    note
};

fn handler_of(signal: c_int) -> libc::sighandler_t {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: the call only writes to `action`, for which all zeroes is a value.
    unsafe {
        libc::sigaction(signal, ptr::null(), action.as_mut_ptr());
        action.assume_init().sa_sigaction
    }
}

/// Whether this process ignores a signal.
pub(crate) fn is_ignored(signal: c_int) -> bool {
    handler_of(signal) == libc::SIG_IGN
}

/// Sets a handler, without `SA_RESTART`: it interrupts system calls.
pub(super) fn handle(signal: c_int, handler: libc::sighandler_t) {
    // SAFETY: `action` is plain data for which all zeroes is a value. The callers pass `SIG_DFL`,
    // `SIG_IGN` or a function that may interrupt any other.
    unsafe {
        let mut action: libc::sigaction = MaybeUninit::zeroed().assume_init();
        action.sa_sigaction = handler;
        libc::sigaction(signal, &raw const action, ptr::null_mut());
    }
}

/// Restores the default action of a signal.
pub(crate) fn reset(signal: c_int) {
    handle(signal, libc::SIG_DFL);
}

/// Sends a process a signal, if there is such a process.
pub(crate) fn send(process: Pid, signal: c_int) {
    // SAFETY: both are plain numbers.
    let _ = unsafe { libc::kill(process.as_raw(), signal) };
}

/// Whether a signal that this thread blocks has arrived.
#[cfg(target_os = "linux")]
pub(crate) fn is_pending(signal: c_int) -> bool {
    // SAFETY: `sigpending` has initialized `set` unless it fails.
    unsafe {
        let mut set = MaybeUninit::uninit();
        libc::sigpending(set.as_mut_ptr()) == 0 && libc::sigismember(set.as_ptr(), signal) == 1
    }
}

/// A set with the real-time signals besides, but for those that our caller ignores.
#[cfg(target_os = "linux")]
pub(crate) fn add_real_time(set: &SigSet) -> SigSet {
    let mut all = *set.as_ref();
    let added = (libc::SIGRTMIN()..=libc::SIGRTMAX()).filter(|signal| !is_ignored(*signal));
    // SAFETY: `all` is initialized, as a copy of a set, and the signals exist.
    unsafe {
        added.for_each(|signal| _ = libc::sigaddset(&raw mut all, signal));
        SigSet::from_sigset_t_unchecked(all)
    }
}

/// Has the system keep how the children of this process end, which it does not for a program whose
/// caller ignores their ends.
pub(crate) fn keep_ends_of_children() {
    SIGCHLD_WAS_IGNORED.store(is_ignored(libc::SIGCHLD), Ordering::Relaxed);
    reset(libc::SIGCHLD);
}

/// Undoes that, for a program that is to replace this one.
pub(crate) fn keep_ends_of_children_as_before() {
    if SIGCHLD_WAS_IGNORED.load(Ordering::Relaxed) {
        handle(libc::SIGCHLD, libc::SIG_IGN);
    }
}

/// Whether our caller ignores `SIGPIPE`. Rust's runtime ignores it in this process in any case.
pub(crate) fn ignored_sigpipe() -> bool {
    SIGPIPE_WAS_IGNORED.load(Ordering::Relaxed)
}

/// Gives the command the signal mask `mask`, and `SIGPIPE` as our caller handles it.
pub(crate) fn prepare(command: &mut Command, mask: SigSet) {
    let ignore_pipe = ignored_sigpipe();
    let prepare = move || {
        if ignore_pipe {
            handle(libc::SIGPIPE, libc::SIG_IGN);
        }
        Ok(mask.thread_set_mask()?)
    };
    // SAFETY: the closure makes two system calls, and allocates nothing.
    unsafe { command.pre_exec(prepare) };
}

/// Gives the command no descriptor but its standard streams, and leaves ours as they are.
pub(crate) fn pass_no_descriptors_on(command: &mut Command) {
    let close = || {
        close_fds::set_fds_cloexec(3, &[]);
        Ok(())
    };
    // SAFETY: on these systems that call is safe in the child of a process with several threads, as
    // its documentation says.
    unsafe { command.pre_exec(close) };
}

/// Ends this process by a signal, as a shell expects of a program whose own program was ended by it.
/// Returns if that is impossible: nothing ends the first process of a container.
pub(crate) fn die_of(signal: c_int) {
    // The command has left its own core dump, and ours would replace it.
    leave_no_core();
    reset(signal);
    // SAFETY: `set` is initialized by `sigemptyset`. The default action of a signal is all that this
    // process wants.
    unsafe {
        let mut set = MaybeUninit::uninit();
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), signal);
        libc::raise(signal);
        libc::pthread_sigmask(libc::SIG_UNBLOCK, set.as_ptr(), ptr::null_mut());
    }
}

#[cfg(target_os = "linux")]
fn leave_no_core() {
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

#[cfg(not(target_os = "linux"))]
fn leave_no_core() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let nothing = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    let _ = setrlimit(Resource::Core, nothing);
}

/// Lets the signals that end a program end this process even if it is the first of a container, to
/// which the system does not deliver those that have no handler.
pub(crate) fn end_first_process() {
    const SIGNALS: [c_int; 4] = [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM];
    extern "C" fn end(signal: c_int) {
        // SAFETY: the function may be called in a handler.
        unsafe { libc::_exit(128 + signal) }
    }
    if std::process::id() == 1 {
        let mut signals = SIGNALS.to_vec();
        signals.retain(|signal| handler_of(*signal) == libc::SIG_DFL);
        for signal in signals {
            handle(signal, end as *const () as libc::sighandler_t);
        }
    }
}

/// Interrupts the system calls of the calling thread at a time, until it is dropped.
pub(crate) struct Alarm {
    /// The signal mask before: our caller may block the signal.
    before: Option<SigSet>,
}

impl Alarm {
    pub(crate) fn at(time: Instant) -> Self {
        extern "C" fn nothing(_: c_int) {}
        handle(libc::SIGALRM, nothing as *const () as libc::sighandler_t);
        let alarm = SigSet::from(Signal::SIGALRM);
        let before = alarm.thread_swap_mask(SigmaskHow::SIG_UNBLOCK).ok();
        // Zero would disarm it.
        let left = time.saturating_duration_since(Instant::now());
        Self::set(left.max(Duration::from_micros(1)));
        Self { before }
    }

    fn set(first: Duration) {
        let time = |duration: Duration| libc::timeval {
            tv_sec: duration.as_secs().try_into().unwrap_or(libc::time_t::MAX),
            tv_usec: duration.subsec_micros() as libc::suseconds_t,
        };
        let timer = libc::itimerval {
            it_value: time(first),
            // One signal alone gets lost if it arrives just before the system call.
            it_interval: time(Duration::from_millis(1)),
        };
        // SAFETY: the timer is read only.
        unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, ptr::null_mut()) };
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        Self::set(Duration::ZERO);
        if let Some(before) = &self.before {
            let _ = before.thread_set_mask();
        }
        reset(libc::SIGALRM);
    }
}

/// Another descriptor of the open file behind a descriptor of our caller's.
pub(crate) fn duplicate(descriptor: c_int) -> io::Result<File> {
    // SAFETY: the call takes any number.
    let copy = unsafe { libc::fcntl(descriptor, libc::F_DUPFD_CLOEXEC, 3) };
    if copy == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor has just been made, for this function alone.
    Ok(unsafe { File::from_raw_fd(copy) })
}

/// A record lock of an open file description on so many bytes from there on, 0 for all that follow;
/// or with no mode its removal.
pub(crate) fn record(mode: Option<Mode>, from: i64, length: i64) -> libc::flock {
    let kind = match mode {
        Some(Mode::Exclusive) => libc::F_WRLCK,
        Some(Mode::Shared) => libc::F_RDLCK,
        None => libc::F_UNLCK,
    };
    libc::flock {
        #[allow(
            clippy::unnecessary_cast,
            reason = "wider than the field on one system, and not on the other"
        )]
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: from,
        l_len: length,
        // As the kernel demands of locks of a description.
        l_pid: 0,
    }
}

/// Takes a record lock, waits for it or gives it back, as `command` says.
pub(crate) fn control(file: &File, command: c_int, lock: &libc::flock) -> Result<(), Errno> {
    // SAFETY: the descriptor is open, and the lock is only read by the commands that set one. Any
    // other command would write no more than a lock, of which this is a copy.
    let done = unsafe { libc::fcntl(file.as_raw_fd(), command, ptr::from_mut(&mut { *lock })) };
    Errno::result(done).map(drop)
}
