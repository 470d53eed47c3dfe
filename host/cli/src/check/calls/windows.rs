//! What differs between systems of what an actor does: Windows, on which both families of locks are one.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::windows::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use super::super::step::{Answer, Family, Lock, Mode, Wait};
use crate::sys;

pub(super) use super::super::lines::of_input as lines_or_end;

/// Locks as programs of the standard library do.
#[expect(clippy::disallowed_methods, reason = "another program is tried")]
pub(super) fn lock(file: &File, how: Lock) -> io::Result<()> {
    let tried = match (how.wait, how.mode) {
        (Wait::Yes, Mode::Exclusive) => return file.lock(),
        (Wait::Yes, Mode::Shared) => return file.lock_shared(),
        (Wait::No, Mode::Exclusive) => file.try_lock(),
        (Wait::No, Mode::Shared) => file.try_lock_shared(),
        // There is no signal.
        (Wait::Interrupted, _) => return Err(io::ErrorKind::Unsupported.into()),
    };
    tried.map_err(|e| match e {
        TryLockError::WouldBlock => io::ErrorKind::WouldBlock.into(),
        TryLockError::Error(e) => e,
    })
}

#[expect(clippy::disallowed_methods, reason = "another program is tried")]
pub(super) fn unlock(file: &File, _: Family) -> io::Result<()> {
    const NOT_LOCKED: i32 = 158;
    match file.unlock() {
        Err(e) if e.raw_os_error() == Some(NOT_LOCKED) => Ok(()),
        unlocked => unlocked,
    }
}

pub(super) fn symlink(target: &str, path: &Path) -> io::Result<()> {
    std::os::windows::fs::symlink_file(target, path)
}

/// The standard library has no such call.
pub(super) fn rename_new(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Windows has no such call.
pub(super) fn exchange(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// As [`exchange`].
pub(super) fn make_nameless(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// As [`exchange`].
pub(super) fn set_attribute(_: &Path, _: &[u8]) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// As [`exchange`].
pub(super) fn attribute(_: &Path, _: &mut [u8]) -> io::Result<usize> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(super) fn write(file: &File, content: &[u8]) -> io::Result<()> {
    match file.seek_write(content, 0)? {
        count if count == content.len() => Ok(()),
        _ => Err(io::ErrorKind::WriteZero.into()),
    }
}

pub(super) fn read(file: &File, content: &mut [u8]) -> io::Result<usize> {
    file.seek_read(content, 0)
}

pub(super) fn inode_at(path: &Path) -> io::Result<Answer> {
    const BACKUP_SEMANTICS_AND_REPARSE_POINT: u32 = 0x0220_0000;
    let mut options = OpenOptions::new();
    options
        .access_mode(0)
        .custom_flags(BACKUP_SEMANTICS_AND_REPARSE_POINT);
    inode(&options.open(path)?)
}

pub(super) fn inode(file: &File) -> io::Result<Answer> {
    let (device, number, links) = sys::file_number(file)?;
    Ok(Answer::Inode {
        device,
        number,
        links,
    })
}
