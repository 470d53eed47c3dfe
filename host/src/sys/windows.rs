//! Windows: `LockFileEx`, which belongs to an open file, with overlapped waits.
//!
//! A lock on a file excludes all other locks on it, by whatever call, and keeps other handles from
//! reading and writing what is locked.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::path::Path;
use std::ptr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use windows_sys::Win32::Foundation::{
    ERROR_BAD_PATHNAME, ERROR_CANT_RESOLVE_FILENAME, ERROR_INVALID_FUNCTION,
    ERROR_INVALID_PARAMETER, ERROR_IO_PENDING, ERROR_LOCK_VIOLATION, ERROR_NOT_LOCKED,
    ERROR_NOT_SUPPORTED, ERROR_OPERATION_ABORTED, GENERIC_READ, GENERIC_WRITE, HANDLE,
    INVALID_HANDLE_VALUE, WAIT_FAILED, WAIT_OBJECT_0,
};
use windows_sys::Win32::Storage::FileSystem::{
    DELETE, FILE_DISPOSITION_FLAG_DELETE, FILE_DISPOSITION_FLAG_IGNORE_READONLY_ATTRIBUTE,
    FILE_DISPOSITION_FLAG_POSIX_SEMANTICS, FILE_DISPOSITION_INFO_EX, FILE_FLAG_BACKUP_SEMANTICS,
    FILE_FLAG_OPEN_REPARSE_POINT, FILE_FLAG_OVERLAPPED, FILE_ID_INFO, FILE_INFO_BY_HANDLE_CLASS,
    FILE_REMOTE_PROTOCOL_INFO, FILE_SHARE_DELETE, FILE_SHARE_READ, FILE_SHARE_WRITE,
    FILE_STANDARD_INFO, FileDispositionInfoEx, FileIdInfo, FileRemoteProtocolInfo,
    FileStandardInfo, GetFileInformationByHandleEx, LOCKFILE_EXCLUSIVE_LOCK,
    LOCKFILE_FAIL_IMMEDIATELY, LockFileEx, ReOpenFile, SetFileInformationByHandle, UnlockFile,
};
use windows_sys::Win32::System::IO::{CancelIoEx, GetOverlappedResult, OVERLAPPED};
use windows_sys::Win32::System::Threading::{
    CreateEventW, INFINITE, SetEvent, WaitForMultipleObjects,
};

pub(crate) use std::os::windows::fs::OpenOptionsExt;

use crate::Mode;
use crate::deadline::{Deadline, Timer};

/// Overlapped, so that the wait for a lock can be canceled. Nothing reads or writes through these
/// handles, which the standard library expects to block. The other flag allows opening a folder, to
/// tell it from a file that may not be opened.
pub(crate) const OPEN_FLAGS: u32 = FILE_FLAG_OVERLAPPED | FILE_FLAG_BACKUP_SEMANTICS;

/// Windows has no flag that affects only links.
pub(crate) const NO_LINK: u32 = 0;

fn check(result: windows_sys::core::BOOL) -> io::Result<()> {
    if result == 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

fn is(error: &io::Error, code: u32) -> bool {
    error.raw_os_error() == Some(code.cast_signed())
}

/// Queries one of the structures that describe an open file.
///
/// # Safety
///
/// `T` is the structure that `class` writes, and any bytes are a value of it.
unsafe fn information<T: Default>(file: &File, class: FILE_INFO_BY_HANDLE_CLASS) -> io::Result<T> {
    let mut information = T::default();
    let size = u32::try_from(size_of::<T>()).expect("the structure is small");
    // SAFETY: the handle is open, and the structure is valid for writes of its size.
    check(unsafe {
        GetFileInformationByHandleEx(
            file.as_raw_handle(),
            class,
            ptr::from_mut(&mut information).cast(),
            size,
        )
    })?;
    Ok(information)
}

/// Identifies a file by volume and number. Valid for as long as the file is open, since its number
/// is not reused until then.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Identity {
    volume: u64,
    file: [u8; 16],
}

impl Identity {
    /// The identity of an open file, given its metadata.
    pub(crate) fn of(file: &File, _: &Metadata) -> io::Result<Self> {
        Self::of_handle(file)
    }

    fn of_handle(file: &File) -> io::Result<Self> {
        // SAFETY: this class writes this structure, of integers.
        let id: FILE_ID_INFO = unsafe { information(file, FileIdInfo) }?;
        Ok(Self {
            volume: id.VolumeSerialNumber,
            file: id.FileId.Identifier,
        })
    }

