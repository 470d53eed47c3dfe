//! The record locks of a file, as the kernel tells them to a process that asks for a lock without taking
//! it.
//!
//! It knows locks that no table in `/proc` shows: those of processes outside of this container, and,
//! where the file system asks its server, those of other hosts. About `flock` it answers no such
//! question.

use std::fs::{self, File};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use rustix::fs::OFlags;

use super::report::{Mode, Range};

/// What the kernel has in place of the process of an open-file-description lock.
pub(super) const OF_DESCRIPTION: i32 = -1;

/// A lock of another process or open file description.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct RecordLock {
    /// Positive for a process of this container, 0 for one outside.
    pub(super) pid: i32,
    pub(super) range: Range,
}

/// More would take too long to find out.
const MOST: usize = 100;

/// The locks of a file, without those whose bytes others of them lock, too.
pub(super) fn of(path: &Path) -> anyhow::Result<Vec<RecordLock>> {
    anyhow::ensure!(fs::metadata(path)?.is_file(), "not a file");
    let file = File::options()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(path)?;
    walk(|from, to| first_within(&file, from, to))
}

/// Asks for the whole file, and then again on both sides of each lock that is found, since the
/// answer is any one of those in the way.
fn walk(
    mut first_within: impl FnMut(u64, Option<u64>) -> anyhow::Result<Option<RecordLock>>,
) -> anyhow::Result<Vec<RecordLock>> {
    let mut found = Vec::new();
    let mut unasked = vec![(0, None)];
    while let Some((from, to)) = unasked.pop() {
        let Some(lock) = first_within(from, to)? else {
            continue;
        };
        let range = lock.range;
        found.push(lock);
        if found.len() == MOST {
            break;
        }
        if range.from > from {
            unasked.push((from, Some(range.from - 1)));
        }
        if let Some(last) = range.to
            && to.is_none_or(|to| last < to)
        {
            unasked.push((last + 1, to));
        }
    }
    found.sort_by_key(|lock| (lock.range.from, lock.range.to, lock.pid));
    // One that surrounds another is found on both sides of it.
    found.dedup();
    Ok(found)
}

/// A lock on any of these bytes.
fn first_within(file: &File, from: u64, to: Option<u64>) -> anyhow::Result<Option<RecordLock>> {
    let length = to.map_or(0, |to| to - from + 1);
    let mut lock = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: from.try_into()?,
        l_len: length.try_into()?,
        l_pid: 0,
    };
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut lock))?;
    let mode = match i32::from(lock.l_type) {
        libc::F_UNLCK => return Ok(None),
        libc::F_RDLCK => Mode::Shared,
        _ => Mode::Exclusive,
    };
    let from = lock.l_start.try_into()?;
    let length = u64::try_from(lock.l_len)?;
    let to = length.checked_sub(1).map(|more| from + more);
    Ok(Some(RecordLock {
        pid: lock.l_pid,
        range: Range { mode, from, to },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(mode: Mode, from: u64, to: Option<u64>) -> RecordLock {
        let range = Range { mode, from, to };
        RecordLock { pid: 0, range }
    }

    #[test]
    fn every_range_is_found_in_whatever_order_the_kernel_has_them() {
        let locks = [
            lock(Mode::Shared, 100, None),
            lock(Mode::Exclusive, 5, Some(15)),
            lock(Mode::Shared, 0, Some(0)),
            lock(Mode::Shared, 22, Some(24)),
            lock(Mode::Shared, 20, Some(30)),
            lock(Mode::Shared, 25, Some(40)),
        ];
        let meets = |lock: &RecordLock, from: u64, to: Option<u64>| {
            let Range {
                from: first,
                to: last,
                ..
            } = lock.range;
            to.is_none_or(|to| first <= to) && last.is_none_or(|last| last >= from)
        };
        let first = |from, to| Ok(locks.into_iter().find(|lock| meets(lock, from, to)));
        let mut expected = locks.to_vec();
        expected.sort_by_key(|lock| lock.range.from);
        assert_eq!(walk(first).unwrap(), expected);
        assert_eq!(walk(|_, _| Ok(None)).unwrap(), []);
    }

    #[test]
    fn a_walk_has_an_end() {
        let each = |from, _| Ok(Some(lock(Mode::Shared, from + 1, Some(from + 1))));
        assert_eq!(walk(each).unwrap().len(), MOST);
    }
}
