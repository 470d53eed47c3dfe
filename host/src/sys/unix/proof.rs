//! What tells whether the holder of an existence lock lives.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStringExt;

use rustix::fs::{XattrFlags, fgetxattr, fsetxattr};
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

/// The name of this host.
pub(crate) fn host_name() -> OsString {
    let name = rustix::system::uname().nodename().to_bytes().to_vec();
    OsString::from_vec(name)
}

/// Whether no process has the number.
pub(crate) fn is_reaped(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.is_some_and(|pid| matches!(test_kill_process(pid), Err(Errno::SRCH)))
}

/// Gives an open file an extended attribute that it does not have.
pub(crate) fn set_attribute(file: &File, name: &str, value: &[u8]) -> io::Result<()> {
    Ok(fsetxattr(file, name, value, XattrFlags::CREATE)?)
}

/// An extended attribute of an open file, if it is not longer than `room`.
pub(crate) fn attribute<'a>(file: &File, name: &str, room: &'a mut [u8]) -> Option<&'a [u8]> {
    let length = fgetxattr(file, name, &mut *room).ok()?;
    room.get(..length)
}
