//! Takeover of the lock of a dead holder, and breaking the lock of any.
//!
//! Only one process may take over the lock of a dead holder, and none may take one that a live process
//! has acquired meanwhile. How that is ensured differs between the systems.

#[cfg(unix)]
#[path = "takeover/exchange.rs"]
mod system;
#[cfg(windows)]
#[path = "takeover/set_aside.rs"]
mod system;

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::time::Duration;

use self::system::replace;
use super::MarkerFormat;
use super::dir_lock::{DirLock, MUCH_PATIENCE, PATIENCE};
use super::dirent::{self, EntryStat};
use super::owner_record::OwnerRecord;
use super::promise::{Claim, claim_of};
use crate::object::{Created, Marker};
use crate::sys::{self, EntryKind};

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
        EntryKind::File if seen.size() == 0 => Ok(true),
        EntryKind::File => form.is_record(dir, name, seen),
        EntryKind::Symlink => Ok(sys::leads_nowhere(dir, name)),
        EntryKind::Directory => dirent::is_bare(dir, name),
        _ => Ok(false),
    }
}

/// The result of a takeover.
pub(super) enum TakeoverResult {
    #[cfg_attr(windows, expect(dead_code, reason = "the name is freed first"))]
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
    replace(form, dir, name, seen, victim, mine)
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
                EntryKind::Directory => dirent::remove_bare(dir, &name)?,
                EntryKind::File if left.links() > 1 => linked.push((name, left)),
                _ => sys::unlink(dir, &name, Some(left.identity()))?,
            }
        }
    }
    for (name, left) in &linked {
        let same = |(_, other): &&(_, EntryStat)| other.is(left.identity());
        let names = linked.iter().filter(same).count() as u64;
        // A link under a name of another kind is the lock itself; its record is still needed.
        if names == left.links() {
            sys::unlink(dir, name, Some(left.identity()))?;
        }
    }
    Ok(())
}

/// Removes a foreign lock of any format.
fn remove<F: MarkerFormat>(form: &F, dir: &File, name: &OsStr, seen: &EntryStat) -> io::Result<()> {
    match seen.kind() {
        kind if form.is_one(kind) => form.clear(dir, name, seen, None),
        EntryKind::Directory => dirent::remove_bare(dir, name),
        _ => sys::unlink(dir, name, Some(seen.identity())),
    }
}
