//! Existence locks: the process that creates the entry holds the lock.
//!
//! A marker is complete from the moment it has its name, so no process sees it half-written. It
//! carries an [`OwnerRecord`] of its creator. Before the engine relies on the entry or removes it,
//! it compares the entry with the marker that it created, by device and inode: another process may
//! have removed the marker and created its own.
//!
//! **Takeover.** Only one process may take over the lock of a dead holder, and none may take one
//! that a live process has acquired meanwhile. No system call removes a name only if it still is
//! what the caller saw. So a process that takes over creates a marker of its own beside the stale
//! one, exchanges the two names in one step, and then checks what it got. If that is not the marker
//! it had judged, it exchanges them back. The name is never free in between, and in the usual case
//! only the stale marker is ever moved. Users of Locket exclude each other during a takeover by a
//! `flock` on the directory. A release takes it too, between checking and removing. If the file
//! system cannot exchange names, locks are only broken by hand.

use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io;
use std::time::Duration;

use rustix::fs::{AtFlags, FileType, renameat, unlinkat};
use rustix::io::Errno;

use super::dir_lock::{DirLock, MUCH_PATIENCE, PATIENCE};
use super::dirent::{self, EntryStat};
use super::owner_record::OwnerRecord;
use super::{Backend, ForeignHolder, Request};
use crate::Mode;
use crate::object::{Created, Location, LockObject, Marker};
use crate::sys::{self, TimedWait};

/// How a marker is created, read and removed.
pub(super) trait MarkerFormat: fmt::Debug + Send + Sync {
    /// What the marker's name adds to the name of the file. Empty if the lock is the file itself.
    fn suffix(&self) -> &'static str {
        ".lock"
    }

    /// Creates a marker under `name`. Fails with [`AlreadyExists`](io::ErrorKind::AlreadyExists) if
    /// the name is taken. On failure nothing is left.
    fn make(&self, dir: &File, name: &OsStr, claim: &OwnerRecord) -> io::Result<Created>;

    /// The owner record of the marker, if it has one.
    fn claim(&self, dir: &File, name: &OsStr, seen: &EntryStat) -> io::Result<Option<OwnerRecord>>;

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
    fn is_one(&self, kind: FileType) -> bool {
        kind == FileType::RegularFile
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
            Some(pin) => Ok(seen.is(&rustix::fs::fstat(pin)?)),
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
        let _ = (seen, created);
        Ok(unlinkat(dir, name, AtFlags::empty())?)
    }

    /// Removes what is left of a marker whose name was taken away.
    fn clean_up(&self, dir: &File, created: &Created) {
        let _ = (dir, created);
    }
}

/// Which holders may lose the lock.
#[derive(Clone, Copy)]
enum Takeover {
    /// One that is proven dead, or whose lock is at least that old.
    Stale(Option<Duration>),
    /// Any holder.
    Anybody,
}

impl<F: MarkerFormat> Backend for F {
    fn place(&self, file: &OsStr) -> io::Result<Location> {
        let mut name = file.to_owned();
        name.push(self.suffix());
        Ok(Location::Marker(name))
    }

