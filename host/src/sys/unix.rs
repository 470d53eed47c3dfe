//! What Linux and macOS have in common.

use std::fs::{File, Metadata};
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

#[cfg(feature = "sandbox")]
use rustix::fs::unlinkat;
use rustix::fs::{AtFlags, CWD, FileType, OFlags, Stat, fstat, statat};
use rustix::io::Errno;

pub(crate) use std::os::unix::fs::OpenOptionsExt;

use super::system;

mod entries;
mod proof;
mod record;

pub(crate) use self::entries::{
    create_dir, create_file, each_name, entry_at, entry_of, exchange, link, open_file, open_subdir,
    os_string, read_link, remove_dir, rename, rename_new, symlink, unlink,
};
pub(crate) use self::proof::{attribute, host_name, is_reaped, set_attribute};
pub(crate) use self::record::{RangeLocks, WAITS_FOR_RANGES, holder, try_lock, unlock};
pub(super) use self::record::{range_lock, record_lock, whole_file};

/// Never wait: a FIFO or a terminal must not block the caller.
pub(crate) const OPEN_FLAGS: i32 = libc::O_NONBLOCK | libc::O_NOCTTY;

/// Fail with `ELOOP` if the path is a symbolic link.
pub(crate) const NO_LINK: i32 = libc::O_NOFOLLOW;

/// Identifies a file by device and inode. Valid for as long as the file is open, since its inode
/// number is not reused until then.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct Identity {
    pub(super) device: u64,
    inode: u64,
}

impl Identity {
    /// The identity of the file with these numbers.
    #[cfg(feature = "sandbox")]
    pub(crate) fn new(device: u64, inode: u64) -> Self {
        Self { device, inode }
    }

    /// The identity of an open file, given its metadata.
    pub(crate) fn of(_: &File, metadata: &Metadata) -> io::Result<Self> {
        Ok(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
        })
    }

    /// The identity of an open file; `None` if it is not a regular one.
    pub(crate) fn of_file(file: &File) -> io::Result<Option<Self>> {
        let stat = fstat(file)?;
        let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        Ok(regular.then(|| Self::of_stat(&stat)))
    }

    /// The identity of what a path leads to, or of the last link on the way; `None` if nothing is
    /// there.
    pub(crate) fn at(path: &Path, follow: bool) -> io::Result<Option<Self>> {
        let flags = if follow {
            AtFlags::empty()
        } else {
            AtFlags::SYMLINK_NOFOLLOW
        };
        match statat(CWD, path, flags) {
            Ok(stat) => Ok(Some(Self::of_stat(&stat))),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }
}

impl Identity {
    /// The number by which a directory lists it.
    pub(crate) fn number(self) -> u64 {
        self.inode
    }

    /// Whether the file system is on a device of its own. A layered one can report other numbers in
    /// its directories than elsewhere.
    pub(crate) fn is_on_device(self) -> bool {
        cfg!(target_os = "linux") && rustix::fs::major(self.device as _) != 0
    }

    fn of_stat(stat: &Stat) -> Self {
        // The width and sign differ between the systems.
        #[allow(clippy::unnecessary_cast, clippy::cast_sign_loss, reason = "see above")]
        Self {
            device: stat.st_dev as u64,
            inode: stat.st_ino as u64,
        }
    }
}

/// Removes the file if the path is the name of `identity`, and not a link to it.
pub(crate) fn remove(path: &Path, identity: Identity) -> io::Result<()> {
    if Identity::at(path, false)? == Some(identity) {
        std::fs::remove_file(path)?;
    }
    Ok(())
}

/// Removes a name from a directory if it is the only one of `identity`, and that is an empty
/// regular file. No system call checks and removes in one step, so a program that may rename files
/// there can put another one in its place in between.
#[cfg(feature = "sandbox")]
pub(crate) fn remove_empty(
    dir: &File,
    name: &std::ffi::OsStr,
    identity: Identity,
) -> io::Result<()> {
    let stat = match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(()),
        stat => stat?,
    };
    let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    let bare = regular && stat.st_size == 0 && stat.st_nlink == 1;
    if bare && Identity::of_stat(&stat) == identity {
        unlinkat(dir, name, AtFlags::empty())?;
    }
    Ok(())
}

/// Opens a directory to lock it and to work with its entries; if it may not be read, only for the
/// latter.
pub(crate) fn open_dir(path: &Path) -> io::Result<File> {
    use rustix::fs::{Mode, OFlags, open};
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    match open(path, flags | OFlags::RDONLY, Mode::empty()) {
        #[cfg(target_os = "linux")]
        Err(Errno::ACCESS) => Ok(open(path, flags | OFlags::PATH, Mode::empty())?.into()),
        dir => Ok(dir?.into()),
    }
}

/// Reopens a directory that may have been opened only for its entries, so that it can be locked and
/// read too, if it may be read.
#[cfg(feature = "sandbox")]
pub(crate) fn read_dir(dir: File) -> io::Result<File> {
    use rustix::fs::{Mode, OFlags, openat};
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY;
    match openat(&dir, ".", flags, Mode::empty()) {
        Err(Errno::ACCESS) => Ok(dir),
        read => Ok(read?.into()),
    }
}

/// The meaning of an error number for a lock, if the standard library has no kind for it.
pub(crate) fn kind_of(error: i32) -> Option<io::ErrorKind> {
    match error {
        // Too many symbolic links; a socket, or a device without a driver.
        libc::ELOOP | libc::ENXIO | libc::ENODEV => Some(io::ErrorKind::InvalidInput),
        libc::ENOSYS | libc::EOPNOTSUPP => Some(io::ErrorKind::Unsupported),
        _ => None,
    }
}

