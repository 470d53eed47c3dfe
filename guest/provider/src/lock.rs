//! Existence locks: the guest that creates the directory entry holds the lock.
//!
//! Creating an entry fails if its name is taken. That holds for exclusive creation, hard links,
//! symbolic links and directories, and it is the only guarantee about entries that WASI's file
//! systems give. Everything here relies on it. No call removes an entry only if it has not changed,
//! so we check an entry immediately before we remove it.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::time::Duration;

use wasip2::filesystem::types::{
    Descriptor, DescriptorFlags, DescriptorType, ErrorCode, MetadataHashValue, NewTimestamp,
    OpenFlags, PathFlags,
};

use crate::bindings::api::{Error, Grant, LostReason, OnRelease, Options, Protocol, State};
use crate::owner_record::{LONGEST_RECORD, Mark};
use crate::path::Place;
use crate::time;

/// The kind of entry that is created to acquire a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// The file itself, which contains a record.
    Soft,
    /// A hard link beside the file, to another file that names the holder.
    Link,
    /// A symbolic link beside the file, whose target names the holder.
    Symlink,
    /// A directory beside the file, which contains a file that names the holder.
    Mkdir,
}

impl Form {
    /// The form of a protocol. `on_release` has no effect: a release always removes the entry,
    /// because otherwise the lock would still be held.
    pub(crate) fn of(options: &Options) -> Result<Self, Error> {
        let (OnRelease::Keep | OnRelease::Remove) = options.on_release;
        match options.protocol {
            None | Some(Protocol::Link) => Ok(Self::Link),
            Some(Protocol::Soft) => Ok(Self::Soft),
            Some(Protocol::Symlink) => Ok(Self::Symlink),
            Some(Protocol::Mkdir) => Ok(Self::Mkdir),
            // A guest has no process identifier, and a program that reads one from the file may
            // kill that process.
            Some(Protocol::PidFile) => Err(Error::NotSupported),
            Some(Protocol::Native | Protocol::Flock | Protocol::Fcntl | Protocol::Sqlite) => {
                Err(Error::NotSupported)
            }
        }
    }

    /// Whether an entry of type `kind` is a lock of this form, or of another form that uses the
    /// same name.
    fn takes(self, kind: DescriptorType) -> bool {
        match kind {
            DescriptorType::RegularFile | DescriptorType::SymbolicLink => true,
            DescriptorType::Directory => self != Self::Soft,
            _ => false,
        }
    }
}

/// The lock of one file, shared by all handles to it.
#[derive(Debug)]
pub(crate) struct Lock {
    /// The directory to which all paths are relative. It is a preopened directory, not one opened
    /// beneath it, because hosts differ in what they allow to change from such a directory.
    root: Descriptor,
    directory: String,
    /// The name of the lock entry in that directory.
    name: String,
    form: Form,
    stale_after: Option<Duration>,
    hold: RefCell<Option<Hold>>,
}

/// The hold of this instance on a lock.
#[derive(Debug)]
struct Hold {
    mark: Mark,
    /// The handle that acquired it.
    handle: u64,
    /// When the modification time of the entry was last updated, on the monotonic clock.
    refreshed: Cell<u64>,
    lost: Cell<bool>,
}

/// An entry that has the name of a lock.
struct Seen {
    kind: DescriptorType,
    /// The mark of its creator, if that is a guest with this provider.
    mark: Option<Mark>,
    /// When it was last modified, since the epoch.
    changed: Option<Duration>,
}

/// The result of one attempt.
pub(crate) enum Attempt {
    Granted,
    /// This instance itself holds the lock.
    HeldByUs,
    HeldByAnother,
}

impl Lock {
    /// Creates the lock of a file beneath `root`, which is not held yet.
    pub(crate) fn new(
        root: Descriptor,
        place: Place<'_>,
        form: Form,
        stale_after: Option<Duration>,
    ) -> Result<Self, Error> {
        let suffix = if form == Form::Soft { "" } else { ".lock" };
        let lock = Self {
            root,
            name: format!("{}{suffix}", place.name),
            directory: place.directory,
            form,
            stale_after,
            hold: RefCell::default(),
        };
        let directory = lock
            .root
            .stat_at(PathFlags::SYMLINK_FOLLOW, &lock.directory);
        match directory.map_err(crate::error::of_directory)?.type_ {
            DescriptorType::Directory => {}
            _ => return Err(Error::NoEntry),
        }
        // Fail now if no entry can have this name.
        lock.look()?;
        Ok(lock)
    }

