//! The stale marker is set aside, by a handle of it.
//!
//! Windows renames and removes what a handle has open, whatever has its name by then. So a process
//! that takes over opens the marker, makes sure that it is the one it has judged, and gives that one
//! a name of its own. The lock's name is free then, and the first to create a marker there has the
//! lock.

use std::ffi::OsStr;
use std::fs::File;
use std::io;

use super::{EntryStat, MarkerFormat, OwnerRecord, Takeover, TakeoverResult, remove, tidy};
use crate::sys;

/// Takes the name away from the marker that was `seen`.
pub(super) fn replace<F: MarkerFormat>(
    form: &F,
    dir: &File,
    name: &OsStr,
    seen: &EntryStat,
    _: Takeover,
    mine: &OwnerRecord,
) -> io::Result<TakeoverResult> {
    let aside = mine.unique_name();
    match sys::rename(dir, name, Some(seen.identity()), &aside) {
        Ok(()) => {
            // The name is free, even if the stale marker cannot be removed.
            let _ = remove(form, dir, &aside, seen);
            let _ = tidy(dir);
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(e),
    }
    Ok(TakeoverResult::Gone)
}
