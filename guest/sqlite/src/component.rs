//! The VFS in C, and what it calls: `locket_ranges.h` on the bindings of the crate `locket-guest`.

use core::ffi::{CStr, c_char, c_int};
use core::mem::MaybeUninit;
use locket_guest::bindings::ranges;
use locket_guest::{ErrorKind, IoKind, LostReason, Mode};

// SAFETY: it is in vfs.c. A component has one thread, and the argument is a number.
unsafe extern "C" {
    safe fn locket_sqlite_register(is_default: c_int) -> c_int;
}

pub(crate) fn register(is_default: bool) -> c_int {
    locket_sqlite_register(is_default.into())
}

/// `locket_ranges_t`: a pointer, and null if it is closed.
#[repr(transparent)]
struct RangeFile(Option<Box<ranges::RangeFile>>);

/// `locket_range`.
#[derive(Clone, Copy)]
#[repr(C)]
struct Range {
    start: u64,
    length: u64,
}

/// `locket_conflict`.
#[repr(C)]
struct Conflict {
    is_there: bool,
    mode: c_int,
    range: Range,
}

const EXCLUSIVE: c_int = 0;
const SHARED: c_int = 1;

/// `locket_error`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
enum Code {
    Ok,
    WouldBlock,
    Timeout,
    NotLocked,
    NotOwner,
    Deadlock,
    AccessDenied,
    NoEntry,
    InvalidPath,
    LimitExceeded,
    NotSupported,
    Unavailable,
    Canceled,
    Other,
    Closed,
    LostExpired,
    LostBroken,
    LostDisconnected,
    LostIo,
    IoNoSpace,
    IoQuota,
    IoReadOnly,
    IoStale,
    IoTooManyFiles,
    IoTooManyLocks,
    IoOther,
}

impl From<ErrorKind> for Code {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::WouldBlock => Self::WouldBlock,
            ErrorKind::Timeout => Self::Timeout,
            ErrorKind::NotLocked => Self::NotLocked,
            ErrorKind::NotOwner => Self::NotOwner,
            ErrorKind::Deadlock => Self::Deadlock,
            ErrorKind::AccessDenied => Self::AccessDenied,
            ErrorKind::NoEntry => Self::NoEntry,
            ErrorKind::InvalidPath => Self::InvalidPath,
            ErrorKind::LimitExceeded => Self::LimitExceeded,
            ErrorKind::NotSupported => Self::NotSupported,
            ErrorKind::Unavailable => Self::Unavailable,
            ErrorKind::Canceled => Self::Canceled,
            ErrorKind::Other(_) => Self::Other,
            ErrorKind::Lost(LostReason::Expired) => Self::LostExpired,
            ErrorKind::Lost(LostReason::Broken) => Self::LostBroken,
            ErrorKind::Lost(LostReason::Disconnected) => Self::LostDisconnected,
            ErrorKind::Lost(LostReason::Io) => Self::LostIo,
            ErrorKind::Io(IoKind::NoSpace) => Self::IoNoSpace,
            ErrorKind::Io(IoKind::Quota) => Self::IoQuota,
            ErrorKind::Io(IoKind::ReadOnly) => Self::IoReadOnly,
            ErrorKind::Io(IoKind::Stale) => Self::IoStale,
            ErrorKind::Io(IoKind::TooManyFiles) => Self::IoTooManyFiles,
            ErrorKind::Io(IoKind::TooManyLocks) => Self::IoTooManyLocks,
            ErrorKind::Io(IoKind::Other) => Self::IoOther,
        }
    }
}

/// The code of a result whose value is of no interest any more.
fn code(result: Result<(), ErrorKind>) -> Code {
    result.map_or_else(Code::from, |()| Code::Ok)
}

fn mode(mode: c_int) -> Mode {
    match mode {
        SHARED => Mode::Shared,
        _ => Mode::Exclusive,
    }
}

impl From<Range> for ranges::Range {
    fn from(Range { start, length }: Range) -> Self {
        Self { start, length }
    }
}

// SAFETY: nothing else has the names of these functions: they are those of the library in guest/c, in
// place of which a program has this crate.

#[unsafe(no_mangle)]
extern "C" fn locket_ranges_open(file: &mut MaybeUninit<RangeFile>, path: *const c_char) -> Code {
    // SAFETY: the VFS passes a string that ends with NUL.
    let path = unsafe { CStr::from_ptr(path) };
    let opened = match path.to_str() {
        Ok(path) => ranges::RangeFile::open(path),
        Err(_) => Err(ErrorKind::InvalidPath),
    };
    match opened {
        Ok(opened) => {
            file.write(RangeFile(Some(Box::new(opened))));
            Code::Ok
        }
        Err(kind) => {
            file.write(RangeFile(None));
            kind.into()
        }
    }
}

#[unsafe(no_mangle)]
extern "C" fn locket_ranges_close(file: &mut RangeFile) {
    file.0 = None;
}

#[unsafe(no_mangle)]
extern "C" fn locket_ranges_lock(
    file: &RangeFile,
    wanted: c_int,
    range: Range,
    timeout: i64,
) -> Code {
    let Some(file) = &file.0 else {
        return Code::Closed;
    };
    // A negative one waits indefinitely; a longer one than there can be is the longest.
    let timeout = (timeout >= 0).then(|| u32::try_from(timeout).unwrap_or(u32::MAX));
    code(file.lock(mode(wanted), range.into(), timeout))
}

#[unsafe(no_mangle)]
extern "C" fn locket_ranges_unlock(file: &RangeFile, range: Range) -> Code {
    match &file.0 {
        Some(file) => code(file.unlock(range.into())),
        None => Code::Closed,
    }
}

#[unsafe(no_mangle)]
extern "C" fn locket_ranges_query(
    file: &RangeFile,
    wanted: c_int,
    range: Range,
    conflict: &mut MaybeUninit<Conflict>,
) -> Code {
    let answer = match &file.0 {
        Some(file) => file.query(mode(wanted), range.into()).map_err(Code::from),
        None => Err(Code::Closed),
    };
    let nothing = Conflict {
        is_there: false,
        mode: EXCLUSIVE,
        range: Range {
            start: 0,
            length: 0,
        },
    };
    let (found, code) = match answer {
        Ok(found) => (found, Code::Ok),
        Err(code) => (None, code),
    };
    conflict.write(found.map_or(nothing, |found| Conflict {
        is_there: true,
        mode: match found.mode {
            Mode::Exclusive => EXCLUSIVE,
            Mode::Shared => SHARED,
        },
        range: Range {
            start: found.range.start,
            length: found.range.length,
        },
    }));
    code
}
