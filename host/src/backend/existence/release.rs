//! Removing a lock of ours, whatever others do to it meanwhile.

use std::ffi::OsStr;
use std::fs::File;
use std::io;

use super::MarkerFormat;
use super::dirent::EntryStat;
use super::owner_record::OwnerRecord;
use crate::object::Created;
use crate::sys;

/// Whether the lock to remove was still there.
pub(super) fn removed(clear: io::Result<()>) -> io::Result<bool> {
    match clear {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

/// Removes a lock of ours that another process may be breaking at this moment: checks it once more
/// after moving it aside. Returns `false` if it had been broken.
pub(super) fn unlink_own<F: MarkerFormat>(
    form: &F,
    dir: &File,
    name: &OsStr,
    created: &Created,
) -> io::Result<bool> {
    let aside = OwnerRecord::mine().unique_name();
    match sys::rename(dir, name, None, &aside) {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(e),
    }
    let mine = || -> io::Result<Option<EntryStat>> {
        match EntryStat::glance(dir, &aside)? {
            Some(seen) if form.is(dir, &aside, &seen, created)? => Ok(Some(seen)),
            _ => Ok(None),
        }
    };
    match mine() {
        Ok(Some(seen)) => {
            // What is left of it is in no other process's way.
            let _ = form.clear(dir, &aside, &seen, Some(created));
            Ok(true)
        }
        other => {
            // If the name is taken again, the owner of this marker learns that it has lost its
            // lock.
            let _ = sys::rename_new(dir, &aside, name);
            other.map(|_| false)
        }
    }
}
