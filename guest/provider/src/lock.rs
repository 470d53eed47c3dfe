//! Locks that are a name: whoever makes the name holds the lock.
//!
//! That nobody makes what is already there is the one thing that WASI's file systems promise of
//! names, with exclusive creation, hard links, symbolic links and directories alike. Everything
//! here rests on it. There is no call that removes a name only if it still is what one saw; so
//! a name is looked at right before it is removed.

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
use crate::mark::{LONGEST_RECORD, Mark};
use crate::path::Place;
use crate::time;

/// What is made to take a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// The file itself, with a record in it.
    Soft,
    /// A hard link beside the file, to another that names the holder.
    Link,
    /// A symbolic link beside the file, that leads to the name of the holder.
    Symlink,
    /// A directory beside the file, with a file in it that names the holder.
    Mkdir,
}

impl Form {
    /// That of a protocol. What the options say of the lock file after the release changes nothing:
    /// it is gone, or the lock would not be free.
    pub(crate) fn of(options: &Options) -> Result<Self, Error> {
        let (OnRelease::Keep | OnRelease::Remove) = options.on_release;
        match options.protocol {
            None | Some(Protocol::Link) => Ok(Self::Link),
            Some(Protocol::Soft) => Ok(Self::Soft),
            Some(Protocol::Symlink) => Ok(Self::Symlink),
            Some(Protocol::Mkdir) => Ok(Self::Mkdir),
            // Not that one either: a guest has no process identifier, and whoever reads one takes
            // it at its word, and may kill that process.
            Some(Protocol::PidFile) => Err(Error::NotSupported),
            Some(Protocol::Native | Protocol::Flock | Protocol::Fcntl | Protocol::Sqlite) => {
                Err(Error::NotSupported)
            }
        }
    }

    /// Whether something of that type is a lock of this form, or of another that takes the
    /// same name.
    fn takes(self, kind: DescriptorType) -> bool {
        match kind {
            DescriptorType::RegularFile | DescriptorType::SymbolicLink => true,
            DescriptorType::Directory => self != Self::Soft,
            _ => false,
        }
    }
}

/// The lock of one file, for all the handles on it.
#[derive(Debug)]
pub(crate) struct Lock {
    /// What everything here is relative to. It is a directory that the host opened, and not one
    /// opened beneath that: from such a one, hosts differ in what may be changed.
    root: Descriptor,
    directory: String,
    /// The name that is the lock, in that directory.
    name: String,
    form: Form,
    stale_after: Option<Duration>,
    hold: RefCell<Option<Hold>>,
}

/// What an instance holds of a lock.
#[derive(Debug)]
struct Hold {
    mark: Mark,
    /// The handle that acquired it.
    handle: u64,
    /// When the name was last made younger, on the monotonic clock.
    refreshed: Cell<u64>,
    lost: Cell<bool>,
}

/// What has the name of a lock.
struct Seen {
    kind: DescriptorType,
    /// Who made it, if that was a guest like this.
    mark: Option<Mark>,
    /// When it was last changed, since the epoch.
    changed: Option<Duration>,
}

/// What came of one attempt.
pub(crate) enum Attempt {
    Granted,
    /// By this instance itself.
    HeldByUs,
    HeldByAnother,
}

