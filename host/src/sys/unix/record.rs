//! Record locks of an open file description, on the whole file or a range of it.

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::ptr;

use super::check;
use crate::range::Span;
use crate::sys::RangeChange;
use crate::types::Mode;

#[allow(
    clippy::unnecessary_cast,
    reason = "wider than the field on one system, and not on the other"
)]
mod kind {
    pub(super) const EXCLUSIVE: libc::c_short = libc::F_WRLCK as libc::c_short;
    pub(super) const SHARED: libc::c_short = libc::F_RDLCK as libc::c_short;
    pub(super) const NONE: libc::c_short = libc::F_UNLCK as libc::c_short;
}

/// A record lock over the whole file, whatever its length, or its removal.
pub(in crate::sys) fn whole_file(mode: Option<Mode>) -> libc::flock {
    // SAFETY: `flock` is plain data for which all zeroes is a value: from offset 0 to the end,
    // and `l_pid` 0 as open-file-description locks demand.
    let mut lock: libc::flock = unsafe { MaybeUninit::zeroed().assume_init() };
    lock.l_type = match mode {
        Some(Mode::Exclusive) => kind::EXCLUSIVE,
        Some(Mode::Shared) => kind::SHARED,
        None => kind::NONE,
    };
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    lock
}

pub(in crate::sys) fn record_lock(
    file: &File,
    command: libc::c_int,
    lock: &mut libc::flock,
) -> io::Result<()> {
    // SAFETY: the descriptor is open, and `lock` is valid for reads and writes during the call.
    check(unsafe { libc::fcntl(file.as_raw_fd(), command, ptr::from_mut(lock)) }).map(drop)
}

/// Takes the open-file-description lock. Returns `false` if another holder is in the way.
pub(crate) fn try_lock(file: &File, mode: Mode) -> io::Result<bool> {
    match record_lock(file, libc::F_OFD_SETLK, &mut whole_file(Some(mode))) {
        Ok(()) => Ok(true),
        Err(e) if matches!(e.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => Ok(false),
        Err(e) => Err(e),
    }
}

/// Gives the open-file-description lock back.
pub(crate) fn unlock(file: &File) -> io::Result<()> {
    record_lock(file, libc::F_OFD_SETLK, &mut whole_file(None))
}

/// The mode in which another open file description or process holds a record lock on any part of
/// the file, and the number of the process if the lock belongs to a process. Queries without taking
/// a lock.
pub(crate) fn holder(file: &File) -> io::Result<Option<(Mode, Option<u32>)>> {
    let mut lock = whole_file(Some(Mode::Exclusive));
    record_lock(file, libc::F_OFD_GETLK, &mut lock)?;
    // Not positive for a description, and for a process of another namespace.
    let pid = u32::try_from(lock.l_pid).ok().filter(|pid| *pid > 0);
    Ok(match lock.l_type {
        kind::NONE => None,
        kind::SHARED => Some((Mode::Shared, pid)),
        _ => Some((Mode::Exclusive, pid)),
    })
}

/// A record lock on a range, or its removal.
pub(in crate::sys) fn range_lock(mode: Option<Mode>, span: Span) -> libc::flock {
    // Within what a file can have, whatever the width of the type.
    let offset = |offset: u64| libc::off_t::try_from(offset).unwrap_or(libc::off_t::MAX);
    libc::flock {
        l_start: offset(span.first),
        l_len: offset(span.length()),
        ..whole_file(mode)
    }
}

/// The locks on ranges that an open file description carries, which the kernel knows.
#[derive(Debug, Default)]
pub(crate) struct RangeLocks(());

impl RangeLocks {
    /// Locks a range, changes it, or with no mode unlocks it.
    pub(crate) fn change(
        &mut self,
        file: &File,
        mode: Option<Mode>,
        span: Span,
    ) -> io::Result<RangeChange> {
        match record_lock(file, libc::F_OFD_SETLK, &mut range_lock(mode, span)) {
            Ok(()) => Ok(RangeChange::Made),
            Err(e) if matches!(e.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => {
                Ok(RangeChange::Conflict)
            }
            Err(e) => Err(e),
        }
    }

    /// A record lock of another open file description or process that excludes `mode` in a range.
    pub(crate) fn query(
        &mut self,
        file: &File,
        mode: Mode,
        span: Span,
    ) -> io::Result<Option<(Span, Mode)>> {
        let mut lock = range_lock(Some(mode), span);
        record_lock(file, libc::F_OFD_GETLK, &mut lock)?;
        let number = |offset: libc::off_t| u64::try_from(offset).unwrap_or(0);
        let span = Span::reported(number(lock.l_start), number(lock.l_len));
        Ok(match lock.l_type {
            kind::NONE => None,
            kind::SHARED => Some((span, Mode::Shared)),
            _ => Some((span, Mode::Exclusive)),
        })
    }

    /// Unlocks everything.
    pub(crate) fn clear(&mut self, file: &File) -> io::Result<()> {
        self.change(file, None, Span::WHOLE).map(drop)
    }
}

/// A thread can wait for a range: what the owner holds is not in its way.
pub(crate) const WAITS_FOR_RANGES: bool = true;