    /// The path of the lock entry.
    fn path(&self) -> String {
        self.beside(&self.name)
    }

    /// The path of another entry in the same directory.
    fn beside(&self, name: &str) -> String {
        format!("{}/{name}", self.directory)
    }

    /// Whether both are the lock of the same file. Compares directories by their current hashes,
    /// because WASI allows the hash of a directory to change over time.
    pub(crate) fn is(&self, other: &Self) -> bool {
        let hash = |lock: &Self| -> Option<(u64, u64)> {
            let follow = PathFlags::SYMLINK_FOLLOW;
            let hash = lock.root.metadata_hash_at(follow, &lock.directory);
            let MetadataHashValue { lower, upper } = hash.ok()?;
            Some((lower, upper))
        };
        self.form == other.form
            && self.name == other.name
            && hash(self).is_some_and(|mine| Some(mine) == hash(other))
    }

    /// Acquires the lock if it is free or stale. `ours` identifies the marks of this instance.
    pub(crate) fn attempt(
        &self,
        handle: u64,
        mark: Mark,
        ours: impl Fn(&Mark) -> bool,
    ) -> Result<Attempt, Error> {
        if let Some(seen) = self.look()? {
            if !self.form.takes(seen.kind) {
                return Err(Error::InvalidPath);
            }
            if seen.mark.as_ref().is_some_and(ours) {
                return Ok(Attempt::HeldByUs);
            }
            if !(self.is_stale(&seen) && self.break_stale(seen)?) {
                return Ok(Attempt::HeldByAnother);
            }
        }
        match self.make(&mark) {
            Ok(()) => {}
            Err(ErrorCode::Exist) => return Ok(Attempt::HeldByAnother),
            Err(e) => return Err(e.into()),
        }
        let hold = Hold {
            mark,
            handle,
            refreshed: Cell::new(time::monotonic()),
            lost: Cell::new(false),
        };
        if let Some(lost) = self.hold.replace(Some(hold)) {
            self.forsake(&lost.mark);
        }
        Ok(Attempt::Granted)
    }

    /// Releases the hold of this instance.
    pub(crate) fn release(&self) -> Result<(), Error> {
        let Some(mark) = self.mark() else {
            return Err(match self.look()? {
                Some(seen) if self.form.takes(seen.kind) => Error::NotOwner,
                _ => Error::NotLocked,
            });
        };
        let kept = match self.look()? {
            Some(seen) if seen.mark.as_ref() == Some(&mark) => {
                self.remove(seen.kind, &mark)?;
                true
            }
            _ => {
                self.forsake(&mark);
                false
            }
        };
        *self.hold.borrow_mut() = None;
        match kept {
            true => Ok(()),
            false => Err(Error::Lost(LostReason::Broken)),
        }
    }

    /// Like [`release`](Self::release), but only if `handle` acquired the lock.
    pub(crate) fn release_of(&self, handle: u64) {
        let is_its = |hold: &Hold| hold.handle == handle;
        if self.hold.borrow().as_ref().is_some_and(is_its) {
            let _ = self.release();
        }
    }

    /// The current holder, if there is one, and its mark if it has one.
    pub(crate) fn holder(&self) -> Result<Option<Option<Mark>>, Error> {
        match self.look()? {
            Some(seen) if !self.form.takes(seen.kind) => Err(Error::InvalidPath),
            seen => Ok(seen.map(|seen| seen.mark)),
        }
    }

    /// The mark of the hold of this instance, including a hold that it has lost but not released.
    pub(crate) fn mark(&self) -> Option<Mark> {
        self.hold.borrow().as_ref().map(|hold| hold.mark.clone())
    }

