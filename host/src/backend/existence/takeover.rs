//! Takeover of the lock of a dead holder, and breaking the lock of any.
//!
//! Only one process may take over the lock of a dead holder, and none may take one
//! that a live process has acquired meanwhile. No system call removes a name only if it still is
//! what the caller saw. So a process that takes over creates a marker of its own beside the stale
//! one, exchanges the two names in one step, and then checks what it got. If that is not the marker
//! it had judged, it exchanges them back. The name is never free in between, and in the usual case
//! only the stale marker is ever moved. Users of Locket exclude each other during a takeover by a
//! `flock` on the directory. A release takes it too, between checking and removing. If the file
//! system cannot exchange names, locks are only broken by hand.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::time::Duration;

use rustix::fs::{AtFlags, FileType, unlinkat};

use super::MarkerFormat;
use super::dir_lock::{DirLock, MUCH_PATIENCE, PATIENCE};
use super::dirent::{self, EntryStat};
use super::owner_record::OwnerRecord;
use super::promise::{Claim, claim_of};
use crate::object::{Created, Marker};
use crate::sys;

/// Which holders may lose the lock.
#[derive(Clone, Copy)]
pub(super) enum Takeover {
    /// One that is proven dead, or whose lock is at least that old.
    Stale(Option<Duration>),
    /// Any holder.
    AnyHolder,
}

/// Whether an entry is nothing more than a lock, so that nothing else is removed with it.
pub(super) fn is_no_more<F: MarkerFormat>(
    form: &F,
    dir: &File,
    name: &OsStr,
    seen: &EntryStat,
) -> io::Result<bool> {
    match seen.kind() {
        FileType::RegularFile if seen.stat.st_size == 0 => Ok(true),
        FileType::RegularFile => form.is_record(dir, name, seen),
        FileType::Symlink => Ok(sys::leads_nowhere(dir, name)),
        FileType::Directory => dirent::is_bare(dir, name),
        _ => Ok(false),
    }
}

/// The result of a takeover.
pub(super) enum TakeoverResult {
    Mine(Created),
    /// Its holder keeps it.
    Held,
    /// It may be taken, but another program has the directory locked.
    Busy,
    /// There is nothing to take any more.
    Gone,
}

/// Takes the lock that was `seen` away from its holder, and holds it.
pub(super) fn take_over<F: MarkerFormat>(
    form: &F,
    dir: &File,
    marker: &Marker,
    seen: &EntryStat,
    victim: Takeover,
    mine: &OwnerRecord,
) -> io::Result<TakeoverResult> {
    let name = marker.name();
    let one = form.is_one(seen.kind());
    let claim = match victim {
        Takeover::Stale(_) if one => claim_of(form, dir, marker, seen)?,
        _ => None,
    };
    // Kept to the end: what is taken stays the lock of a dead process.
    let death = claim.as_ref().and_then(|claim| claim.death(dir));
    if let Takeover::Stale(age) = victim {
        let dead = death.is_some();
        let old = || age.is_some_and(|age| seen.age() >= age);
        let stale = one && (dead || old()) && is_no_more(form, dir, name, seen)?;
        if !stale {
            return Ok(TakeoverResult::Held);
        }
    }
    let _guard = match victim {
        Takeover::Stale(_) => match DirLock::of(dir, PATIENCE) {
            Ok(Some(guard)) => Some(guard),
            Ok(None) => return Ok(TakeoverResult::Busy),
            Err(_) => return Ok(TakeoverResult::Held),
        },
        Takeover::AnyHolder => match DirLock::of(dir, MUCH_PATIENCE) {
            Ok(None) => return Ok(TakeoverResult::Busy),
            // If directories cannot be locked there, locks are only broken by hand.
            guard => guard.ok().flatten(),
        },
    };
    if !seen.is_at(dir, name) {
        return Ok(TakeoverResult::Gone);
    }
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

/// Removes what processes that died during a takeover left in a directory.
fn tidy(dir: &File) -> io::Result<()> {
    let mut linked = Vec::new();
    for name in dirent::names(dir)?.unwrap_or_default() {
        let Some(record) = OwnerRecord::of_own_name(&name) else {
            continue;
        };
        if let Some(left) = EntryStat::at(dir, &name)? {
            let claim = Claim::new(record, || dirent::open_file(dir, &name, &left))?;
            if claim.death(dir).is_none() {
                continue;
            }
            match left.kind() {
                // Another process may have put more into it.
                FileType::Directory => dirent::remove_bare(dir, &name)?,
                FileType::RegularFile if left.stat.st_nlink > 1 => linked.push((name, left)),
                _ => unlinkat(dir, &name, AtFlags::empty())?,
            }
        }
    }
    for (name, left) in &linked {
        let same = |(_, other): &&(_, EntryStat)| other.is(&left.stat);
        let names = linked.iter().filter(same).count() as u64;
        #[allow(clippy::unnecessary_cast, reason = "of other widths on other systems")]
        let links = left.stat.st_nlink as u64;
        // A link under a name of another kind is the lock itself; its record is still needed.
        if names == links {
            unlinkat(dir, name, AtFlags::empty())?;
        }
    }
    Ok(())
}

/// Removes a foreign lock of any format.
fn remove<F: MarkerFormat>(form: &F, dir: &File, name: &OsStr, seen: &EntryStat) -> io::Result<()> {
    match seen.kind() {
        kind if form.is_one(kind) => form.clear(dir, name, seen, None),
        FileType::Directory => dirent::remove_bare(dir, name),
        _ => Ok(unlinkat(dir, name, AtFlags::empty())?),
    }
}
