//! Entries of an open directory: what they are, and how to create, rename and remove them without
//! following links.
//!
//! Windows resolves paths. That of an open directory stays the same, since its handle does not let
//! others rename or remove it, nor a directory above it. What is renamed or removed is opened first,
//! and compared with what the caller saw: the system then changes that, whatever has its name by now.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::windows::ffi::OsStrExt as _;
use std::os::windows::fs::OpenOptionsExt as _;
use std::os::windows::io::AsRawHandle;
use std::path::{Component, Path, PathBuf};
use std::ptr;

use windows_sys::Win32::Foundation::{
    ERROR_ACCESS_DENIED, ERROR_DELETE_PENDING, ERROR_NOT_A_REPARSE_POINT, ERROR_PRIVILEGE_NOT_HELD,
    ERROR_SHARING_VIOLATION,
};
use windows_sys::Win32::Storage::FileSystem::{
    DELETE, FILE_BASIC_INFO, FILE_DISPOSITION_INFO, FILE_FLAG_BACKUP_SEMANTICS,
    FILE_FLAG_OPEN_REPARSE_POINT, FILE_RENAME_INFO, FILE_SHARE_READ, FILE_SHARE_WRITE,
    FILE_STANDARD_INFO, FileBasicInfo, FileDispositionInfo, FileRenameInfo, FileStandardInfo,
    SetFileInformationByHandle,
};

use super::{Identity, check, final_path, information, is, open_named, remove_at_once};
use crate::sys::{EntryFacts, EntryKind};

/// Opens a directory to work with its entries.
pub(crate) fn open_dir(path: &Path) -> io::Result<File> {
    let dir = OpenOptions::new()
        .read(true)
        .share_mode(FILE_SHARE_READ | FILE_SHARE_WRITE)
        .custom_flags(FILE_FLAG_BACKUP_SEMANTICS)
        .open(path)?;
    match dir.metadata()?.is_dir() {
        true => Ok(dir),
        false => Err(io::ErrorKind::NotADirectory.into()),
    }
}

/// The path of an entry, which the system takes as it is.
fn path(dir: &File, name: &OsStr) -> io::Result<PathBuf> {
    let mut parts = Path::new(name).components();
    let plain = matches!((parts.next(), parts.next()), (Some(Component::Normal(part)), None) if part == name);
    // A colon would lead into the file, and other programs drop what these names end with.
    let bytes = name.as_encoded_bytes();
    if !plain || bytes.contains(&b':') || bytes.ends_with(b".") || bytes.ends_with(b" ") {
        return Err(io::ErrorKind::InvalidFilename.into());
    }
    Ok(final_path(dir)?.join(name))
}

/// Another program may have a file open in a way that excludes this call, for a moment.
fn or_busy(error: io::Error) -> io::Error {
    match is(&error, ERROR_SHARING_VIOLATION) || is(&error, ERROR_DELETE_PENDING) {
        true => io::Error::new(io::ErrorKind::ResourceBusy, error),
        false => error,
    }
}

/// Opens the entry itself. Fails if it is not the one with the identity.
fn open(dir: &File, name: &OsStr, access: u32, entry: Option<Identity>) -> io::Result<File> {
    let file = open_named(&path(dir, name)?, access, false).map_err(or_busy)?;
    let file = file.ok_or(io::ErrorKind::NotFound)?;
    match entry {
        Some(entry) if Identity::of_handle(&file)? != entry => Err(io::ErrorKind::NotFound.into()),
        _ => Ok(file),
    }
}

/// What the directory has under the name; `None` if nothing is there.
pub(crate) fn entry_at(dir: &File, name: &OsStr) -> io::Result<Option<EntryFacts>> {
    match open(dir, name, 0, None) {
        Ok(file) => entry_of(&file).map(Some),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// Keeps the number of an entry from being reused. The handle is in no other program's way.
pub(crate) fn pin(dir: &File, name: &OsStr) -> io::Result<Option<File>> {
    open(dir, name, 0, None).map(Some)
}

/// What an open file is.
pub(crate) fn entry_of(file: &File) -> io::Result<EntryFacts> {
    // SAFETY: the classes write these structures, of integers.
    let (basic, standard): (FILE_BASIC_INFO, FILE_STANDARD_INFO) = unsafe {
        (
            information(file, FileBasicInfo)?,
            information(file, FileStandardInfo)?,
        )
    };
    let metadata = file.metadata()?;
    let kind = match metadata.file_type() {
        kind if kind.is_symlink() => EntryKind::Symlink,
        kind if kind.is_dir() => EntryKind::Directory,
        kind if kind.is_file() => EntryKind::File,
        _ => EntryKind::Other,
    };
    Ok(EntryFacts {
        identity: Identity::of_handle(file)?,
        kind,
        size: metadata.len(),
        links: standard.NumberOfLinks.into(),
        modified: since_1970(basic.LastWriteTime),
        changed: since_1970(basic.ChangeTime),
    })
}

/// A time of the system, which counts units of 100 ns since 1601, in seconds and nanoseconds.
fn since_1970(time: i64) -> (i64, u32) {
    const UNITS: i64 = 10_000_000;
    const EPOCH: i64 = 11_644_473_600;
    let nanos = u32::try_from(time.rem_euclid(UNITS)).expect("less than a second") * 100;
    (time.div_euclid(UNITS) - EPOCH, nanos)
}

/// Creates a file under a free name, open for writing.
pub(crate) fn create_file(dir: &File, name: &OsStr, _: u32) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    options.open(path(dir, name)?).map_err(or_busy)
}

/// Opens the file that has the name, for reading. `None` if there is none, or not readable for us.
pub(crate) fn open_file(dir: &File, name: &OsStr) -> io::Result<Option<File>> {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .custom_flags(FILE_FLAG_OPEN_REPARSE_POINT);
    match options.open(path(dir, name)?) {
        Ok(file) => Ok(file.metadata()?.is_file().then_some(file)),
        Err(e) => match e.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => Ok(None),
            _ => Err(or_busy(e)),
        },
    }
}

