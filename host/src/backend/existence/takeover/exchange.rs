//! Two names are exchanged in one step.
//!
//! No system call of Linux and macOS removes a name only if it still is what the caller saw. So a
//! process that takes over creates a marker of its own beside the stale one, exchanges the two names
//! in one step, and then checks what it got. If that is not the marker it had judged, it exchanges
//! them back. The name is never free in between, and in the usual case
//! only the stale marker is ever moved. Users of Locket exclude each other during a takeover by a
//! `flock` on the directory. A release takes it too, between checking and removing. If the file
//! system cannot exchange names, locks are only broken by hand.

use std::ffi::OsStr;
use std::fs::File;
use std::io;

use super::{EntryStat, MarkerFormat, OwnerRecord, Takeover, TakeoverResult, remove, tidy};
use crate::sys;

/// Puts a marker of ours in place of the one that was `seen`.
pub(super) fn replace<F: MarkerFormat>(
    form: &F,
    dir: &File,
    name: &OsStr,
    seen: &EntryStat,
    victim: Takeover,
    mine: &OwnerRecord,
) -> io::Result<TakeoverResult> {
    let aside = mine.unique_name();
    let created = form.make(dir, &aside, mine)?;
    let undo = || -> io::Result<()> {
        match EntryStat::at(dir, &aside)? {
            Some(own) if form.is(dir, &aside, &own, &created)? => {
                form.clear(dir, &aside, &own, Some(&created))
            }
            _ => Ok(()),
        }
    };
    match sys::exchange(dir, &aside, name) {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            undo()?;
            return Ok(TakeoverResult::Gone);
        }
        // The file system cannot exchange names.
        Err(_) => {
            undo()?;
            return match victim {
                Takeover::Stale(_) => Ok(TakeoverResult::Held),
                Takeover::AnyHolder => {
                    remove(form, dir, name, seen)?;
                    Ok(TakeoverResult::Gone)
                }
            };
        }
    }
    if seen.is_at(dir, &aside) {
        // The lock is ours, even if the stale marker cannot be removed. A directory that another
        // process has just put something into stays under this name.
        let _ = remove(form, dir, &aside, seen);
        let _ = tidy(dir);
        return Ok(TakeoverResult::Mine(created));
    }
    // If our marker is gone by now, there is nothing to exchange with.
    if sys::exchange(dir, &aside, name).is_err() {
        sys::rename_new(dir, &aside, name)?;
    }
    undo()?;
    Ok(TakeoverResult::Gone)
}
