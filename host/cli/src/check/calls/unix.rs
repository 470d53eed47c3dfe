//! What differs between systems of what an actor does: Linux and macOS.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use rustix::fs::{
    CWD, FlockOperation, RenameFlags, XattrFlags, flock, getxattr, renameat_with, setxattr,
};

use super::super::step::{Answer, Family, Lock, Mode, Wait};
use crate::sys::{self, Alarm};

pub(super) use std::os::unix::fs::symlink;

/// The lines of the input. This process ends with its caller, whatever it waits for.
#[cfg(target_os = "linux")]
pub(super) fn lines_or_end() -> io::Result<impl Iterator<Item = io::Result<String>>> {
    use std::io::BufRead;

    use rustix::process::{Signal, set_parent_process_death_signal};
    set_parent_process_death_signal(Some(Signal::KILL))?;
    Ok(io::stdin().lock().lines())
}

/// The lines of the input, with which this process ends, whatever it waits for.
#[cfg(not(target_os = "linux"))]
pub(super) fn lines_or_end() -> io::Result<impl Iterator<Item = io::Result<String>>> {
    use nix::sys::signal::{SigSet, SigmaskHow};
    // Those that interrupt a wait are for the thread that waits.
    let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
    let lines = super::super::lines::of_input();
    before.thread_set_mask()?;
    lines
}

pub(super) fn lock(file: &File, how: Lock) -> io::Result<()> {
    /// By then it waits, or has the lock.
    const SOON: Duration = Duration::from_millis(50);
    let _alarm = (how.wait == Wait::Interrupted).then(|| Alarm::at(Instant::now() + SOON));
    let waits = how.wait != Wait::No;
    match how.family {
        Family::Flock => flock(
            file,
            match (how.mode, waits) {
                (Mode::Exclusive, true) => FlockOperation::LockExclusive,
                (Mode::Exclusive, false) => FlockOperation::NonBlockingLockExclusive,
                (Mode::Shared, true) => FlockOperation::LockShared,
                (Mode::Shared, false) => FlockOperation::NonBlockingLockShared,
            },
        )?,
        Family::Record { from, length } => {
            let mode = match how.mode {
                Mode::Exclusive => locket::Mode::Exclusive,
                Mode::Shared => locket::Mode::Shared,
            };
            let command = match waits {
                true => libc::F_OFD_SETLKW,
                false => libc::F_OFD_SETLK,
            };
            match sys::control(file, command, &sys::record(Some(mode), from, length)) {
                // As some systems refuse it.
                Err(Errno::EACCES) => return Err(io::ErrorKind::WouldBlock.into()),
                locked => locked?,
            }
        }
    }
    Ok(())
}

pub(super) fn unlock(file: &File, family: Family) -> io::Result<()> {
    match family {
        Family::Flock => flock(file, FlockOperation::Unlock)?,
        Family::Record { from, length } => {
            sys::control(file, libc::F_OFD_SETLK, &sys::record(None, from, length))?;
        }
    }
    Ok(())
}

/// Moves a name, unless the other is there.
pub(super) fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    Ok(renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)?)
}

pub(super) fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    Ok(renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)?)
}

/// Makes a file that was there before it got its name.
#[cfg(target_os = "linux")]
pub(super) fn make_nameless(dir: &Path, path: &Path) -> io::Result<()> {
    use std::os::fd::AsRawFd;

    use rustix::fs::{AtFlags, Mode, OFlags, linkat, openat};
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    let file = openat(CWD, dir, flags, Mode::from_raw_mode(0o600))?;
    let open = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok(linkat(CWD, open, CWD, path, AtFlags::SYMLINK_FOLLOW)?)
}

/// There are none on this system.
#[cfg(not(target_os = "linux"))]
pub(super) fn make_nameless(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

const ATTRIBUTE: &str = "user.locket.check";

pub(super) fn set_attribute(path: &Path, value: &[u8]) -> io::Result<()> {
    Ok(setxattr(path, ATTRIBUTE, value, XattrFlags::empty())?)
}

pub(super) fn attribute(path: &Path, value: &mut [u8]) -> io::Result<usize> {
    Ok(getxattr(path, ATTRIBUTE, value)?)
}

pub(super) fn write(file: &File, content: &[u8]) -> io::Result<()> {
    file.write_all_at(content, 0)
}

pub(super) fn read(file: &File, content: &mut [u8]) -> io::Result<usize> {
    file.read_at(content, 0)
}

pub(super) fn inode_at(path: &Path) -> io::Result<Answer> {
    fs::symlink_metadata(path).map(|metadata| inode_of(&metadata))
}

pub(super) fn inode(file: &File) -> io::Result<Answer> {
    file.metadata().map(|metadata| inode_of(&metadata))
}

fn inode_of(metadata: &fs::Metadata) -> Answer {
    Answer::Inode {
        device: metadata.dev(),
        number: metadata.ino(),
        links: metadata.nlink(),
    }
}
