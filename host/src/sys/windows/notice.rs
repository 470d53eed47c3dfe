//! What the system sets when something has happened: a change of a directory, the end of a process.

use std::fs::File;
use std::io;
use std::os::windows::ffi::OsStrExt as _;
use std::os::windows::io::{AsRawHandle as _, FromRawHandle as _, OwnedHandle};
use std::ptr;

use windows_sys::Win32::Foundation::{
    HANDLE, INVALID_HANDLE_VALUE, WAIT_FAILED, WAIT_OBJECT_0, WAIT_TIMEOUT,
};
use windows_sys::Win32::Storage::FileSystem::{
    FILE_NOTIFY_CHANGE_DIR_NAME, FILE_NOTIFY_CHANGE_FILE_NAME, FILE_NOTIFY_CHANGE_LAST_WRITE,
    FILE_NOTIFY_CHANGE_SIZE, FindCloseChangeNotification, FindFirstChangeNotificationW,
    FindNextChangeNotification,
};
use windows_sys::Win32::System::Threading::{
    CreateEventW, INFINITE, SetEvent, WaitForMultipleObjects,
};

use super::{check, final_path, process};

/// Something that a thread can wait for.
#[derive(Debug)]
pub(crate) enum Notice {
    /// Names in a directory, or also the content of its files.
    Changes(Changes),
    /// A process has ended.
    End(OwnedHandle),
    /// Another thread has called [`set`](Self::set) since the last wait.
    Event(OwnedHandle),
}

/// The system's record of changes in a directory.
#[derive(Debug)]
pub(crate) struct Changes(HANDLE);

// SAFETY: the calls on it may be made on any thread, and at the same time.
unsafe impl Send for Changes {}
// SAFETY: as above.
unsafe impl Sync for Changes {}

impl Drop for Changes {
    fn drop(&mut self) {
        // SAFETY: the handle is open, and has no other owner.
        unsafe { FindCloseChangeNotification(self.0) };
    }
}

/// How many a thread can wait for at once.
pub(crate) const MOST_NOTICES: usize = 64;

impl Notice {
    /// Tells of changes from now on: of names in a directory, and with `content` of what is in its
    /// files.
    pub(crate) fn of_directory(dir: &File, content: bool) -> io::Result<Self> {
        let path = final_path(dir)?;
        let path: Vec<u16> = path.as_os_str().encode_wide().chain([0]).collect();
        let mut changes = FILE_NOTIFY_CHANGE_FILE_NAME | FILE_NOTIFY_CHANGE_DIR_NAME;
        if content {
            changes |= FILE_NOTIFY_CHANGE_SIZE | FILE_NOTIFY_CHANGE_LAST_WRITE;
        }
        // SAFETY: the path ends with a zero.
        let handle = unsafe { FindFirstChangeNotificationW(path.as_ptr(), 0, changes) };
        match handle {
            INVALID_HANDLE_VALUE => Err(io::Error::last_os_error()),
            handle => Ok(Self::Changes(Changes(handle))),
        }
    }

    /// Tells of the end of a process.
    pub(crate) fn of_process(pid: u32) -> io::Result<Self> {
        process::open(pid).map(Self::End)
    }

    /// Tells that it was [set](Self::set).
    pub(crate) fn event() -> io::Result<Self> {
        // SAFETY: all of its arguments may be null. A wait resets it.
        let handle = unsafe { CreateEventW(ptr::null(), 0, 0, ptr::null()) };
        if handle.is_null() {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the handle was just opened, and has no other owner.
        Ok(Self::Event(unsafe { OwnedHandle::from_raw_handle(handle) }))
    }

    /// Ends the wait for an event.
    pub(crate) fn set(&self) {
        if let Self::Event(event) = self {
            // SAFETY: the handle is open.
            unsafe { SetEvent(event.as_raw_handle()) };
        }
    }

    /// Lets it tell of the next change. Fails if there will be none.
    pub(crate) fn again(&self) -> io::Result<()> {
        match self {
            // SAFETY: the handle is open.
            Self::Changes(Changes(handle)) => check(unsafe { FindNextChangeNotification(*handle) }),
            Self::End(_) => Err(io::ErrorKind::NotFound.into()),
            Self::Event(_) => Ok(()),
        }
    }

    fn handle(&self) -> HANDLE {
        match self {
            Self::Changes(Changes(handle)) => *handle,
            Self::End(handle) | Self::Event(handle) => handle.as_raw_handle(),
        }
    }

    /// Waits until there is news, and returns the first that has some; with `look`, only looks.
    pub(crate) fn wait_for<'a>(
        notices: impl Iterator<Item = &'a Self>,
        look: bool,
    ) -> io::Result<Option<usize>> {
        let handles: Vec<HANDLE> = notices.take(MOST_NOTICES).map(Self::handle).collect();
        let count = u32::try_from(handles.len()).expect("there are few");
        if count == 0 {
            return Ok(None);
        }
        let time = if look { 0 } else { INFINITE };
        // SAFETY: the handles are open, since the caller has them.
        match unsafe { WaitForMultipleObjects(count, handles.as_ptr(), 0, time) } {
            WAIT_FAILED => Err(io::Error::last_os_error()),
            WAIT_TIMEOUT => Ok(None),
            set => Ok(Some((set - WAIT_OBJECT_0) as usize)),
        }
    }
}
