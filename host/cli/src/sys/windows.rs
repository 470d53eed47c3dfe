//! Job objects, the console, and who has a file open.

use std::fs::File;
use std::io;
use std::os::windows::ffi::OsStrExt;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::path::Path;
use std::ptr;
use std::time::Duration;

use windows_sys::Win32::Foundation::{ERROR_MORE_DATA, ERROR_SUCCESS, WAIT_OBJECT_0, WIN32_ERROR};
use windows_sys::Win32::Storage::FileSystem::{
    BY_HANDLE_FILE_INFORMATION, GetDriveTypeW, GetFileInformationByHandle, GetVolumeInformationW,
    GetVolumePathNameW,
};
use windows_sys::Win32::System::Console::{CTRL_BREAK_EVENT, CTRL_C_EVENT, SetConsoleCtrlHandler};
use windows_sys::Win32::System::JobObjects::{
    AssignProcessToJobObject, CreateJobObjectW, JOB_OBJECT_LIMIT, JOB_OBJECT_LIMIT_BREAKAWAY_OK,
    JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE, JOBOBJECT_EXTENDED_LIMIT_INFORMATION,
    JobObjectExtendedLimitInformation, SetInformationJobObject,
};
use windows_sys::Win32::System::RestartManager::{
    CCH_RM_SESSION_KEY, RM_PROCESS_INFO, RmEndSession, RmGetList, RmRegisterResources,
    RmStartSession,
};
use windows_sys::Win32::System::Threading::{GetCurrentProcess, INFINITE, WaitForSingleObject};
use windows_sys::core::BOOL;

