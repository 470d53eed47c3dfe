//! Locks that are a name: whoever makes the name holds the lock.
//!
//! What is made is complete from the moment it has the name, so that nobody sees it half-written;
//! it carries a [`OwnerRecord`] of who made it. Before anybody relies on it or removes it, it is compared
//! with what was made, by device and inode: others may have removed it and made their own.
//!
//! **Breaking.** A lock whose holder is dead must be broken by one and not by two, and never one
//! that somebody alive took in the meantime. There is no call that removes a name only if it
//! still is what one saw. So the breaker makes a lock of its own beside it, exchanges the two names
//! in one step, and then looks at what it got: if that is not what it had judged, it
//! exchanges them back. The name never stands empty, and in the usual case only the dead lock
//! is ever moved. Against each other, the users of Locket do it under a `flock` of the directory, and
//! so does a release, for the time between looking and removing. Where names cannot be
//! exchanged, nothing is broken unless by hand.

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

/// What is made to take a lock, and how it is read.
pub(super) trait MarkerFormat: fmt::Debug + Send + Sync {
    /// What the name of the file is followed by in that of its lock. Empty where the lock is the file
    /// itself.
    fn suffix(&self) -> &'static str {
        ".lock"
    }

    /// Makes a lock under `name`, which nothing has yet; fails with
    /// [`AlreadyExists`](io::ErrorKind::AlreadyExists) if something does. On failure nothing is left.
    fn make(&self, dir: &File, name: &OsStr, claim: &OwnerRecord) -> io::Result<Created>;

    /// Who made what has the name, as far as it says.
    fn claim(&self, dir: &File, name: &OsStr, seen: &EntryStat) -> io::Result<Option<OwnerRecord>>;

    /// Whether the lock is a file with a record of its holder in it, and not an empty one.
    fn has_content(&self) -> bool {
        false
    }

    /// Whether what says who made it is a lock beyond doubt.
    fn is_certain(&self) -> bool {
        true
    }

    /// Whether what has the name is a lock of this form.
    fn is_one(&self, kind: FileType) -> bool {
        kind == FileType::RegularFile
    }

    /// Whether `seen`, which has the name, is what was made. Fails where that is not known: it
    /// may be.
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

    /// Removes a lock of this form, and whatever else was made for it. `created` is there if this
    /// engine made it.
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

    /// Removes what is left where the name was taken away.
    fn clean_up(&self, dir: &File, created: &Created) {
        let _ = (dir, created);
    }
}

/// Whose lock may be taken.
#[derive(Clone, Copy)]
enum Takeover {
    /// Somebody proven dead, or whose lock is that old.
    Stale(Option<Duration>),
    /// Anybody.
    Anybody,
}

impl<F: MarkerFormat> Backend for F {
    fn place(&self, file: &OsStr) -> io::Result<Location> {
        let mut name = file.to_owned();
        name.push(self.suffix());
        Ok(Location::Marker(name))
    }

    fn try_lock(&self, object: &LockObject, request: Request) -> io::Result<bool> {
        /// How often it may be gone when one looks who has it.
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
        // What could not be removed is known to be ours the next time.
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
        // On failure nothing is known of it.
        let held = || held().unwrap_or(true);
        // Somebody who breaks it by mistake puts it back under the guard.
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
            let more = "what is there holds more than a lock; remove it by hand if nobody needs it";
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
            // Whoever was to lose it has.
            TakeoverResult::Gone => Ok(true),
            TakeoverResult::Held | TakeoverResult::Busy => Err(busy()),
        }
    }
}

/// Whether what has the name is a lock, of this form or of another that takes the same name.
fn is_lock<F: MarkerFormat>(form: &F, kind: FileType) -> bool {
    let beside = !form.suffix().is_empty();
    form.is_one(kind)
        || kind == FileType::Symlink
        || beside && matches!(kind, FileType::RegularFile | FileType::Directory)
}

fn busy() -> io::Error {
    let busy = "somebody else has the directory locked; try again";
    io::Error::new(io::ErrorKind::ResourceBusy, busy)
}

fn not_a_lock() -> io::Error {
    let other = "what has the name of the lock is none";
    io::Error::new(io::ErrorKind::InvalidInput, other)
}

/// Whether what has the name is no more than a lock, so that nothing else goes with it.
fn is_no_more<F: MarkerFormat>(
    form: &F,
    dir: &File,
    name: &OsStr,
    seen: &EntryStat,
) -> io::Result<bool> {
    match seen.kind() {
        FileType::RegularFile if seen.stat.st_size == 0 => Ok(true),
        FileType::RegularFile => Ok(form.has_content() && form.claim(dir, name, seen)?.is_some()),
        FileType::Symlink => Ok(sys::leads_nowhere(dir, name)),
        FileType::Directory => dirent::is_bare(dir, name),
        _ => Ok(false),
    }
}

/// What came of taking a lock from its holder.
enum TakeoverResult {
    Mine(Created),
    /// Its holder keeps it.
    Held,
    /// It is to be taken, but somebody else has the directory locked.
    Busy,
    /// There is nothing to take any more.
    Gone,
}