    pub(crate) fn stale_after(&self) -> Option<Duration> {
        self.stale_after
    }

    /// A grant that is valid for the given time.
    pub(crate) fn grant(&self, valid_for: Option<Duration>) -> Grant {
        Grant {
            token: None,
            valid_for: valid_for.map(time::millis),
        }
    }

    /// The state of the hold, without access to the file system.
    pub(crate) fn state(&self) -> State {
        match &*self.hold.borrow() {
            None => State::Unlocked,
            Some(hold) if hold.lost.get() => State::Lost(LostReason::Broken),
            Some(hold) => {
                let age = hold.age();
                match self.stale_after.map(|most| most.saturating_sub(age)) {
                    // Another guest may have taken the lock over since then.
                    Some(Duration::ZERO) => State::Uncertain(0),
                    left => State::Held(self.grant(left)),
                }
            }
        }
    }

    /// Shows a sign of life, unless the last one is recent.
    pub(crate) fn refresh(&self) {
        /// A fraction of the shortest possible time after which a lock counts as stale.
        const INTERVAL: Duration = Duration::from_millis(300);
        let hold = self.hold.borrow();
        let Some(hold) = hold.as_ref().filter(|hold| hold.age() >= INTERVAL) else {
            return;
        };
        // If the entry cannot be read, leave the state unchanged.
        let Ok(seen) = self.look() else { return };
        let kept = seen.is_some_and(|seen| seen.mark.as_ref() == Some(&hold.mark));
        hold.lost.set(!kept);
        let (flags, now) = (PathFlags::empty(), NewTimestamp::Now);
        if kept
            && self
                .root
                .set_times_at(flags, &self.path(), now, now)
                .is_ok()
        {
            hold.refreshed.set(time::monotonic());
        }
    }

    /// The entry that currently has the name of the lock.
    fn look(&self) -> Result<Option<Seen>, ErrorCode> {
        let stat = match self.root.stat_at(PathFlags::empty(), &self.path()) {
            Ok(stat) => stat,
            Err(ErrorCode::NoEntry) => return Ok(None),
            Err(e) => return Err(e),
        };
        let mark = match stat.type_ {
            DescriptorType::RegularFile => self.read().and_then(|record| Mark::of_record(&record)),
            DescriptorType::SymbolicLink => {
                let target = self.root.readlink_at(&self.path());
                target.ok().and_then(|target| Mark::of_name(&target))
            }
            DescriptorType::Directory => self.only_entry().and_then(|name| Mark::of_name(&name)),
            _ => None,
        };
        Ok(Some(Seen {
            kind: stat.type_,
            mark,
            changed: stat.data_modification_timestamp.map(time::of_wall),
        }))
    }

    /// The content of the lock file, if it can be read, up to the longest length of a record.
    fn read(&self) -> Option<Vec<u8>> {
        let (read, none) = (DescriptorFlags::READ, OpenFlags::empty());
        let file = self
            .root
            .open_at(PathFlags::empty(), &self.path(), none, read);
        let (content, _) = file.ok()?.read(LONGEST_RECORD, 0).ok()?;
        Some(content)
    }

    /// The name of the only entry in the lock directory. `None` if it has no entry or several.
    fn only_entry(&self) -> Option<String> {
        let (read, directory) = (DescriptorFlags::READ, OpenFlags::DIRECTORY);
        let lock = self
            .root
            .open_at(PathFlags::empty(), &self.path(), directory, read)
            .ok()?;
        let entries = lock.read_directory().ok()?;
        let entry = entries.read_directory_entry().ok()??;
        let others = entries.read_directory_entry().ok()?;
        others.is_none().then_some(entry.name)
    }