/// Opens a directory in a directory. `None` if there is none, or not readable for us.
pub(crate) fn open_subdir(dir: &File, name: &OsStr) -> io::Result<Option<File>> {
    // Others may rename and remove it, unlike those of `open_dir`.
    let mut options = OpenOptions::new();
    options
        .read(true)
        .custom_flags(FILE_FLAG_OPEN_REPARSE_POINT | FILE_FLAG_BACKUP_SEMANTICS);
    match options.open(path(dir, name)?) {
        Ok(file) => Ok(file.metadata()?.is_dir().then_some(file)),
        Err(e) => match e.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => Ok(None),
            _ => Err(or_busy(e)),
        },
    }
}

/// Calls `each` with the names in a directory, for as long as that answers `true`. The directory
/// tells no numbers.
pub(crate) fn each_name(dir: &File, mut each: impl FnMut(&OsStr, u64) -> bool) -> io::Result<()> {
    let entries = match fs::read_dir(final_path(dir)?) {
        // It has been removed since it was opened.
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(or_busy)?,
    };
    for entry in entries {
        if !each(&entry.map_err(or_busy)?.file_name(), Identity::NO_NUMBER) {
            break;
        }
    }
    Ok(())
}

impl Identity {
    const NO_NUMBER: u64 = 0;

    /// The number by which a directory lists it.
    #[expect(clippy::unused_self, reason = "other systems list numbers")]
    pub(crate) fn number(self) -> u64 {
        Self::NO_NUMBER
    }

    /// Whether the numbers in a directory are those of its files.
    #[expect(clippy::unused_self, reason = "other systems list numbers")]
    pub(crate) fn is_on_device(self) -> bool {
        true
    }
}

/// Creates a directory under a free name.
pub(crate) fn create_dir(dir: &File, name: &OsStr) -> io::Result<()> {
    fs::create_dir(path(dir, name)?).map_err(or_busy)
}

/// Removes what has the name, unless it is a directory or not the entry with this identity. Its name
/// is gone at once where the system can do that, and otherwise when no program has it open.
pub(crate) fn unlink(dir: &File, name: &OsStr, entry: Option<Identity>) -> io::Result<()> {
    let file = open(dir, name, DELETE, entry)?;
    match file.metadata()?.is_dir() {
        true => Err(io::ErrorKind::IsADirectory.into()),
        false => remove_open(&file),
    }
}

/// Removes an empty directory. Returns `false` if it is not empty.
pub(crate) fn remove_dir(dir: &File, name: &OsStr) -> io::Result<bool> {
    let subdir = open(dir, name, DELETE, None)?;
    if !subdir.metadata()?.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    match remove_open(&subdir) {
        Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(false),
        removed => removed.map(|()| true),
    }
}

fn remove_open(file: &File) -> io::Result<()> {
    match remove_at_once(file) {
        Err(e) if e.kind() == io::ErrorKind::Unsupported => {}
        removed => return removed.map_err(or_busy),
    }
    let disposition = FILE_DISPOSITION_INFO { DeleteFile: true };
    // SAFETY: the handle is open, and the structure is the one that this class reads.
    let removed = check(unsafe {
        SetFileInformationByHandle(
            file.as_raw_handle(),
            FileDispositionInfo,
            ptr::from_ref(&disposition).cast(),
            size_of::<FILE_DISPOSITION_INFO>() as u32,
        )
    });
    removed.map_err(or_busy)
}

