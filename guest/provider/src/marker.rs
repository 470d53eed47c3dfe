//! The directory entry that is a lock.
//!
//! Creating an entry fails if its name is taken. That holds for exclusive creation, hard links,
//! symbolic links and directories, and it is the only guarantee about entries that WASI's file
//! systems give. The locks rely on it alone.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use wasip2::filesystem::types::{
    Descriptor, DescriptorFlags, DescriptorType, ErrorCode, MetadataHashValue, NewTimestamp,
    OpenFlags, PathFlags,
};

use crate::bindings::api::Error;
use crate::format::MarkerFormat;
use crate::owner_record::{LONGEST_RECORD, OwnerRecord};
use crate::path::Place;
use crate::time;

/// The place of a lock entry, which may exist or not.
#[derive(Debug)]
pub(crate) struct Marker {
    /// The directory to which all paths are relative. It is a preopened directory, not one opened
    /// beneath it, because hosts differ in what they allow to change from such a directory.
    root: Descriptor,
    directory: String,
    /// The name of the lock entry in that directory.
    name: String,
    format: MarkerFormat,
}

/// An entry that exists and has the name of a lock.
pub(crate) struct MarkerStat {
    pub(crate) kind: DescriptorType,
    /// The record of its creator, if that is a guest with this provider.
    pub(crate) owner: Option<OwnerRecord>,
    /// When it was last modified, since the epoch.
    pub(crate) changed: Option<Duration>,
}

impl Marker {
    /// The entry for the lock of a file beneath `root`.
    pub(crate) fn new(
        root: Descriptor,
        place: Place<'_>,
        format: MarkerFormat,
    ) -> Result<Self, Error> {
        let suffix = if format == MarkerFormat::Soft {
            ""
        } else {
            ".lock"
        };
        let marker = Self {
            root,
            name: format!("{}{suffix}", place.name),
            directory: place.directory,
            format,
        };
        let directory = marker
            .root
            .stat_at(PathFlags::SYMLINK_FOLLOW, &marker.directory);
        match directory.map_err(crate::error::of_directory)?.type_ {
            DescriptorType::Directory => {}
            _ => return Err(Error::NoEntry),
        }
        // Fail now if no entry can have this name.
        marker.stat()?;
        Ok(marker)
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
        let hash = |marker: &Self| -> Option<(u64, u64)> {
            let follow = PathFlags::SYMLINK_FOLLOW;
            let hash = marker.root.metadata_hash_at(follow, &marker.directory);
            let MetadataHashValue { lower, upper } = hash.ok()?;
            Some((lower, upper))
        };
        self.format == other.format
            && self.name == other.name
            && hash(self).is_some_and(|mine| Some(mine) == hash(other))
    }

    pub(crate) fn format(&self) -> MarkerFormat {
        self.format
    }

    /// The entry that currently has the name of the lock.
    pub(crate) fn stat(&self) -> Result<Option<MarkerStat>, ErrorCode> {
        let stat = match self.root.stat_at(PathFlags::empty(), &self.path()) {
            Ok(stat) => stat,
            Err(ErrorCode::NoEntry) => return Ok(None),
            Err(e) => return Err(e),
        };
        let owner = match stat.type_ {
            DescriptorType::RegularFile => self
                .read()
                .and_then(|record| OwnerRecord::from_content(&record)),
            DescriptorType::SymbolicLink => {
                let target = self.root.readlink_at(&self.path());
                target
                    .ok()
                    .and_then(|target| OwnerRecord::from_name(&target))
            }
            DescriptorType::Directory => self
                .only_entry()
                .and_then(|name| OwnerRecord::from_name(&name)),
            _ => None,
        };
        Ok(Some(MarkerStat {
            kind: stat.type_,
            owner,
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
    pub(crate) fn create(&self, owner: &OwnerRecord) -> Result<(), ErrorCode> {
        let (lock, own) = (self.path(), self.beside(&owner.name()));
        match self.format {
            MarkerFormat::Symlink => self.root.symlink_at(&owner.name(), &lock),
            MarkerFormat::Mkdir => {
                self.root.create_directory_at(&lock)?;
                self.create_file(&self.within(owner), &[]).inspect_err(|_| {
                    let _ = self.root.remove_directory_at(&lock);
                })
            }
            MarkerFormat::Link | MarkerFormat::Soft => {
                self.create_file(&own, owner.content().as_bytes())?;
                let none = PathFlags::empty();
                let made = match self.root.link_at(none, &own, &self.root, &lock) {
                    // On a network file system, the call may succeed although its reply is lost.
                    Err(_) if self.read().as_deref() == Some(owner.content().as_bytes()) => Ok(()),
                    // The cause is not the permissions, because the file could be created.
                    Err(ErrorCode::NotPermitted) => Err(ErrorCode::Unsupported),
                    made => made,
                };
                if made.is_err() || self.format == MarkerFormat::Soft {
                    let _ = self.root.unlink_file_at(&own);
                }
                made
            }
        }
    }

    /// The path of the file that names the holder, in a lock directory.
    fn within(&self, owner: &OwnerRecord) -> String {
        format!("{}/{}", self.path(), owner.name())
    }

    /// Creates a new file. Fails if it exists.
    fn create_file(&self, path: &str, content: &[u8]) -> Result<(), ErrorCode> {
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
    pub(crate) fn remove(
        &self,
        kind: DescriptorType,
        owner: &OwnerRecord,
    ) -> Result<(), ErrorCode> {
        if kind == DescriptorType::Directory {
            self.root.unlink_file_at(&self.within(owner))?;
            return self.root.remove_directory_at(&self.path());
        }
        self.root.unlink_file_at(&self.path())?;
        self.clean_up(owner);
        Ok(())
    }

    /// Removes the remaining file of a hold whose lock entry has been removed.
    pub(crate) fn clean_up(&self, owner: &OwnerRecord) {
        if self.format == MarkerFormat::Link {
            let _ = self.root.unlink_file_at(&self.beside(&owner.name()));
        }
    }

    /// Updates the modification time of the entry. Returns whether that succeeded.
    pub(crate) fn touch(&self) -> bool {
        let (flags, now) = (PathFlags::empty(), NewTimestamp::Now);
        self.root
            .set_times_at(flags, &self.path(), now, now)
            .is_ok()
    }

    /// Creates a file, named after a hold, that gives the right to remove the lock of that hold.
    /// Fails if it exists.
    pub(crate) fn begin_removal(&self, owner: &OwnerRecord) -> Result<(), ErrorCode> {
        self.create_file(&self.removal(owner), &[])
    }

    /// Removes the file that [`begin_removal`](Self::begin_removal) created.
    pub(crate) fn end_removal(&self, owner: &OwnerRecord) {
        let _ = self.root.unlink_file_at(&self.removal(owner));
    }

    fn removal(&self, owner: &OwnerRecord) -> String {
        self.beside(&format!("{}.stale", owner.name()))
    }
}