    fn try_lock(&self, object: &LockObject, request: Request) -> io::Result<bool> {
        /// How often the marker may be gone by the time it is read.
        const TRIES: usize = 8;
        if request.mode == Mode::Shared {
            return Err(super::no_sharing());
        }
        let (dir, name) = parts(object)?;
        let claim = OwnerRecord::mine();
        let is_mine = |seen: &EntryStat| {
            let created = name.created();
            created.as_ref().map_or(Ok(false), |created| {
                self.is(dir, name.name(), seen, created)
            })
        };
        for _ in 0..TRIES {
            let created = match EntryStat::at(dir, name.name())? {
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
        let guard = DirLock::of(dir, PATIENCE).ok().flatten();
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
        if claim.as_ref().is_some_and(|claim| claim.is_dead(dir)) {
            return Ok(None);
        }
        Ok(Some(ForeignHolder {
            mode: Mode::Exclusive,
            host: claim.as_ref().and_then(OwnerRecord::host),
            pid: claim.map(|claim| claim.pid),
            since: seen.changed(),
        }))
    }

    fn holder_pid(&self, object: &LockObject) -> Option<u32> {
        let (dir, name) = parts(object).ok()?;
        let seen = EntryStat::at(dir, name.name()).ok()??;
        let one = self.is_one(seen.kind());
        let claim = one.then(|| self.claim(dir, name.name(), &seen).ok())??;
        claim.filter(OwnerRecord::is_here).map(|claim| claim.pid)
    }

    fn break_lock(&self, object: &LockObject, require_owner: bool) -> io::Result<bool> {
        let (dir, name) = parts(object)?;
        let Some(seen) = EntryStat::at(dir, name.name())? else {
            return Ok(false);
        };
        let claim = || -> io::Result<Option<OwnerRecord>> {
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
            Takeover::Anybody,
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
fn is_lock<F: MarkerFormat>(form: &F, kind: FileType) -> bool {
    let beside = !form.suffix().is_empty();
    form.is_one(kind)
        || kind == FileType::Symlink
        || beside && matches!(kind, FileType::RegularFile | FileType::Directory)
}

fn busy() -> io::Error {
    let busy = "another program has the directory locked; try again";
    io::Error::new(io::ErrorKind::ResourceBusy, busy)
}

fn not_a_lock() -> io::Error {
    let other = "the entry at the lock's name is not a lock";
    io::Error::new(io::ErrorKind::InvalidInput, other)
}

/// Whether an entry is nothing more than a lock, so that nothing else is removed with it.
fn is_no_more<F: MarkerFormat>(
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
enum TakeoverResult {
    Mine(Created),
    /// Its holder keeps it.
    Held,
    /// It may be taken, but another program has the directory locked.
    Busy,
    /// There is nothing to take any more.
    Gone,
}

/// Takes the lock that was `seen` away from its holder, and holds it.
fn take_over<F: MarkerFormat>(
    form: &F,
    dir: &File,
    name: &Marker,
    seen: &EntryStat,
    victim: Takeover,
    mine: &OwnerRecord,
) -> io::Result<TakeoverResult> {
    let name = name.name();
    let one = form.is_one(seen.kind());
    if let Takeover::Stale(age) = victim {
        let dead = || -> io::Result<bool> {
            let claim = form.claim(dir, name, seen)?;
            Ok(claim.is_some_and(|claim| claim.is_dead(dir)))
        };
        let old = || age.is_some_and(|age| seen.age() >= age);
        let stale = one && (dead()? || old()) && is_no_more(form, dir, name, seen)?;
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
        Takeover::Anybody => match DirLock::of(dir, MUCH_PATIENCE) {
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
                Takeover::Anybody => {
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
        if !OwnerRecord::of_own_name(&name).is_some_and(|claim| claim.is_dead(dir)) {
            continue;
        }
        if let Some(left) = EntryStat::at(dir, &name)? {
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

/// Whether the lock to remove was still there.
fn removed(clear: io::Result<()>) -> io::Result<bool> {
    match clear {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

/// Removes a lock of ours that another process may be breaking at this moment: checks it once more
/// after moving it aside. Returns `false` if it had been broken.
fn unlink_own<F: MarkerFormat>(
    form: &F,
    dir: &File,
    name: &OsStr,
    created: &Created,
) -> io::Result<bool> {
    let aside = OwnerRecord::mine().unique_name();
    match renameat(dir, name, dir, &aside) {
        Ok(()) => {}
        Err(Errno::NOENT) => return Ok(false),
        Err(e) => return Err(e.into()),
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

/// Removes a foreign lock of any format.
fn remove<F: MarkerFormat>(form: &F, dir: &File, name: &OsStr, seen: &EntryStat) -> io::Result<()> {
    match seen.kind() {
        kind if form.is_one(kind) => form.clear(dir, name, seen, None),
        FileType::Directory => dirent::remove_bare(dir, name),
        _ => Ok(unlinkat(dir, name, AtFlags::empty())?),
    }
}

fn parts(object: &LockObject) -> io::Result<(&File, &Marker)> {
    let name = object.as_marker().ok_or(io::ErrorKind::InvalidInput)?;
    Ok((&object.file, name))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::protocol::pid_file::PidFile;

    /// A directory with a lock of the first holder that the second has taken since.
    fn taken() -> (tempfile::TempDir, File, [Created; 2], EntryStat) {
        let folder = tempfile::tempdir().expect("a directory can be created");
        let dir = sys::open_dir(folder.path()).expect("the directory can be opened");
        let name = OsStr::new("lock");
        let make = || {
            PidFile
                .make(&dir, name, &OwnerRecord::mine())
                .expect("the name is free")
        };
        let first = make();
        let seen = EntryStat::at(&dir, name)
            .expect("the entry can be read")
            .expect("the lock exists");
        unlinkat(&dir, name, AtFlags::empty()).expect("the lock can be removed");
        let created = [first, make()];
        (folder, dir, created, seen)
    }

    fn is_there(dir: &File, created: &Created) -> bool {
        let seen = EntryStat::at(dir, OsStr::new("lock")).expect("the directory can be read");
        let others = dirent::names(dir).expect("the directory can be read");
        others.is_some_and(|others| others.len() == 1)
            && seen.is_some_and(|seen| {
                PidFile
                    .is(dir, OsStr::new("lock"), &seen, created)
                    .expect("the directory can be read")
            })
    }

    #[test]
    fn who_withdraws_too_late_puts_it_back() {
        let (_folder, dir, [first, second], _) = taken();
        let name = OsStr::new("lock");
        assert!(!unlink_own(&PidFile, &dir, name, &first).expect("the removal works"));
        assert!(is_there(&dir, &second));
        assert!(unlink_own(&PidFile, &dir, name, &second).expect("the removal works"));
        let names = dirent::names(&dir).expect("the directory can be read");
        assert_eq!(names, Some(Vec::new()));
    }

    #[test]
    fn who_breaks_too_late_leaves_it() {
        let (_folder, dir, [_, second], seen) = taken();
        let object = LockObject::marker(
            dir.try_clone().expect("the descriptor can be cloned"),
            "lock".into(),
            None,
        );
        let name = object.as_marker().expect("it is a marker");
        let mine = OwnerRecord::mine();
        let seized = take_over(&PidFile, &dir, name, &seen, Takeover::Anybody, &mine);
        assert!(matches!(seized, Ok(TakeoverResult::Gone)));
        assert!(is_there(&dir, &second));
    }

    /// A format whose lock another process breaks and takes right after the first check.
    #[derive(Debug, Default)]
    struct Broken(AtomicBool);

    impl MarkerFormat for Broken {
        fn suffix(&self) -> &'static str {
            PidFile.suffix()
        }

        fn make(&self, dir: &File, name: &OsStr, claim: &OwnerRecord) -> io::Result<Created> {
            PidFile.make(dir, name, claim)
        }

        fn claim(
            &self,
            dir: &File,
            name: &OsStr,
            seen: &EntryStat,
        ) -> io::Result<Option<OwnerRecord>> {
            PidFile.claim(dir, name, seen)
        }

        fn is(
            &self,
            dir: &File,
            name: &OsStr,
            seen: &EntryStat,
            created: &Created,
        ) -> io::Result<bool> {
            let is = PidFile.is(dir, name, seen, created);
            if !self.0.swap(true, Ordering::SeqCst) {
                unlinkat(dir, name, AtFlags::empty()).expect("the lock can be removed");
                PidFile
                    .make(dir, name, &OwnerRecord::mine())
                    .expect("the name is free");
            }
            is
        }
    }

    /// A release without the directory lock may check a lock that is broken meanwhile.
    #[test]
    fn a_release_without_the_guard_spares_the_next_one() {
        let folder = tempfile::tempdir().expect("a directory can be created");
        let dir = sys::open_dir(folder.path()).expect("the directory can be opened");
        let stranger = sys::open_dir(folder.path()).expect("the directory can be opened");
        fs4::FileExt::lock(&stranger).expect("the directory can be locked");
        let name = OsStr::new("lock");
        let created = PidFile
            .make(&dir, name, &OwnerRecord::mine())
            .expect("the name is free");
        let object = LockObject::marker(dir, name.into(), None);
        *object.as_marker().expect("it is a marker").created() = Some(created);
        Broken::default()
            .unlock(&object)
            .expect("the release works");
        let names = dirent::names(&object.file).expect("the directory can be read");
        assert_eq!(
            names,
            Some(vec![name.to_owned()]),
            "the next one's lock is gone"
        );
    }
}
