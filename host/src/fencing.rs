//! Fencing tokens of locks on files: numbers that grow with each exclusive grant.
//!
//! A holder can be stopped, and continue after its lock was taken from it, broken or expired. What
//! it writes then is refused by a store that compares tokens. The last token is kept in an extended
//! attribute of the lock file, as a decimal number, so that its content stays as it is. It is
//! changed under the lock alone.
//!
//! A new token is larger than the last one and not smaller than the time of day in nanoseconds. So
//! tokens also grow if the attribute was lost: the file was created anew, or the system stopped
//! before it was on disk, when no holder survived. Nothing is synchronized for that reason.

use std::fs::File;
use std::io;

use crate::types::Mode;

/// The attribute.
#[cfg(any(target_os = "linux", target_os = "macos"))]
const NAME: &str = "user.locket.token";

/// The token of a grant of the lock that `file` carries. A shared grant gets the last one.
#[cfg(any(target_os = "linux", target_os = "macos"))]
pub(crate) fn token(file: &File, mode: Mode) -> io::Result<u64> {
    use rustix::fs::{XattrFlags, fgetxattr, fsetxattr};
    use rustix::io::Errno;
    use std::time::SystemTime;
    let mut text = [0; 32];
    let last = match fgetxattr(file, NAME, &mut text) {
        Ok(length) => parse(&text[..length])?,
        #[cfg(target_os = "linux")]
        Err(Errno::NODATA) => 0,
        #[cfg(target_os = "macos")]
        Err(Errno::NOATTR) => 0,
        Err(e) if e == Errno::OPNOTSUPP || e == Errno::NOTSUP => return Err(unsupported()),
        Err(e) => return Err(e.into()),
    };
    if mode == Mode::Shared {
        return Ok(last);
    }
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = now.map_or(0, |now| u64::try_from(now.as_nanos()).unwrap_or(0));
    let full = || io::Error::other("the last fencing token is the largest there is");
    let token = last.checked_add(1).ok_or_else(full)?.max(now);
    match fsetxattr(
        file,
        NAME,
        token.to_string().as_bytes(),
        XattrFlags::empty(),
    ) {
        Ok(()) => Ok(token),
        Err(e) if e == Errno::OPNOTSUPP || e == Errno::NOTSUP => Err(unsupported()),
        Err(e) => Err(e.into()),
    }
}

#[cfg(any(target_os = "linux", target_os = "macos"))]
fn parse(text: &[u8]) -> io::Result<u64> {
    let number = std::str::from_utf8(text).ok();
    number
        .and_then(|number| number.parse().ok())
        .ok_or_else(|| io::Error::other("the file's `user.locket.token` is not a number"))
}

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
pub(crate) fn token(_: &File, _: Mode) -> io::Result<u64> {
    Err(unsupported())
}

fn unsupported() -> io::Error {
    let why = "the file system has no extended attributes for the fencing token";
    io::Error::new(io::ErrorKind::Unsupported, why)
}
