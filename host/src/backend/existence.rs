//! Existence locks: the process that creates the entry holds the lock.
//!
//! A marker is complete from the moment it has its name, so no process sees it half-written. It
//! carries an [`OwnerRecord`] of its creator, and in most formats the kernel's [proof](promise) that
//! its holder lives. Before the engine relies on the entry or removes it,
//! it compares the entry with the marker that it created, by device and inode: another process may
//! have removed the marker and created its own.

#[cfg_attr(windows, path = "existence/no_dir_lock.rs")]
mod dir_lock;
mod dirent;
pub(super) mod link;
pub(super) mod mkdir;
pub(super) mod owner_record;
pub(super) mod pid_file;
pub(crate) mod promise;
mod release;
pub(super) mod soft;
pub(super) mod symlink;
mod takeover;
#[cfg(test)]
mod tests;

use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io;
use std::path::Path;

use self::dir_lock::{DirLock, LITTLE_PATIENCE, PATIENCE};
use self::dirent::EntryStat;
use self::owner_record::OwnerRecord;
use self::promise::Claim;
use self::release::{removed, unlink_own};
use self::takeover::{Takeover, TakeoverResult, is_no_more, take_over};
use super::api::{Backend, Request, out_of_reach};
use crate::object::{Created, Location, LockObject, Marker};
use crate::sys::{self, EntryKind, TimedWait};
use crate::types::{ForeignHolder, Mode};

/// How a marker is created, read and removed.
trait MarkerFormat: fmt::Debug + Send + Sync {
    /// What the marker's name adds to the name of the file. Empty if the lock is the file itself.
    fn suffix(&self) -> &'static str {
        ".lock"
    }

    /// Creates a marker under `name`. Fails with [`AlreadyExists`](io::ErrorKind::AlreadyExists) if
    /// the name is taken. On failure nothing is left.
    fn make(&self, dir: &File, name: &OsStr, claim: &OwnerRecord) -> io::Result<Created>;

    /// What the marker says of its holder, if it has a record.
    fn claim(&self, dir: &File, name: &OsStr, seen: &EntryStat) -> io::Result<Option<Claim>>;

    /// Whether a non-empty file of this format contains the record of its holder and nothing else.
    fn is_record(&self, dir: &File, name: &OsStr, seen: &EntryStat) -> io::Result<bool> {
        let _ = (dir, name, seen);
        Ok(false)
    }

    /// Whether an entry with an owner record certainly is a lock.
    fn is_certain(&self) -> bool {
        true
    }

    /// Whether an entry of this kind is a lock of this format.
    fn is_one(&self, kind: EntryKind) -> bool {
        kind == EntryKind::File
    }

    /// Whether the entry `seen` is the marker that was created. Fails if that is not known: it may
    /// be.
    fn is(
        &self,
        dir: &File,
        name: &OsStr,
        seen: &EntryStat,
        created: &Created,
    ) -> io::Result<bool> {
        let _ = (dir, name);
        match &created.pin {
            Some(pin) => Ok(seen.is(sys::entry_of(pin)?.identity)),
            None => Ok(false),
        }
    }

    /// Removes a lock of this format, and whatever else was created for it. `created` is given if
    /// this engine created it.
    fn clear(
        &self,
        dir: &File,
        name: &OsStr,
        seen: &EntryStat,
        created: Option<&Created>,
    ) -> io::Result<()> {
        let _ = created;
        sys::unlink(dir, name, Some(seen.identity()))
    }

    /// Removes what is left of a marker whose name was taken away.
    fn clean_up(&self, dir: &File, created: &Created) {
        let _ = (dir, created);
    }
}

impl<F: MarkerFormat> Backend for F {
    fn place(&self, file: &OsStr, _: Option<&Path>) -> io::Result<Location> {
        const LONGEST: usize = 255;
        let mut name = file.to_owned();
        name.push(self.suffix());
        if name.len() > LONGEST && file.len() <= LONGEST {
            let long = "the name is too long for this protocol, which adds `.lock` to it";
            return Err(io::Error::new(io::ErrorKind::InvalidFilename, long));
        }
        Ok(Location::Marker(name))
    }

