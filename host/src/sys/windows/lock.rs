//! The lock of an open file, and waits for it that can be interrupted.

use std::fs::File;
use std::io;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::ptr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use windows_sys::Win32::Foundation::{
    ERROR_IO_PENDING, ERROR_LOCK_VIOLATION, ERROR_NOT_LOCKED, ERROR_OPERATION_ABORTED, HANDLE,
    WAIT_FAILED, WAIT_OBJECT_0,
};
use windows_sys::Win32::Storage::FileSystem::{
    LOCKFILE_EXCLUSIVE_LOCK, LOCKFILE_FAIL_IMMEDIATELY, LockFileEx, UnlockFile,
};
use windows_sys::Win32::System::IO::{CancelIoEx, GetOverlappedResult, OVERLAPPED};
use windows_sys::Win32::System::Threading::{
    CreateEventW, INFINITE, SetEvent, WaitForMultipleObjects,
};

use super::{check, is};
use crate::deadline::Deadline;
use crate::sys::Alarm;
use crate::types::Mode;

/// The largest possible range from the first byte, which `File::lock` of the standard library and fs4
/// lock.
const ALL: u64 = u64::MAX;

/// The two halves of a number, as the system takes them: the lower one first.
fn halves(number: u64) -> (u32, u32) {
    (number as u32, (number >> 32) as u32)
}

/// The system's record of an operation in progress. It must not move until the operation is over.
fn overlapped(done: HANDLE) -> OVERLAPPED {
    OVERLAPPED {
        hEvent: done,
        ..OVERLAPPED::default()
    }
}

/// Begins to lock `length` bytes from the offset in `overlapped` on.
///
/// # Safety
///
/// The caller does not let go of `overlapped` before the operation is over.
unsafe fn begin(
    file: &File,
    mode: Mode,
    flags: u32,
    length: u64,
    overlapped: &mut OVERLAPPED,
) -> io::Result<()> {
    let mode = match mode {
        Mode::Exclusive => LOCKFILE_EXCLUSIVE_LOCK,
        Mode::Shared => 0,
    };
    let (low, high) = halves(length);
    // SAFETY: the handle is open; the caller guarantees the rest.
    check(unsafe { LockFileEx(file.as_raw_handle(), mode | flags, 0, low, high, overlapped) })
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
    // A handle's own lock is in its way.
    while !try_bytes(file, mode, 0, ALL)? {
        if !unlock_bytes(file, 0, ALL)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Locks a range as one piece. Returns `false` if a lock is in the way, which may be one of this
/// handle.
pub(super) fn try_bytes(file: &File, mode: Mode, first: u64, length: u64) -> io::Result<bool> {
    // Without an event, the handle itself tells when it is over; nothing else uses the handle.
    let mut overlapped = overlapped(ptr::null_mut());
    let place = halves(first);
    (
        overlapped.Anonymous.Anonymous.Offset,
        overlapped.Anonymous.Anonymous.OffsetHigh,
    ) = place;
    // SAFETY: it is over when `finish` returns.
    let begun = unsafe {
        begin(
            file,
            mode,
            LOCKFILE_FAIL_IMMEDIATELY,
            length,
            &mut overlapped,
        )
    };
    let locked = match begun {
        Err(e) if is(&e, ERROR_IO_PENDING) => finish(file, &overlapped),
        begun => begun,
    };
    match locked {
        Ok(()) => Ok(true),
        Err(e) if is(&e, ERROR_LOCK_VIOLATION) => Ok(false),
        Err(e) => Err(e),
    }
}

/// Unlocks a piece. Returns `false` if there was nothing to unlock.
pub(super) fn unlock_bytes(file: &File, first: u64, length: u64) -> io::Result<bool> {
    let ((first, first_high), (length, length_high)) = (halves(first), halves(length));
    let file = file.as_raw_handle();
    // SAFETY: the handle is open.
    match check(unsafe { UnlockFile(file, first, first_high, length, length_high) }) {
        Ok(()) => Ok(true),
        Err(e) if is(&e, ERROR_NOT_LOCKED) => Ok(false),
        Err(e) => Err(e),
    }
}

/// Gives the lock back. It is not an error if it was not held.
pub(crate) fn unlock(file: &File) -> io::Result<()> {
    unlock_bytes(file, 0, ALL).map(drop)
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
    match unsafe { begin(file, mode, 0, ALL, &mut overlapped) } {
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
    pub(crate) fn new(_: Signal, _: Arc<dyn Alarm>) -> io::Result<Self> {
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
