//! Signals as bytes in a pipe, and who has a file open.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicI32, Ordering};

use nix::libc::{self, c_char, c_int, c_void};

use super::unix::handle;

/// The descriptor into which the handler writes.
static NOTES: AtomicI32 = AtomicI32::new(-1);

/// What the handler writes: the numbers of signals. The first call makes it, and this process keeps
/// the other end.
pub(crate) fn signal_notes() -> io::Result<OwnedFd> {
    let (reader, writer) = io::pipe()?;
    for end in [reader.as_raw_fd(), writer.as_raw_fd()] {
        // SAFETY: the descriptor is open. A full pipe must not stop the handler.
        let set = unsafe { libc::fcntl(end, libc::F_SETFL, libc::O_NONBLOCK) };
        nix::errno::Errno::result(set)?;
    }
    NOTES.store(writer.as_raw_fd(), Ordering::Release);
    // A handler may run at any time.
    std::mem::forget(writer);
    Ok(reader.into())
}

/// Has a signal noted from now on, and interrupt system calls.
pub(crate) fn note(signal: c_int) {
    extern "C" fn noted(signal: c_int) {
        let byte = signal as u8;
        // SAFETY: these may be called in a handler, and the byte is valid while they run. What was
        // interrupted finds `errno` as it was.
        unsafe {
            let errno = *libc::__error();
            libc::write(NOTES.load(Ordering::Acquire), (&raw const byte).cast(), 1);
            *libc::__error() = errno;
        }
    }
    handle(signal, noted as *const () as libc::sighandler_t);
}

unsafe extern "C" {
    /// Part of the system's libproc, and in no crate that builds without the system's headers.
    fn proc_listpidspath(
        kind: u32,
        info: u32,
        path: *const c_char,
        flags: u32,
        buffer: *mut c_void,
        size: c_int,
    ) -> c_int;
}

/// The other processes that have a file open, as far as this user may know.
pub(crate) fn processes_with_open(path: &Path) -> io::Result<Vec<u32>> {
    const ALL_PIDS: u32 = 1;
    const EXCLUDE_EVENTS_ONLY: u32 = 2;
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut pids = vec![0_i32; 64];
    loop {
        let size = c_int::try_from(size_of_val(pids.as_slice())).map_err(io::Error::other)?;
        let buffer = pids.as_mut_ptr().cast();
        // SAFETY: the path ends with a zero byte, and the buffer is valid for writes of its size.
        let filled = unsafe {
            proc_listpidspath(
                ALL_PIDS,
                0,
                path.as_ptr(),
                EXCLUDE_EVENTS_ONLY,
                buffer,
                size,
            )
        };
        let filled = usize::try_from(filled).map_err(|_| io::Error::last_os_error())?;
        if filled < size_of_val(pids.as_slice()) {
            pids.truncate(filled / size_of::<i32>());
            let pids = pids.into_iter().filter_map(|pid| pid.try_into().ok());
            return Ok(pids.filter(|pid| *pid != std::process::id()).collect());
        }
        pids.resize(2 * pids.len(), 0);
    }
}
