//! Windows: `LockFileEx`, which belongs to an open file, with overlapped waits.
//!
//! A lock on a file excludes all other locks on it, by whatever call, and keeps other handles from
//! reading and writing what is locked.

use std::ffi::OsString;
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::windows::ffi::OsStringExt;
use std::os::windows::io::{AsRawHandle, FromRawHandle};
use std::path::{Path, PathBuf};
use std::ptr;

use crate::sys::Backing;
use windows_sys::Win32::Foundation::{
    ERROR_BAD_PATHNAME, ERROR_CANT_RESOLVE_FILENAME, ERROR_INVALID_FUNCTION,
    ERROR_INVALID_PARAMETER, ERROR_NOT_SUPPORTED, GENERIC_READ, GENERIC_WRITE,
    INVALID_HANDLE_VALUE,
};
use windows_sys::Win32::Storage::FileSystem::{
    DELETE, FILE_DISPOSITION_FLAG_DELETE, FILE_DISPOSITION_FLAG_IGNORE_READONLY_ATTRIBUTE,
    FILE_DISPOSITION_FLAG_POSIX_SEMANTICS, FILE_DISPOSITION_INFO_EX, FILE_FLAG_BACKUP_SEMANTICS,
    FILE_FLAG_OPEN_REPARSE_POINT, FILE_FLAG_OVERLAPPED, FILE_ID_INFO, FILE_INFO_BY_HANDLE_CLASS,
    FILE_REMOTE_PROTOCOL_INFO, FILE_SHARE_DELETE, FILE_SHARE_READ, FILE_SHARE_WRITE,
    FileDispositionInfoEx, FileIdInfo, FileRemoteProtocolInfo, GetFileInformationByHandleEx,
    GetFinalPathNameByHandleW, ReOpenFile, SetFileInformationByHandle,
};

pub(crate) use std::os::windows::fs::OpenOptionsExt;

mod entries;
mod lock;
mod notice;
mod process;
mod ranges;

pub(crate) use entries::{
    create_dir, create_file, each_name, entry_at, entry_of, leads_nowhere, link, open_dir,
    open_file, open_subdir, os_string, pin, read_link, remove_dir, rename, rename_new, symlink,
    unlink,
};
#[cfg(feature = "sandbox")]
pub(crate) use entries::{read_dir, remove_empty};
pub(crate) use lock::{
    Interrupter, Interruption, Signal, Thread, TimedWait, holder, try_lock, unlock, wait,
};
pub(crate) use notice::{MOST_NOTICES, Notice};
pub(crate) use process::{
    INITIAL_PID_NAMESPACE, boot_id, has_inner_pid, host_name, is_reaped, is_zombie, pid_namespace,
    start_ticks,
};
pub(crate) use ranges::{RangeLocks, WAITS_FOR_RANGES, wait_for_range};

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
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct Identity {
    volume: u64,
    file: [u8; 16],
}

impl Identity {
    /// The identity of an open file, given its metadata.
    pub(crate) fn of(file: &File, _: &Metadata) -> io::Result<Self> {
        Self::of_handle(file)
    }

    /// The identity of an open file; `None` if it is not a regular one.
    pub(crate) fn of_file(file: &File) -> io::Result<Option<Self>> {
        let regular = file.metadata()?.is_file();
        regular.then(|| Self::of_handle(file)).transpose()
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

    /// On what the file system of `file`, whose identity this is, depends.
    pub(crate) fn backing(self, file: &File) -> Backing {
        // SAFETY: this class writes this structure, of integers. It fails for local files.
        let remote =
            unsafe { information::<FILE_REMOTE_PROTOCOL_INFO>(file, FileRemoteProtocolInfo) };
        match remote.is_ok() {
            true => Backing::Network,
            false => Backing::Kernel,
        }
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
    remove_at_once(&file)
}

/// Removes the name of an open file at once, or not at all.
fn remove_at_once(file: &File) -> io::Result<()> {
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

/// Unlocking fails only if there is no lock any more, as after losing the connection to a file
/// server. So the handle need not be closed.
#[expect(clippy::unnecessary_wraps, reason = "other systems can fail")]
pub(crate) fn detach(_: &File) -> io::Result<()> {
    Ok(())
}

/// Windows has no signals.
pub(crate) struct NoSignals;

pub(crate) fn without_signals() -> NoSignals {
    NoSignals
}

/// Windows has no fork.
pub(crate) fn fork_generation() -> u32 {
    0
}

/// Another handle of a file that the caller opened, since locks need an overlapped one; and whether
/// it may be written to.
pub(crate) fn adopt(file: File) -> io::Result<(File, bool)> {
    match reopen(&file, true) {
        Ok(writable) => Ok((writable, true)),
        Err(_) => Ok((reopen(&file, false)?, false)),
    }
}

/// The path of an open file, in the form that people know, if it has one.
pub(crate) fn path_of(file: &File) -> io::Result<PathBuf> {
    let path = final_path(file)?;
    let Some(plain) = path.to_str().and_then(|path| path.strip_prefix(r"\\?\")) else {
        return Ok(path);
    };
    Ok(match plain.strip_prefix(r"UNC\") {
        Some(share) => format!(r"\\{share}").into(),
        None => plain.into(),
    })
}

/// The path of an open file, in the form that the system takes as it is.
fn final_path(file: &File) -> io::Result<PathBuf> {
    // Longer than any path of the system.
    let mut path = vec![0; 1 << 15];
    let room = u32::try_from(path.len()).expect("it fits");
    // SAFETY: the handle is open, and `path` has room for so many characters.
    let length =
        unsafe { GetFinalPathNameByHandleW(file.as_raw_handle(), path.as_mut_ptr(), room, 0) };
    match length {
        0 => Err(io::Error::last_os_error()),
        length => {
            path.truncate(length as usize);
            Ok(OsString::from_wide(&path).into())
        }
    }
}
