//! Directory entries: how to inspect, create, read and remove them without following links.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::time::{Duration, SystemTime};

use super::owner_record::OwnerRecord;
use super::promise;
use crate::object::Created;
use crate::sys::{self, EntryFacts, EntryKind, Identity};

/// The entry of a name, as it was at one moment.
#[derive(Debug)]
pub(super) struct EntryStat {
    facts: EntryFacts,
    /// Keeps its inode number from being reused.
    _pin: Option<File>,
}

impl EntryStat {
    /// The entry, without following links.
    pub(super) fn at(dir: &File, name: &OsStr) -> io::Result<Option<Self>> {
        let pin = match sys::pin(dir, name) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
            Ok(pin) => pin,
        };
        let facts = match &pin {
            Some(pin) => Some(sys::entry_of(pin)?),
            None => sys::entry_at(dir, name)?,
        };
        Ok(facts.map(|facts| Self { facts, _pin: pin }))
    }

    /// The same without a descriptor, of which none may be left. Compare it only with an open file,
    /// which keeps its own number from being reused.
    pub(super) fn glance(dir: &File, name: &OsStr) -> io::Result<Option<Self>> {
        let facts = sys::entry_at(dir, name)?;
        Ok(facts.map(|facts| Self { facts, _pin: None }))
    }

    pub(super) fn identity(&self) -> Identity {
        self.facts.identity
    }

    pub(super) fn is(&self, other: Identity) -> bool {
        self.facts.identity == other
    }

    /// Whether it still has the name.
    pub(super) fn is_at(&self, dir: &File, name: &OsStr) -> bool {
        let now = sys::entry_at(dir, name).ok().flatten();
        now.is_some_and(|now| self.is(now.identity))
    }

    pub(super) fn kind(&self) -> EntryKind {
        self.facts.kind
    }

    /// In bytes.
    pub(super) fn size(&self) -> u64 {
        self.facts.size
    }

    /// How many names it has.
    pub(super) fn links(&self) -> u64 {
        self.facts.links
    }

    /// When it was last changed.
    pub(super) fn changed(&self) -> Option<SystemTime> {
        let (seconds, nanos) = self.facts.modified;
        let since = Duration::new(u64::try_from(seconds).ok()?, nanos);
        SystemTime::UNIX_EPOCH.checked_add(since)
    }

    /// Which version of which inode it is.
    pub(super) fn moment(&self) -> Moment {
        Moment {
            inode: self.facts.identity,
            content: self.facts.modified,
            change: self.facts.changed,
        }
    }

    pub(super) fn age(&self) -> Duration {
        let age = self.changed().and_then(|changed| changed.elapsed().ok());
        age.unwrap_or_default()
    }
}

/// A version of an inode. The system changes it with each link, attribute, name within, and byte.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Moment {
    inode: Identity,
    content: (i64, u32),
    change: (i64, u32),
}

impl Moment {
    /// Whether the last change was that long ago, by the clock of this host.
    pub(super) fn is_older_than(&self, age: Duration) -> bool {
        let (seconds, nanos) = self.change;
        let changed = u64::try_from(seconds).map(|seconds| Duration::new(seconds, nanos));
        let changed = changed.map(|changed| SystemTime::UNIX_EPOCH + changed);
        changed.is_ok_and(|at| at.elapsed().is_ok_and(|elapsed| elapsed > age))
    }
}

/// Creates a file with content, complete from the moment it has its name.
pub(super) fn make_file(
    dir: &File,
    name: &OsStr,
    content: &[u8],
    permissions: u32,
    claim: &OwnerRecord,
) -> io::Result<Created> {
    let file = match promise::make_file(dir, name, content, permissions, claim)? {
        Some(file) => file,
        // Not possible there: create the file, then write it, as the peers do.
        None => {
            let mut file = sys::create_file(dir, name, permissions)?;
            if let Err(e) = file.write_all(content) {
                let _ = sys::unlink(dir, name, None);
                return Err(e);
            }
            file
        }
    };
    Ok(Created {
        token: OsString::new(),
        pin: Some(file),
        life: None,
    })
}

/// Opens the file that was `seen`, for reading. `None` if it is gone, or not readable for us.
pub(super) fn open_file(dir: &File, name: &OsStr, seen: &EntryStat) -> io::Result<Option<File>> {
    let file = sys::open_file(dir, name)?;
    let same = |file: &File| sys::entry_of(file).is_ok_and(|facts| seen.is(facts.identity));
    Ok(file.filter(same))
}

/// The content of a lock file, unless it is longer than any that a holder writes.
pub(super) fn read_file(file: &File) -> io::Result<Option<Vec<u8>>> {
    const LONGEST: u64 = 1024;
    let mut content = Vec::new();
    file.take(LONGEST + 1).read_to_end(&mut content)?;
    Ok((content.len() as u64 <= LONGEST).then_some(content))
}

/// The names in a directory. `None` if there are too many to look through: a program that fills a
/// directory must not hold up the engine, and nothing can be proven about a lock in it.
pub(super) fn names(dir: &File) -> io::Result<Option<Vec<OsString>>> {
    names_if(dir, |_, _| true)
}

/// The names that `concerns` selects, by the name and the inode number in the directory.
pub(super) fn names_if(
    dir: &File,
    concerns: impl Fn(&OsStr, u64) -> bool,
) -> io::Result<Option<Vec<OsString>>> {
    const MOST: usize = 10_000;
    let (mut names, mut count) = (Vec::new(), 0);
    sys::each_name(dir, |name, number| {
        count += 1;
        if concerns(name, number) {
            names.push(name.to_owned());
        }
        count <= MOST
    })?;
    Ok((count <= MOST).then_some(names))
}

/// Whether a directory contains nothing, or one empty file.
pub(super) fn is_bare(dir: &File, name: &OsStr) -> io::Result<bool> {
    Ok(bare(dir, name)?.is_some())
}

/// Removes a directory that contains nothing, or one empty file. Leaves any other alone.
pub(super) fn remove_bare(dir: &File, name: &OsStr) -> io::Result<()> {
    let Some((lock, file)) = bare(dir, name)? else {
        return Ok(());
    };
    if let Some(file) = file {
        match sys::unlink(&lock, &file, None) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
    drop(lock);
    // It stays if it has been filled since.
    sys::remove_dir(dir, name).map(drop)
}

/// A directory that contains nothing, or one empty file; and the name of that file.
fn bare(dir: &File, name: &OsStr) -> io::Result<Option<(File, Option<OsString>)>> {
    let Some(lock) = sys::open_subdir(dir, name)? else {
        return Ok(None);
    };
    let file = match names(&lock)?.as_deref() {
        Some([]) => None,
        Some([file]) => Some(file.clone()),
        _ => return Ok(None),
    };
    if let Some(file) = &file {
        let found = sys::entry_at(&lock, file)?;
        let is_empty = found.is_none_or(|found| found.kind == EntryKind::File && found.size == 0);
        if !is_empty {
            return Ok(None);
        }
    }
    Ok(Some((lock, file)))
}
