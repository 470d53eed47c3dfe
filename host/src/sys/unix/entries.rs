//! Entries of an open directory: what they are, and how to create, rename and remove them without
//! following links.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use rustix::fs::{AtFlags, FileType, Mode as Permissions, OFlags, RenameFlags, Stat};
use rustix::fs::{fstat, linkat, mkdirat, openat, readlinkat, renameat, renameat_with, statat};
use rustix::fs::{symlinkat, unlinkat};
use rustix::io::Errno;

use super::Identity;
use crate::sys::{EntryFacts, EntryKind};

impl EntryFacts {
    fn of_stat(stat: &Stat) -> Self {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => EntryKind::File,
            FileType::Directory => EntryKind::Directory,
            FileType::Symlink => EntryKind::Symlink,
            _ => EntryKind::Other,
        };
        #[allow(
            clippy::unnecessary_cast,
            clippy::cast_sign_loss,
            reason = "of other widths on other systems"
        )]
        Self {
            identity: Identity::of_stat(stat),
            kind,
            size: stat.st_size as u64,
            links: stat.st_nlink as u64,
            modified: (stat.st_mtime as i64, stat.st_mtime_nsec as u32),
            changed: (stat.st_ctime as i64, stat.st_ctime_nsec as u32),
        }
    }
}

/// What the directory has under the name; `None` if nothing is there.
pub(crate) fn entry_at(dir: &File, name: &OsStr) -> io::Result<Option<EntryFacts>> {
    match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(EntryFacts::of_stat(&stat))),
        Err(Errno::NOENT) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// What an open file is.
pub(crate) fn entry_of(file: &File) -> io::Result<EntryFacts> {
    Ok(EntryFacts::of_stat(&fstat(file)?))
}

/// Creates a file under a free name, open for writing.
pub(crate) fn create_file(dir: &File, name: &OsStr, permissions: u32) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let permissions = Permissions::from_raw_mode(permissions as _);
    Ok(openat(dir, name, flags, permissions)?.into())
}

/// Opens the file that has the name, for reading. `None` if there is none, or not readable for us.
pub(crate) fn open_file(dir: &File, name: &OsStr) -> io::Result<Option<File>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match openat(dir, name, flags, Permissions::empty()) {
        Ok(file) => Ok(Some(file.into())),
        Err(Errno::NOENT | Errno::LOOP | Errno::ACCESS | Errno::PERM | Errno::NXIO) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Opens a directory in a directory. `None` if there is none, or not readable for us.
pub(crate) fn open_subdir(dir: &File, name: &OsStr) -> io::Result<Option<File>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(dir, name, flags, Permissions::empty()) {
        Ok(subdir) => Ok(Some(subdir.into())),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::ACCESS) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Calls `each` with the names in a directory, and the inode number that it has for each, for as
/// long as that answers `true`.
pub(crate) fn each_name(dir: &File, mut each: impl FnMut(&OsStr, u64) -> bool) -> io::Result<()> {
    for entry in rustix::fs::Dir::read_from(dir)? {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name != "." && name != ".." && !each(name, entry.ino()) {
            break;
        }
    }
    Ok(())
}

/// Creates a directory under a free name.
pub(crate) fn create_dir(dir: &File, name: &OsStr) -> io::Result<()> {
    Ok(mkdirat(dir, name, Permissions::from_raw_mode(0o777))?)
}

/// Removes what has the name, unless it is a directory. The caller has made sure that it is the
/// entry with this identity: no system call does both.
pub(crate) fn unlink(dir: &File, name: &OsStr, _: Option<Identity>) -> io::Result<()> {
    Ok(unlinkat(dir, name, AtFlags::empty())?)
}

/// Removes an empty directory. Returns `false` if it is not empty.
pub(crate) fn remove_dir(dir: &File, name: &OsStr) -> io::Result<bool> {
    match unlinkat(dir, name, AtFlags::REMOVEDIR) {
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
        removed => Ok(removed.map(|()| true)?),
    }
}

/// Gives an entry another name, which no other program uses. As for the identity, see [`unlink`].
pub(crate) fn rename(dir: &File, from: &OsStr, _: Option<Identity>, to: &OsStr) -> io::Result<()> {
    Ok(renameat(dir, from, dir, to)?)
}

/// Renames an entry of a directory to a free name.
pub(crate) fn rename_new(dir: &File, from: &OsStr, to: &OsStr) -> io::Result<()> {
    Ok(renameat_with(dir, from, dir, to, RenameFlags::NOREPLACE)?)
}

/// Exchanges two entries of a directory in one step.
pub(crate) fn exchange(dir: &File, one: &OsStr, other: &OsStr) -> io::Result<()> {
    Ok(renameat_with(dir, one, dir, other, RenameFlags::EXCHANGE)?)
}

/// Gives a file a second name.
pub(crate) fn link(dir: &File, from: &OsStr, to: &OsStr) -> io::Result<()> {
    match linkat(dir, from, dir, to, AtFlags::empty()) {
        Err(Errno::PERM) => {
            let none = "the file system has no hard links";
            Err(io::Error::new(io::ErrorKind::Unsupported, none))
        }
        linked => Ok(linked?),
    }
}

/// Creates a symbolic link.
pub(crate) fn symlink(target: &OsStr, dir: &File, name: &OsStr) -> io::Result<()> {
    Ok(symlinkat(target, dir, name)?)
}

/// The target of a link. `None` if it is gone, or not a link.
pub(crate) fn read_link(dir: &File, name: &OsStr) -> io::Result<Option<OsString>> {
    match readlinkat(dir, name, Vec::new()) {
        Ok(target) => Ok(Some(OsString::from_vec(target.into_bytes()))),
        Err(Errno::NOENT | Errno::INVAL) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// The string of these bytes.
pub(crate) fn os_string(bytes: Vec<u8>) -> OsString {
    OsString::from_vec(bytes)
}