    /// Creates the lock entry. It names the holder as soon as it exists, except for a directory,
    /// which is empty for a moment. On failure, nothing is left behind.
    fn make(&self, mark: &Mark) -> Result<(), ErrorCode> {
        let (lock, own) = (self.path(), self.beside(&mark.name()));
        match self.form {
            Form::Symlink => self.root.symlink_at(&mark.name(), &lock),
            Form::Mkdir => {
                self.root.create_directory_at(&lock)?;
                self.create(&self.within(mark), &[]).inspect_err(|_| {
                    let _ = self.root.remove_directory_at(&lock);
                })
            }
            Form::Link | Form::Soft => {
                self.create(&own, mark.record().as_bytes())?;
                let none = PathFlags::empty();
                let made = match self.root.link_at(none, &own, &self.root, &lock) {
                    // On a network file system, the call may succeed although its reply is lost.
                    Err(_) if self.read().as_deref() == Some(mark.record().as_bytes()) => Ok(()),
                    // The cause is not the permissions, because the file could be created.
                    Err(ErrorCode::NotPermitted) => Err(ErrorCode::Unsupported),
                    made => made,
                };
                if made.is_err() || self.form == Form::Soft {
                    let _ = self.root.unlink_file_at(&own);
                }
                made
            }
        }
    }

    /// The path of the file that names the holder, in a lock directory.
    fn within(&self, mark: &Mark) -> String {
        format!("{}/{}", self.path(), mark.name())
    }

    /// Creates a new file. Fails if it exists.
    fn create(&self, path: &str, content: &[u8]) -> Result<(), ErrorCode> {
        let new = OpenFlags::CREATE | OpenFlags::EXCLUSIVE;
        let (none, write) = (PathFlags::empty(), DescriptorFlags::WRITE);
        let file = self.root.open_at(none, path, new, write)?;
        let written = match content.len() as u64 {
            0 => Ok(0),
            _ => file.write(content, 0),
        };
        let whole = written.and_then(|length| match length == content.len() as u64 {
            true => Ok(()),
            false => Err(ErrorCode::Io),
        });
        whole.inspect_err(|_| {
            let _ = self.root.unlink_file_at(path);
        })
    }

    /// Removes the lock that a guest created, and then the other file that it created for the lock.
    /// If this guest dies in between, the remaining file is harmless.
    fn remove(&self, kind: DescriptorType, mark: &Mark) -> Result<(), ErrorCode> {
        if kind == DescriptorType::Directory {
            self.root.unlink_file_at(&self.within(mark))?;
            return self.root.remove_directory_at(&self.path());
        }
        self.root.unlink_file_at(&self.path())?;
        self.forsake(mark);
        Ok(())
    }

    /// Removes the remaining file of a hold whose lock entry has been removed.
    fn forsake(&self, mark: &Mark) {
        if self.form == Form::Link {
            let _ = self.root.unlink_file_at(&self.beside(&mark.name()));
        }
    }

    /// Whether the creator is a guest that has shown no sign of life for the configured time.
    fn is_stale(&self, seen: &Seen) -> bool {
        let (Some(most), Some(changed)) = (self.stale_after, seen.changed) else {
            return false;
        };
        seen.mark.is_some() && time::wall().saturating_sub(changed) >= most
    }

    /// Removes a stale lock. Returns `false` if another guest is removing or has removed it.
    ///
    /// Two guests may judge the same hold stale. Then the second must not remove the lock that the
    /// first has meanwhile acquired. So a guest that breaks a hold first creates a file named after
    /// that hold, and then checks the lock again. A later guest finds either that file or another
    /// hold.
    fn break_stale(&self, seen: Seen) -> Result<bool, ErrorCode> {
        let Some(mark) = seen.mark else {
            return Ok(false);
        };
        let turn = self.beside(&format!("{}.stale", mark.name()));
        match self.create(&turn, &[]) {
            Ok(()) => {}
            Err(ErrorCode::Exist) => return Ok(false),
            Err(e) => return Err(e),
        }
        let broken = self.look().and_then(|seen| match seen {
            Some(seen) if seen.mark.as_ref() == Some(&mark) && self.is_stale(&seen) => {
                self.remove(seen.kind, &mark).map(|()| true)
            }
            _ => Ok(false),
        });
        let _ = self.root.unlink_file_at(&turn);
        broken
    }
}

impl Hold {
    fn age(&self) -> Duration {
        Duration::from_nanos(time::monotonic().saturating_sub(self.refreshed.get()))
    }
}