impl Lock {
    /// The lock of a file beneath `root`; holds nothing.
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
        // So that a name that nothing can have fails now.
        lock.look()?;
        Ok(lock)
    }

    /// The path of the name that is the lock.
    fn path(&self) -> String {
        self.beside(&self.name)
    }

    /// The path of another name in the same directory.
    fn beside(&self, name: &str) -> String {
        format!("{}/{name}", self.directory)
    }

    /// Whether it is the lock of the same file. Directories are compared by hashes of this moment,
    /// since WASI lets the one that a directory had earlier differ.
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

    /// Takes the lock if it is free, or left behind; `ours` tells the marks of this instance.
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

    /// Gives up what this instance holds of the lock.
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

    /// As [`release`](Self::release), if that handle acquired it.
    pub(crate) fn release_of(&self, handle: u64) {
        let is_its = |hold: &Hold| hold.handle == handle;
        if self.hold.borrow().as_ref().is_some_and(is_its) {
            let _ = self.release();
        }
    }

    /// Who holds it now, if anybody does.
    pub(crate) fn holder(&self) -> Result<Option<Option<Mark>>, Error> {
        match self.look()? {
            Some(seen) if !self.form.takes(seen.kind) => Err(Error::InvalidPath),
            seen => Ok(seen.map(|seen| seen.mark)),
        }
    }

    /// The mark of what this instance holds, or has lost without a release.
    pub(crate) fn mark(&self) -> Option<Mark> {
        self.hold.borrow().as_ref().map(|hold| hold.mark.clone())
    }

    pub(crate) fn stale_after(&self) -> Option<Duration> {
        self.stale_after
    }

    /// What is granted for so long.
    pub(crate) fn grant(&self, valid_for: Option<Duration>) -> Grant {
        Grant {
            token: None,
            valid_for: valid_for.map(time::millis),
        }
    }

    /// What is known of the hold without a look at the file system.
    pub(crate) fn state(&self) -> State {
        match &*self.hold.borrow() {
            None => State::Unlocked,
            Some(hold) if hold.lost.get() => State::Lost(LostReason::Broken),
            Some(hold) => {
                let age = hold.age();
                match self.stale_after.map(|most| most.saturating_sub(age)) {
                    // Others may have taken it away since then.
                    Some(Duration::ZERO) => State::Uncertain(0),
                    left => State::Held(self.grant(left)),
                }
            }
        }
    }

    /// Shows that the holder lives, unless it did so a moment ago.
    pub(crate) fn refresh(&self) {
        /// A fraction of what anybody sets as the time after which a lock counts as left behind.
        const INTERVAL: Duration = Duration::from_millis(300);
        let hold = self.hold.borrow();
        let Some(hold) = hold.as_ref().filter(|hold| hold.age() >= INTERVAL) else {
            return;
        };
        // Where it cannot be read, nothing is known.
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

    /// What has the name now.
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

    /// The content of the file of that name, if it is short and can be read.
    fn read(&self) -> Option<Vec<u8>> {
        let (read, none) = (DescriptorFlags::READ, OpenFlags::empty());
        let file = self
            .root
            .open_at(PathFlags::empty(), &self.path(), none, read);
        let (content, _) = file.ok()?.read(LONGEST_RECORD, 0).ok()?;
        Some(content)
    }

    /// The name in the directory of that name, if there is one and no other.
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

    /// Makes the lock, which says who holds it from the moment it has its name; but for a
    /// directory, which is empty for a moment. On failure nothing is left.
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
                    // Over a network the answer to what was done can get lost.
                    Err(_) if self.read().as_deref() == Some(mark.record().as_bytes()) => Ok(()),
                    // It is not the permissions: the file could be made.
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

    /// The path of the file that names the holder, in a lock that is a directory.
    fn within(&self, mark: &Mark) -> String {
        format!("{}/{}", self.path(), mark.name())
    }

    /// Makes a file that is not there yet.
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

    /// Removes the lock that a guest made, and what else it made for it. The lock first: what is
    /// left if this ends in between is in nobody's way.
    fn remove(&self, kind: DescriptorType, mark: &Mark) -> Result<(), ErrorCode> {
        if kind == DescriptorType::Directory {
            self.root.unlink_file_at(&self.within(mark))?;
            return self.root.remove_directory_at(&self.path());
        }
        self.root.unlink_file_at(&self.path())?;
        self.forsake(mark);
        Ok(())
    }

    /// Removes what is left of a hold whose name was taken away.
    fn forsake(&self, mark: &Mark) {
        if self.form == Form::Link {
            let _ = self.root.unlink_file_at(&self.beside(&mark.name()));
        }
    }

    /// Whether a guest made it that gave no sign of life for so long.
    fn is_stale(&self, seen: &Seen) -> bool {
        let (Some(most), Some(changed)) = (self.stale_after, seen.changed) else {
            return false;
        };
        seen.mark.is_some() && time::wall().saturating_sub(changed) >= most
    }

    /// Takes a lock away that was left behind; false where somebody else is about to, or did.
    ///
    /// Two who judged the same hold must not remove two locks, the second of which is that of the
    /// first. So who breaks a hold makes a file first that is named after it, and then looks again:
    /// whoever comes later finds either the file or another hold.
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