pub(super) fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// For calls that return an error number.
pub(super) fn check_number(error: libc::c_int) -> io::Result<()> {
    match error {
        0 => Ok(()),
        e => Err(io::Error::from_raw_os_error(e)),
    }
}

pub(super) fn timespec(duration: Duration) -> libc::timespec {
    libc::timespec {
        tv_sec: libc::time_t::try_from(duration.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}

extern "C" fn ignore(_: libc::c_int) {}

/// A signal that interrupts the wait of a thread and has no other effect. Its handler is this
/// crate's, which does nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Signal(pub(super) libc::c_int);

impl Signal {
    /// The first of [`spare_signals`](system::spare_signals) that has no handler in this process.
    pub(crate) fn any() -> io::Result<Self> {
        static SIGNAL: OnceLock<Option<Signal>> = OnceLock::new();
        let claim = || system::spare_signals().find_map(|signal| Self::claim(signal).ok());
        let signal = SIGNAL.get_or_init(claim);
        signal.ok_or_else(|| {
            io::Error::other("every usable signal already has a handler in this process")
        })
    }

    /// Installs the empty handler for `number`, unless that has a foreign handler. Without
    /// `SA_RESTART`, since the signal exists to end a system call.
    pub(crate) fn claim(number: libc::c_int) -> io::Result<Self> {
        let handler = ignore as extern "C" fn(libc::c_int) as usize;
        // SAFETY: both structures are plain data for which all zeroes is a value, and the handler
        // may run on any thread at any time, since it does nothing.
        unsafe {
            let mut old: libc::sigaction = MaybeUninit::zeroed().assume_init();
            check(libc::sigaction(number, ptr::null(), &mut old))?;
            if old.sa_sigaction == handler {
                return Ok(Self(number));
            }
            if old.sa_sigaction != libc::SIG_DFL {
                let taken = format!("signal {number} already has a handler");
                return Err(io::Error::new(io::ErrorKind::AddrInUse, taken));
            }
            let mut new: libc::sigaction = MaybeUninit::zeroed().assume_init();
            new.sa_sigaction = handler;
            check(libc::sigaction(number, &new, ptr::null_mut()))?;
        }
        Ok(Self(number))
    }

    /// Lets the signal reach the calling thread until the result is dropped. Reinstalls the handler
    /// if something in this process has reset it, since the signal would end the process.
    pub(super) fn unblock(self) -> io::Result<Unblocked> {
        Self::claim(self.0)?;
        Ok(Unblocked {
            signal: self.0,
            was_blocked: mask(libc::SIG_UNBLOCK, self.0)?,
        })
    }
}

/// A thread that a signal reaches until this is dropped.
#[derive(Debug)]
pub(super) struct Unblocked {
    signal: libc::c_int,
    was_blocked: bool,
}

impl Drop for Unblocked {
    fn drop(&mut self) {
        if self.was_blocked {
            let _ = mask(libc::SIG_BLOCK, self.signal);
        }
    }
}

/// Blocks or unblocks a signal for the calling thread, and returns whether it was blocked.
fn mask(how: libc::c_int, signal: libc::c_int) -> io::Result<bool> {
    // SAFETY: `set` is initialized by `sigemptyset`, and `before` by a successful
    // `pthread_sigmask`, before they are read; a signal whose handler does nothing has no other
    // effect.
    unsafe {
        let (mut set, mut before) = (MaybeUninit::uninit(), MaybeUninit::uninit());
        check(libc::sigemptyset(set.as_mut_ptr()))?;
        check(libc::sigaddset(set.as_mut_ptr(), signal))?;
        let set = set.as_ptr();
        check_number(libc::pthread_sigmask(how, set, before.as_mut_ptr()))?;
        Ok(libc::sigismember(before.as_ptr(), signal) == 1)
    }
}

/// Until this is dropped, the calling thread receives no signals except those of faults, and nor do
/// the threads that it starts, from their first instruction on.
pub(crate) struct NoSignals {
    before: MaybeUninit<libc::sigset_t>,
}

/// Keeps the signals of the program away from the calling thread.
pub(crate) fn without_signals() -> NoSignals {
    let faults = [
        libc::SIGSEGV,
        libc::SIGBUS,
        libc::SIGILL,
        libc::SIGFPE,
        libc::SIGABRT,
    ];
    // SAFETY: `set` is initialized by `sigfillset` before it is read, and `before` by
    // `pthread_sigmask`, which cannot fail with these arguments. The program's other threads take
    // the signals that this one blocks, or it takes them afterwards.
    unsafe {
        let (mut set, mut before) = (MaybeUninit::uninit(), MaybeUninit::uninit());
        libc::sigfillset(set.as_mut_ptr());
        for fault in faults {
            libc::sigdelset(set.as_mut_ptr(), fault);
        }
        libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), before.as_mut_ptr());
        NoSignals { before }
    }
}

impl Drop for NoSignals {
    fn drop(&mut self) {
        // SAFETY: `before` is initialized by the function that made this.
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, self.before.as_ptr(), ptr::null_mut());
        }
    }
}

/// How often this process image has forked since the first call. A value that differs from an
/// earlier one means that this is a child, which shares its parent's open file descriptions and
/// must leave their locks alone.
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

/// The open file description of a file that the caller opened, and whether it may be written to.
pub(crate) fn adopt(file: File) -> io::Result<(File, bool)> {
    let flags = rustix::fs::fcntl_getfl(&file)?;
    let writable = flags.intersects(OFlags::WRONLY | OFlags::RDWR);
    Ok((file, writable))
}