/// Gives an entry another name, which is free. Fails if it is not the one with this identity.
pub(crate) fn rename(
    dir: &File,
    from: &OsStr,
    entry: Option<Identity>,
    to: &OsStr,
) -> io::Result<()> {
    let file = open(dir, from, DELETE, entry)?;
    let to = path(dir, to)?;
    let to: Vec<u16> = to.as_os_str().encode_wide().collect();
    let length = size_of_val(to.as_slice());
    // With a zero at the end.
    let size = size_of::<FILE_RENAME_INFO>() + length;
    let mut buffer = vec![0_u64; size.div_ceil(size_of::<u64>())];
    let information = buffer.as_mut_ptr().cast::<FILE_RENAME_INFO>();
    // SAFETY: the buffer is aligned for the structure, large enough for it with the name behind it,
    // and all zeroes is a value of it: it does not replace what has the name. The handle is open.
    let renamed = check(unsafe {
        (*information).FileNameLength = u32::try_from(length).expect("a path is short");
        let name = (&raw mut (*information).FileName).cast();
        ptr::copy_nonoverlapping(to.as_ptr(), name, to.len());
        SetFileInformationByHandle(
            file.as_raw_handle(),
            FileRenameInfo,
            buffer.as_ptr().cast(),
            u32::try_from(size).expect("a path is short"),
        )
    });
    // A directory is not renamed while a program has something in it open.
    let in_use =
        |e: &io::Error| is(e, ERROR_ACCESS_DENIED) && file.metadata().is_ok_and(|m| m.is_dir());
    renamed.map_err(|e| match in_use(&e) {
        true => io::Error::new(io::ErrorKind::ResourceBusy, e),
        false => or_busy(e),
    })
}

/// Renames an entry of a directory to a free name.
pub(crate) fn rename_new(dir: &File, from: &OsStr, to: &OsStr) -> io::Result<()> {
    rename(dir, from, None, to)
}

/// Gives a file a second name.
pub(crate) fn link(dir: &File, from: &OsStr, to: &OsStr) -> io::Result<()> {
    let linked = fs::hard_link(path(dir, from)?, path(dir, to)?);
    linked.map_err(|e| match e.raw_os_error().and_then(super::kind_of) {
        Some(io::ErrorKind::InvalidInput) => io::Error::new(
            io::ErrorKind::Unsupported,
            "the file system has no hard links",
        ),
        _ => or_busy(e),
    })
}

/// Creates a symbolic link, if this process may.
pub(crate) fn symlink(target: &OsStr, dir: &File, name: &OsStr) -> io::Result<()> {
    let may_not = || {
        let why = "this process may not create symbolic links";
        io::Error::new(io::ErrorKind::Unsupported, why)
    };
    match std::os::windows::fs::symlink_file(target, path(dir, name)?) {
        Err(e) if is(&e, ERROR_PRIVILEGE_NOT_HELD) => Err(may_not()),
        Err(e) => Err(e),
        // Wine reports success without a link.
        Ok(()) => read_link(dir, name)?.map(drop).ok_or_else(may_not),
    }
}

/// The target of a link. `None` if it is gone, or not a link.
pub(crate) fn read_link(dir: &File, name: &OsStr) -> io::Result<Option<OsString>> {
    match fs::read_link(path(dir, name)?) {
        Ok(target) => Ok(Some(target.into_os_string())),
        Err(e) if e.kind() == io::ErrorKind::NotFound || is(&e, ERROR_NOT_A_REPARSE_POINT) => {
            Ok(None)
        }
        Err(e) => Err(e),
    }
}

/// Whether a link dangles beneath its directory.
pub(crate) fn leads_nowhere(dir: &File, link: &OsStr) -> bool {
    let target = read_link(dir, link).ok().flatten();
    target.is_some_and(|target| matches!(entry_at(dir, &target), Ok(None)))
}

/// The string of these bytes. What is not valid text there does not stay the same.
pub(crate) fn os_string(bytes: Vec<u8>) -> OsString {
    String::from_utf8_lossy(&bytes).into_owned().into()
}

/// Removes a name from a directory if it is the only one of `identity`, and that is an empty regular
/// file.
#[cfg(feature = "sandbox")]
pub(crate) fn remove_empty(dir: &File, name: &OsStr, identity: Identity) -> io::Result<()> {
    let file = match open(dir, name, DELETE, Some(identity)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        file => file?,
    };
    let facts = entry_of(&file)?;
    let bare = facts.kind == EntryKind::File && facts.size == 0 && facts.links == 1;
    if bare { remove_at_once(&file) } else { Ok(()) }
}

/// A directory that was opened for its entries can be read, too.
#[cfg(feature = "sandbox")]
#[expect(clippy::unnecessary_wraps, reason = "other systems can fail")]
pub(crate) fn read_dir(dir: File) -> io::Result<File> {
    Ok(dir)
}