/// Takes the lock that was `seen` from its holder, and holds it.
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
            // Where there is no guard, nobody breaks a lock unless by hand.
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
        // Not possible there.
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
        // It is ours, whatever becomes of what is left of theirs. If somebody has just put something
        // into that, it stays under this name.
        let _ = remove(form, dir, &aside, seen);
        let _ = tidy(dir);
        return Ok(TakeoverResult::Mine(created));
    }
    // If what we put there is gone by now, there is nothing to exchange it with.
    if sys::exchange(dir, &aside, name).is_err() {
        sys::rename_new(dir, &aside, name)?;
    }
    undo()?;
    Ok(TakeoverResult::Gone)
}

/// Removes what breakers left beside the locks of a directory who died in the midst of it.
fn tidy(dir: &File) -> io::Result<()> {
    let mut linked = Vec::new();
    for name in dirent::names(dir)? {
        if !OwnerRecord::of_own_name(&name).is_some_and(|claim| claim.is_dead(dir)) {
            continue;
        }
        if let Some(left) = EntryStat::at(dir, &name)? {
            match left.kind() {
                // Somebody may have put more into it.
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
        // One with a name of another kind says who made that.
        if names == links {
            unlinkat(dir, name, AtFlags::empty())?;
        }
    }
    Ok(())
}

/// Whether a lock that was to be removed was still there.
fn removed(clear: io::Result<()>) -> io::Result<bool> {
    match clear {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

/// Removes a lock of ours where somebody might be breaking it at this moment: looks at it once
/// more when it has lost its name. Answers `false` if it had been broken.
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
            // Nobody is in the way of others by what is left of it.
            let _ = form.clear(dir, &aside, &seen, Some(created));
            Ok(true)
        }
        other => {
            // If somebody has taken its place, whoever made it learns that it is lost.
            let _ = sys::rename_new(dir, &aside, name);
            other.map(|_| false)
        }
    }
}

/// Removes somebody else's lock, of whatever form.
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

    /// A directory, and in it a lock of the first that the second has taken since.
    fn taken() -> (tempfile::TempDir, File, [Created; 2], EntryStat) {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = sys::open_dir(folder.path()).expect("a directory");
        let name = OsStr::new("lock");
        let make = || {
            PidFile
                .make(&dir, name, &OwnerRecord::mine())
                .expect("a lock")
        };
        let first = make();
        let seen = EntryStat::at(&dir, name).expect("a look").expect("a lock");
        unlinkat(&dir, name, AtFlags::empty()).expect("its end");
        let created = [first, make()];
        (folder, dir, created, seen)
    }

    fn is_there(dir: &File, created: &Created) -> bool {
        let seen = EntryStat::at(dir, OsStr::new("lock")).expect("a look");
        let others = dirent::names(dir).expect("a look");
        others.len() == 1
            && seen.is_some_and(|seen| {
                PidFile
                    .is(dir, OsStr::new("lock"), &seen, created)
                    .expect("a look")
            })
    }

    #[test]
    fn who_withdraws_too_late_puts_it_back() {
        let (_folder, dir, [first, second], _) = taken();
        let name = OsStr::new("lock");
        assert!(!unlink_own(&PidFile, &dir, name, &first).expect("an answer"));
        assert!(is_there(&dir, &second));
        assert!(unlink_own(&PidFile, &dir, name, &second).expect("an answer"));
        assert!(dirent::names(&dir).expect("a look").is_empty());
    }

    #[test]
    fn who_breaks_too_late_leaves_it() {
        let (_folder, dir, [_, second], seen) = taken();
        let object = LockObject::marker(dir.try_clone().expect("another"), "lock".into(), None);
        let name = object.as_marker().expect("a name");
        let mine = OwnerRecord::mine();
        let seized = take_over(&PidFile, &dir, name, &seen, Takeover::Anybody, &mine);
        assert!(matches!(seized, Ok(TakeoverResult::Gone)));
        assert!(is_there(&dir, &second));
    }

    /// A form whose lock is broken and taken by somebody else right after the first look at it.
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
                unlinkat(dir, name, AtFlags::empty()).expect("its end");
                PidFile
                    .make(dir, name, &OwnerRecord::mine())
                    .expect("a lock");
            }
            is
        }
    }

    /// Whoever releases without the guard may be looking at a lock that is broken meanwhile.
    #[test]
    fn a_release_without_the_guard_spares_the_next_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = sys::open_dir(folder.path()).expect("a directory");
        let stranger = sys::open_dir(folder.path()).expect("a directory");
        fs4::FileExt::lock(&stranger).expect("its lock");
        let name = OsStr::new("lock");
        let created = PidFile
            .make(&dir, name, &OwnerRecord::mine())
            .expect("a lock");
        let object = LockObject::marker(dir, name.into(), None);
        *object.as_marker().expect("a name").created() = Some(created);
        Broken::default().unlock(&object).expect("a release");
        let names = dirent::names(&object.file).expect("a look");
        assert_eq!(names, [name], "the next one's lock is gone");
    }
}