    /// The identity of what a path leads to; `None` if nothing is there.
    pub(crate) fn at(path: &Path, follow: bool) -> io::Result<Option<Self>> {
        let named = open_named(path, 0, follow)?;
        named.map(|file| Self::of_handle(&file)).transpose()
    }

    /// Whether `file`, whose identity this is, lies on a network file system.
    pub(crate) fn is_network(self, file: &File) -> bool {
        // SAFETY: this class writes this structure, of integers. It fails for local files.
        unsafe { information::<FILE_REMOTE_PROTOCOL_INFO>(file, FileRemoteProtocolInfo) }.is_ok()
    }
}

/// Opens what a path leads to, or the last link on the way, for `access` to the file itself.
fn open_named(path: &Path, access: u32, follow: bool) -> io::Result<Option<File>> {
    let link = if follow {
        0
    } else {
        FILE_FLAG_OPEN_REPARSE_POINT
    };
    let open_lock = OpenOptions::new()
        .access_mode(access)
        .custom_flags(FILE_FLAG_BACKUP_SEMANTICS | link)
        .open(path);
    match open_lock {
        Ok(file) => Ok(Some(file)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// Whether an open file still has a name.
pub(crate) fn has_name(file: &File) -> bool {
    // SAFETY: this class writes this structure; the system writes 0 or 1 for its `bool`.
    let standard = unsafe { information::<FILE_STANDARD_INFO>(file, FileStandardInfo) };
    standard.map_or(true, |standard| standard.NumberOfLinks > 0)
}

/// Removes the file if the path is the name of `identity`, and not a link to it. The name is gone
/// at once, even if the file is open. A file system that cannot do that keeps the file: a name that
/// lingers would lock all programs out until the last of them closes the file.
pub(crate) fn remove(path: &Path, identity: Identity) -> io::Result<()> {
    let Some(file) = open_named(path, DELETE, false)? else {
        return Ok(());
    };
    if Identity::of_handle(&file)? != identity {
        return Ok(());
    }
    let disposition = FILE_DISPOSITION_INFO_EX {
        Flags: FILE_DISPOSITION_FLAG_DELETE
            | FILE_DISPOSITION_FLAG_POSIX_SEMANTICS
            | FILE_DISPOSITION_FLAG_IGNORE_READONLY_ATTRIBUTE,
    };
    // SAFETY: the handle is open, and the structure is the one that this class reads.
    let removed = check(unsafe {
        SetFileInformationByHandle(
            file.as_raw_handle(),
            FileDispositionInfoEx,
            ptr::from_ref(&disposition).cast(),
            size_of::<FILE_DISPOSITION_INFO_EX>() as u32,
        )
    });
    removed.map_err(|e| match e.raw_os_error().map(i32::cast_unsigned) {
        Some(ERROR_INVALID_PARAMETER | ERROR_INVALID_FUNCTION | ERROR_NOT_SUPPORTED) => {
            io::Error::new(io::ErrorKind::Unsupported, e)
        }
        _ => e,
    })
}

/// The meaning of an error number for a lock, if the standard library has no kind for it.
pub(crate) fn kind_of(error: i32) -> Option<io::ErrorKind> {
    match error.cast_unsigned() {
        // A device; a path that cannot be one; too many symbolic links.
        ERROR_INVALID_FUNCTION | ERROR_BAD_PATHNAME | ERROR_CANT_RESOLVE_FILENAME => {
            Some(io::ErrorKind::InvalidInput)
        }
        _ => None,
    }
}

/// A second open handle of the same file, even if its name is gone. Locks of the two exclude each
/// other. Wine opens by name all the same, so this fails if the name leads elsewhere.
pub(crate) fn reopen(file: &File, writable: bool) -> io::Result<File> {
    let access = GENERIC_READ | if writable { GENERIC_WRITE } else { 0 };
    let share = FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE;
    // SAFETY: the handle is open.
    let handle = unsafe { ReOpenFile(file.as_raw_handle(), access, share, OPEN_FLAGS) };
    if handle == INVALID_HANDLE_VALUE {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the handle was just opened, and has no other owner.
    let again = unsafe { File::from_raw_handle(handle) };
    if Identity::of_handle(&again)? == Identity::of_handle(file)? {
        Ok(again)
    } else {
        Err(io::ErrorKind::NotFound.into())
    }
}

/// The largest possible range, which `File::lock` of the standard library and fs4 lock.
const ALL: u32 = u32::MAX;

/// The system's record of an operation in progress. It must not move until the operation is over.
fn overlapped(done: HANDLE) -> OVERLAPPED {
    OVERLAPPED {
        hEvent: done,
        ..OVERLAPPED::default()
    }
}

/// # Safety
///
/// The caller does not let go of `overlapped` before the operation is over.
unsafe fn begin(
    file: &File,
    mode: Mode,
    flags: u32,
    overlapped: &mut OVERLAPPED,
) -> io::Result<()> {
    let mode = match mode {
        Mode::Exclusive => LOCKFILE_EXCLUSIVE_LOCK,
        Mode::Shared => 0,
    };
    // SAFETY: the handle is open; the caller guarantees the rest.
    check(unsafe { LockFileEx(file.as_raw_handle(), mode | flags, 0, ALL, ALL, overlapped) })
}

/// Waits until an operation is over, and returns its result.
fn finish(file: &File, overlapped: &OVERLAPPED) -> io::Result<()> {
    let mut count = 0;
    // SAFETY: the handle is open, and the operation was begun on it.
    check(unsafe { GetOverlappedResult(file.as_raw_handle(), overlapped, &mut count, 1) })
}

/// Acquires the lock or upgrades a shared one. Returns `false` if another holder is in the way;
/// nothing is held then.
pub(crate) fn try_lock(file: &File, mode: Mode) -> io::Result<bool> {
    loop {
        // Without an event, the handle itself tells when it is over; nothing else uses the handle.
        let mut overlapped = overlapped(ptr::null_mut());
        // SAFETY: it is over when `finish` returns.
        let begun = unsafe { begin(file, mode, LOCKFILE_FAIL_IMMEDIATELY, &mut overlapped) };
        let locked = match begun {
            Err(e) if is(&e, ERROR_IO_PENDING) => finish(file, &overlapped),
            begun => begun,
        };
        match locked {
            Ok(()) => return Ok(true),
            // A handle's own lock is in its way.
            Err(e) if is(&e, ERROR_LOCK_VIOLATION) => {
                if !try_unlock(file)? {
                    return Ok(false);
                }
            }
            Err(e) => return Err(e),
        }
    }
}

/// Returns `false` if there was nothing to unlock.
fn try_unlock(file: &File) -> io::Result<bool> {
    // SAFETY: the handle is open.
    match check(unsafe { UnlockFile(file.as_raw_handle(), 0, 0, ALL, ALL) }) {
        Ok(()) => Ok(true),
        Err(e) if is(&e, ERROR_NOT_LOCKED) => Ok(false),
        Err(e) => Err(e),
    }
}

/// Gives the lock back. It is not an error if it was not held.
pub(crate) fn unlock(file: &File) -> io::Result<()> {
    try_unlock(file).map(drop)
}

/// Windows cannot query a holder without a try, so none is known.
#[expect(clippy::unnecessary_wraps, reason = "other systems can fail")]
pub(crate) fn holder(_: &File) -> io::Result<Option<(Mode, Option<u32>)>> {
    Ok(None)
}

/// Waits for the lock. Fails with [`io::ErrorKind::Interrupted`] if the thread is interrupted, and
/// when the deadline may have passed.
pub(crate) fn wait(file: &File, mode: Mode, timed_wait: &TimedWait) -> io::Result<()> {
    let done = timed_wait.done.as_raw_handle();
    let mut overlapped = overlapped(done);
    // SAFETY: every way out from here is one on which the operation is over.
    match unsafe { begin(file, mode, 0, &mut overlapped) } {
        Err(e) if is(&e, ERROR_IO_PENDING) => {}
        granted_or_failed => return granted_or_failed,
    }
    let waited = wait_for(
        &[done, timed_wait.called.as_raw_handle()],
        timed_wait.deadline,
    );
    // The system's record of the operation is not valid before the event is set.
    if !matches!(waited, Ok(Some(0))) {
        // SAFETY: the handle is open. It fails if the operation is about to end by itself.
        unsafe { CancelIoEx(file.as_raw_handle(), &overlapped) };
        if let Err(e) = wait_for(&[done], Deadline::Never) {
            // The structure would belong to the system indefinitely.
            eprintln!("locket: cannot wait for the end of a wait: {e}");
            std::process::abort();
        }
    }
    match finish(file, &overlapped) {
        // It may have been granted before it could be canceled.
        Ok(()) => Ok(()),
        Err(e) if is(&e, ERROR_OPERATION_ABORTED) => {
            waited?;
            Err(io::ErrorKind::Interrupted.into())
        }
        Err(e) => Err(e),
    }
}

/// Waits until one of these events is set, and returns its index; `None` at the deadline.
fn wait_for(events: &[HANDLE], deadline: Deadline) -> io::Result<Option<u32>> {
    let time = deadline.instant().map_or(INFINITE, |at| {
        let left = at.saturating_duration_since(Instant::now());
        // Rounded up, and always less than `INFINITE`: the caller checks the clock.
        let left = left
            .saturating_add(Duration::from_nanos(999_999))
            .as_millis();
        u32::try_from(left)
            .unwrap_or(INFINITE - 1)
            .min(INFINITE - 1)
    });
    let count = u32::try_from(events.len()).expect("there are few events");
    // SAFETY: the handles are open, since the caller owns them.
    match unsafe { WaitForMultipleObjects(count, events.as_ptr(), 0, time) } {
        WAIT_FAILED => Err(io::Error::last_os_error()),
        set if set - WAIT_OBJECT_0 < count => Ok(Some(set - WAIT_OBJECT_0)),
        _ => Ok(None),
    }
}

/// An event that stays set.
fn event() -> io::Result<OwnedHandle> {
    // SAFETY: all of its arguments may be null.
    let handle = unsafe { CreateEventW(ptr::null(), 1, 0, ptr::null()) };
    if handle.is_null() {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the handle was just opened, and has no other owner.
    Ok(unsafe { OwnedHandle::from_raw_handle(handle) })
}

/// Windows has no signals: an event interrupts a thread.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Signal;

impl Signal {
    #[expect(
        clippy::unnecessary_wraps,
        reason = "other systems can run out of them"
    )]
    pub(crate) fn any() -> io::Result<Self> {
        Ok(Self)
    }
}

/// A thread. Interrupting it needs no information about it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Thread;

/// Interrupts one wait.
#[derive(Debug)]
pub(crate) struct Interrupter {
    called: Arc<OwnedHandle>,
}

impl Interrupter {
    /// Acquires all resources before a wait begins, so that [`interrupt`](Self::interrupt) cannot
    /// fail for lack of them.
    pub(crate) fn new(_: Signal, _: &Arc<Timer>) -> io::Result<Self> {
        Ok(Self {
            called: Arc::new(event()?),
        })
    }

    pub(crate) fn timed_wait(&self, deadline: Deadline) -> io::Result<TimedWait> {
        Ok(TimedWait {
            done: event()?,
            called: Arc::clone(&self.called),
            deadline,
        })
    }

    /// Interrupts the wait of a thread, whether it is about to wait or waits already: the event
    /// stays set.
    pub(crate) fn interrupt(&self, _: Thread, _: &File) -> io::Result<Interruption> {
        // SAFETY: the handle is open.
        check(unsafe { SetEvent(self.called.as_raw_handle()) })?;
        Ok(Interruption)
    }
}

/// An interruption, until the thread has returned.
#[derive(Debug)]
pub(crate) struct Interruption;

impl Interruption {
    /// What the thread may have locked, if not the file on which it waited.
    pub(crate) fn held(self) -> Option<File> {
        None
    }
}

/// A thread that is ready to wait.
pub(crate) struct TimedWait {
    /// Set by the system when the operation is over.
    done: OwnedHandle,
    called: Arc<OwnedHandle>,
    deadline: Deadline,
}

impl TimedWait {
    #[expect(clippy::unused_self, reason = "other systems need to know it")]
    pub(crate) fn thread(&self) -> Thread {
        Thread
    }
}

/// Unlocking fails only if there is no lock any more, as after losing the connection to a file
/// server. So the handle need not be closed.
#[expect(clippy::unnecessary_wraps, reason = "other systems can fail")]
pub(crate) fn detach(_: &File) -> io::Result<()> {
    Ok(())
}

/// Windows has no signals.
pub(crate) fn keep_signals_away() {}

/// Windows has no fork.
pub(crate) fn fork_generation() -> u32 {
    0
}

/// Windows has no locks in directories.
pub(crate) fn open_dir(_: &std::path::Path) -> io::Result<File> {
    Err(io::ErrorKind::Unsupported.into())
}