    fn try_lock(&self, object: &LockObject, request: Request) -> io::Result<bool> {
        /// How often the marker may be gone by the time it is read.
        const TRIES: usize = 8;
        let (dir, name) = parts(object)?;
        if request.stale_after.is_none() && promise::is_still_held(dir, name)? {
            return Ok(false);
        }
        let claim = OwnerRecord::mine();
        let is_mine = |seen: &EntryStat| {
            let created = name.created();
            created.as_ref().map_or(Ok(false), |created| {
                self.is(dir, name.name(), seen, created)
            })
        };
        for _ in 0..TRIES {
            let seen = EntryStat::at(dir, name.name())?;
            if !seen.as_ref().is_some_and(|seen| self.is_one(seen.kind())) {
                *name.memory() = None;
            }
            let created = match seen {
                None => self.make(dir, name.name(), &claim),
                Some(seen) if !is_lock(self, seen.kind()) => return Err(not_a_lock()),
                Some(seen) if is_mine(&seen)? => return Ok(true),
                Some(seen) => {
                    let stale = Takeover::Stale(request.stale_after);
                    match take_over(self, dir, name, &seen, stale, &claim)? {
                        TakeoverResult::Mine(created) => Ok(created),
                        TakeoverResult::Gone => continue,
                        TakeoverResult::Held => return Ok(false),
                        TakeoverResult::Busy => return Err(busy()),
                    }
                }
            };
            match created {
                Ok(created) => {
                    *name.memory() = None;
                    *name.created() = Some(created);
                    return Ok(true);
                }
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e),
            }
        }
        Ok(false)
    }

    fn wait(&self, _: &LockObject, _: Request, _: &TimedWait) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn unlock(&self, object: &LockObject) -> io::Result<()> {
        let (dir, name) = parts(object)?;
        let mut created = name.created();
        let Some(mine) = &*created else { return Ok(()) };
        let guard = DirLock::of(dir, LITTLE_PATIENCE).ok().flatten();
        // If removal fails, `created` stays, and the next try finds the lock to be ours.
        let removed = match EntryStat::glance(dir, name.name())? {
            Some(seen) if self.is(dir, name.name(), &seen, mine)? => match guard {
                Some(_) => removed(self.clear(dir, name.name(), &seen, Some(mine)))?,
                None => unlink_own(self, dir, name.name(), mine)?,
            },
            _ => false,
        };
        if !removed {
            self.clean_up(dir, mine);
        }
        promise::end(mine);
        *created = None;
        Ok(())
    }

    fn is_held(&self, object: &LockObject) -> bool {
        let Ok((dir, name)) = parts(object) else {
            return false;
        };
        let created = name.created();
        let Some(created) = &*created else {
            return false;
        };
        let held = || match EntryStat::glance(dir, name.name())? {
            Some(seen) => self.is(dir, name.name(), &seen, created),
            None => Ok(false),
        };
        // On failure its state is not known.
        let held = || held().unwrap_or(true);
        // A process that breaks it by mistake puts it back under the directory lock.
        held() || {
            let _guard = DirLock::of(dir, PATIENCE);
            held()
        }
    }

    fn holder(&self, object: &LockObject) -> io::Result<Option<ForeignHolder>> {
        let (dir, name) = parts(object)?;
        let Some(seen) = EntryStat::at(dir, name.name())? else {
            return Ok(None);
        };
        if !is_lock(self, seen.kind()) {
            return Err(not_a_lock());
        }
        let claim = if self.is_one(seen.kind()) {
            self.claim(dir, name.name(), &seen)?
        } else {
            None
        };
        let holder = match &claim {
            Some(claim) if claim.death(dir).is_some() => return Ok(None),
            Some(claim) => claim.record.holder(),
            None => ForeignHolder::new(Mode::Exclusive),
        };
        Ok(Some(ForeignHolder {
            since: seen.changed(),
            ..holder
        }))
    }

    fn holder_pid(&self, object: &LockObject) -> Option<u32> {
        promise::judged(object.as_marker()?)?.record.watchable_pid()
    }

    fn holder_marker(&self, object: &LockObject) -> Option<File> {
        promise::judged(object.as_marker()?)?.life()
    }

    fn break_lock(&self, object: &LockObject, require_owner: bool) -> io::Result<bool> {
        let (dir, name) = parts(object)?;
        let Some(seen) = EntryStat::at(dir, name.name())? else {
            return Ok(false);
        };
        let claim = || -> io::Result<Option<Claim>> {
            let one = self.is_one(seen.kind());
            one.then(|| self.claim(dir, name.name(), &seen))
                .map_or(Ok(None), |claim| claim)
        };
        if require_owner && !(self.is_certain() && claim()?.is_some()) {
            return Ok(false);
        }
        if !is_lock(self, seen.kind()) {
            return Err(not_a_lock());
        }
        if !is_no_more(self, dir, name.name(), &seen)? {
            if !seen.is_at(dir, name.name()) {
                return Ok(true);
            }
            let more = "the entry contains more than a lock; remove it by hand if it is not needed";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, more));
        }
        match take_over(
            self,
            dir,
            name,
            &seen,
            Takeover::AnyHolder,
            &OwnerRecord::mine(),
        )? {
            TakeoverResult::Mine(created) => {
                *name.created() = Some(created);
                self.unlock(object)?;
                Ok(true)
            }
            // The previous holder has already lost it.
            TakeoverResult::Gone => Ok(true),
            TakeoverResult::Held | TakeoverResult::Busy => Err(busy()),
        }
    }
}

/// Whether an entry is a lock, of this format or of another that uses the same name.
fn is_lock<F: MarkerFormat>(form: &F, kind: EntryKind) -> bool {
    let beside = !form.suffix().is_empty();
    form.is_one(kind)
        || kind == EntryKind::Symlink
        || beside && matches!(kind, EntryKind::File | EntryKind::Directory)
}

fn busy() -> io::Error {
    out_of_reach("another program has the directory locked; try again")
}

fn not_a_lock() -> io::Error {
    let other = "the entry at the lock's name is not a lock";
    io::Error::new(io::ErrorKind::InvalidInput, other)
}

/// Whether a name in a directory is reserved for existence locks: because Locket uses such names
/// for its markers, or because the directory itself is a lock, and the name would tell its owner.
#[cfg(feature = "sandbox")]
pub(crate) fn is_reserved(dir: &File, name: &OsStr) -> bool {
    let is_ours = |name: &OsStr| OwnerRecord::of_own_name(name).is_some();
    let dir = crate::sys::path_of(dir).unwrap_or_default();
    let dir = dir.file_name().unwrap_or_default();
    is_ours(name) || is_ours(dir) || dir.as_encoded_bytes().ends_with(b".lock")
}

fn parts(object: &LockObject) -> io::Result<(&File, &Marker)> {
    let name = object.as_marker().ok_or(io::ErrorKind::InvalidInput)?;
    Ok((&object.file, name))
}