fn check(result: BOOL) -> io::Result<()> {
    match result {
        0 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// This process, and all that it starts from here on, unless they ask for a life of their own. If
/// this process is terminated, the others are, too.
pub(crate) struct Job(OwnedHandle);

impl Job {
    pub(crate) fn enter() -> io::Result<Self> {
        // SAFETY: nothing is passed. The handle is new, and has no other owner.
        let job = unsafe {
            let job = CreateJobObjectW(ptr::null(), ptr::null());
            check(BOOL::from(!job.is_null()))?;
            Self(OwnedHandle::from_raw_handle(job))
        };
        job.limit(JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE | JOB_OBJECT_LIMIT_BREAKAWAY_OK)?;
        // SAFETY: both handles are valid; that of this process always is.
        check(unsafe { AssignProcessToJobObject(job.0.as_raw_handle(), GetCurrentProcess()) })?;
        Ok(job)
    }

    /// Lets what is left of them live on.
    pub(crate) fn disband(self) -> io::Result<()> {
        self.limit(0)
    }

    fn limit(&self, flags: JOB_OBJECT_LIMIT) -> io::Result<()> {
        let mut limits = JOBOBJECT_EXTENDED_LIMIT_INFORMATION::default();
        limits.BasicLimitInformation.LimitFlags = flags;
        // SAFETY: the handle is open, and the structure is the one that this class reads.
        check(unsafe {
            SetInformationJobObject(
                self.0.as_raw_handle(),
                JobObjectExtendedLimitInformation,
                ptr::from_ref(&limits).cast(),
                size_of::<JOBOBJECT_EXTENDED_LIMIT_INFORMATION>() as u32,
            )
        })
    }
}

/// Waits for the end of a process. Returns whether it has ended in time.
pub(crate) fn wait_for_end(process: &impl AsRawHandle, patience: Duration) -> bool {
    let milliseconds = patience.as_millis().try_into().unwrap_or(INFINITE - 1);
    // SAFETY: the handle is open.
    unsafe { WaitForSingleObject(process.as_raw_handle(), milliseconds) == WAIT_OBJECT_0 }
}

/// Leaves an interruption from the console to the other processes there, which get it as well.
pub(crate) fn ignore_interruptions() -> io::Result<()> {
    unsafe extern "system" fn ignored(event: u32) -> BOOL {
        BOOL::from(matches!(event, CTRL_C_EVENT | CTRL_BREAK_EVENT))
    }
    // SAFETY: the handler may run at any time, on any thread. Unlike the attribute of a process that
    // ignores them, it is not inherited.
    check(unsafe { SetConsoleCtrlHandler(Some(ignored), 1) })
}

fn wide(path: &Path) -> Vec<u16> {
    path.as_os_str().encode_wide().chain([0]).collect()
}

/// A session of the Restart Manager.
struct Session(u32);

impl Session {
    fn start() -> io::Result<Self> {
        let (mut session, mut key) = (0, [0; CCH_RM_SESSION_KEY as usize + 1]);
        // SAFETY: the key has the room that is asked for.
        succeeded(unsafe { RmStartSession(&raw mut session, 0, key.as_mut_ptr()) })?;
        Ok(Self(session))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // SAFETY: the session was started, and is not used any more.
        unsafe { RmEndSession(self.0) };
    }
}

fn succeeded(result: WIN32_ERROR) -> io::Result<()> {
    match result {
        ERROR_SUCCESS => Ok(()),
        error => Err(io::Error::from_raw_os_error(error.cast_signed())),
    }
}

/// The other processes that have a file open, as the Restart Manager tells. Fails if it does not tell.
pub(crate) fn processes_with_open(path: &Path) -> io::Result<Vec<u32>> {
    // If it tells, it also tells of this process.
    let _open = File::open(path)?;
    let mut pids = listed(path)?;
    if pids.is_empty() {
        return Err(io::ErrorKind::Unsupported.into());
    }
    pids.retain(|pid| *pid != std::process::id());
    Ok(pids)
}

fn listed(path: &Path) -> io::Result<Vec<u32>> {
    let session = Session::start()?;
    let path = wide(&std::path::absolute(path)?);
    let paths = [path.as_ptr()];
    // SAFETY: there is one path, which ends with a zero; of the rest there is nothing.
    succeeded(unsafe {
        RmRegisterResources(session.0, 1, paths.as_ptr(), 0, ptr::null(), 0, ptr::null())
    })?;
    let mut found: Vec<RM_PROCESS_INFO> = Vec::new();
    loop {
        let (mut needed, mut count) = (0, found.len().try_into().map_err(io::Error::other)?);
        let mut reasons = 0;
        // SAFETY: there is room for so many processes.
        let got = unsafe {
            RmGetList(
                session.0,
                &raw mut needed,
                &raw mut count,
                found.as_mut_ptr(),
                &raw mut reasons,
            )
        };
        if got == ERROR_MORE_DATA {
            // Others may open it in between.
            found.resize(needed as usize + 4, RM_PROCESS_INFO::default());
            continue;
        }
        succeeded(got)?;
        found.truncate(count as usize);
        let pids = found.iter().map(|info| info.Process.dwProcessId);
        return Ok(pids.collect());
    }
}

/// The number of the volume of a file, its own number there, and how many names it has.
pub(crate) fn file_number(file: &File) -> io::Result<(u64, u64, u64)> {
    let mut information = BY_HANDLE_FILE_INFORMATION::default();
    // SAFETY: the handle is open, and the structure is valid for writes.
    check(unsafe { GetFileInformationByHandle(file.as_raw_handle(), &raw mut information) })?;
    let number = u64::from(information.nFileIndexHigh) << 32 | u64::from(information.nFileIndexLow);
    Ok((
        information.dwVolumeSerialNumber.into(),
        number,
        information.nNumberOfLinks.into(),
    ))
}

/// A volume: the path at which it is mounted, the name of its file system, and whether it is on another
/// host.
pub(crate) struct Volume {
    pub(crate) mounted_at: String,
    pub(crate) kind: String,
    pub(crate) is_remote: bool,
}

impl Volume {
    /// That of a directory.
    pub(crate) fn of(dir: &Path) -> io::Result<Self> {
        const REMOTE: u32 = 4;
        let dir = wide(dir);
        let (mut root, mut kind) = ([0; 1024], [0; 64]);
        // SAFETY: the path ends with a zero, and so does what is written to the arrays, for whose
        // size there is room.
        unsafe {
            check(GetVolumePathNameW(
                dir.as_ptr(),
                root.as_mut_ptr(),
                root.len() as u32,
            ))?;
            check(GetVolumeInformationW(
                root.as_ptr(),
                ptr::null_mut(),
                0,
                ptr::null_mut(),
                ptr::null_mut(),
                ptr::null_mut(),
                kind.as_mut_ptr(),
                kind.len() as u32,
            ))?;
        }
        let text = |wide: &[u16]| {
            let length = wide.iter().position(|unit| *unit == 0);
            String::from_utf16_lossy(&wide[..length.unwrap_or(wide.len())])
        };
        Ok(Self {
            mounted_at: text(&root),
            kind: text(&kind),
            // SAFETY: the path ends with a zero.
            is_remote: unsafe { GetDriveTypeW(root.as_ptr()) } == REMOTE,
        })
    }
}
