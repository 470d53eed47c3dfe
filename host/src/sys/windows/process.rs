//! What identifies a process, and whether it has ended.

use std::ffi::OsString;
use std::io;
use std::os::windows::ffi::OsStringExt;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};

use windows_sys::Win32::Foundation::{ERROR_INVALID_PARAMETER, FILETIME, WAIT_OBJECT_0};
use windows_sys::Win32::System::SystemInformation::{
    ComputerNamePhysicalDnsHostname, GetComputerNameExW,
};
use windows_sys::Win32::System::Threading::{
    GetProcessTimes, OpenProcess, PROCESS_QUERY_LIMITED_INFORMATION, PROCESS_SYNCHRONIZE,
    WaitForSingleObject,
};

use super::{check, is};

/// Windows numbers all processes of a host together. A container has a host name of its own.
pub(crate) const INITIAL_PID_NAMESPACE: u64 = 0;

/// As [`INITIAL_PID_NAMESPACE`].
pub(crate) fn pid_namespace() -> u64 {
    INITIAL_PID_NAMESPACE
}

/// As [`INITIAL_PID_NAMESPACE`].
pub(crate) fn has_inner_pid(_: u32) -> bool {
    false
}

/// Windows does not number its boots. The start of a process is a date.
pub(crate) fn boot_id() -> u128 {
    0
}

/// The name of this host, as other programs know it.
pub(crate) fn host_name() -> OsString {
    // Longer than any name.
    let mut name = [0; 1024];
    let mut length = name.len() as u32;
    // SAFETY: `name` has room for so many characters.
    let found = check(unsafe {
        GetComputerNameExW(
            ComputerNamePhysicalDnsHostname,
            name.as_mut_ptr(),
            &raw mut length,
        )
    });
    let name = found.ok().and_then(|()| name.get(..length as usize));
    OsString::from_wide(name.unwrap_or_default())
}

/// A handle that tells of its end.
pub(super) fn open(pid: u32) -> io::Result<OwnedHandle> {
    let access = PROCESS_QUERY_LIMITED_INFORMATION | PROCESS_SYNCHRONIZE;
    // SAFETY: has no preconditions.
    let process = unsafe { OpenProcess(access, 0, pid) };
    if process.is_null() {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the handle was just opened, and has no other owner.
    Ok(unsafe { OwnedHandle::from_raw_handle(process) })
}

fn has_ended(process: &OwnedHandle) -> bool {
    // SAFETY: the handle is open.
    let waited = unsafe { WaitForSingleObject(process.as_raw_handle(), 0) };
    waited == WAIT_OBJECT_0
}

/// Whether no process has the number.
pub(crate) fn is_reaped(pid: u32) -> bool {
    open(pid).is_err_and(|e| is(&e, ERROR_INVALID_PARAMETER))
}

/// Whether the process has ended, and a program has a handle of it, which keeps its number in use.
pub(crate) fn is_zombie(pid: u32) -> bool {
    open(pid).is_ok_and(|process| has_ended(&process))
}

/// When a process was created, in units of 100 ns since 1601. `None` if it has ended, or if this
/// process may not know.
pub(crate) fn start_ticks(pid: u32) -> Option<u64> {
    let process = open(pid).ok()?;
    let [mut created, mut exited, mut kernel, mut user] = [FILETIME::default(); 4];
    // SAFETY: the handle is open, and the structures are valid for writes.
    check(unsafe {
        GetProcessTimes(
            process.as_raw_handle(),
            &raw mut created,
            &raw mut exited,
            &raw mut kernel,
            &raw mut user,
        )
    })
    .ok()?;
    let created = u64::from(created.dwHighDateTime) << 32 | u64::from(created.dwLowDateTime);
    (!has_ended(&process)).then_some(created)
}
