//! Directory entries: how to inspect, create, read and remove them without following links.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, FileType, Mode as Permissions, OFlags, Stat, openat, statat, unlinkat};
use rustix::io::Errno;

use super::owner_record::OwnerRecord;
use super::promise;
use crate::object::Created;
use crate::sys;

/// The entry of a name, as it was at one moment.
#[derive(Debug)]
pub(super) struct EntryStat {
    pub(super) stat: Stat,
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
        let stat = match &pin {
            Some(pin) => rustix::fs::fstat(pin),
            None => statat(dir, name, AtFlags::SYMLINK_NOFOLLOW),
        };
        match stat {
            Ok(stat) => Ok(Some(Self { stat, _pin: pin })),
            Err(Errno::NOENT) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// The same without a descriptor, of which none may be left. Compare it only with an open file,
    /// which keeps its own number from being reused.
    pub(super) fn glance(dir: &File, name: &OsStr) -> io::Result<Option<Self>> {
        match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(Self { stat, _pin: None })),
            Err(Errno::NOENT) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    pub(super) fn is(&self, other: &Stat) -> bool {
        (self.stat.st_dev, self.stat.st_ino) == (other.st_dev, other.st_ino)
    }

    /// Whether it still has the name.
    pub(super) fn is_at(&self, dir: &File, name: &OsStr) -> bool {
        let now = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW);
        now.is_ok_and(|now| self.is(&now))
    }

    /// The inode number.
    pub(super) fn number(&self) -> u64 {
        self.stat.st_ino
    }

    /// Whether the file system is on a device of its own.
    pub(super) fn is_on_device(&self) -> bool {
        #[allow(
            clippy::unnecessary_cast,
            clippy::cast_sign_loss,
            reason = "of other widths on other systems"
        )]
        let device = self.stat.st_dev as u64;
        cfg!(target_os = "linux") && rustix::fs::major(device as _) != 0
    }

    pub(super) fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }

    /// When it was last changed.
    pub(super) fn changed(&self) -> Option<SystemTime> {
        #[allow(clippy::unnecessary_cast, reason = "of other widths on other systems")]
        let (seconds, nanos) = (self.stat.st_mtime as i64, self.stat.st_mtime_nsec as u32);
        let since = Duration::new(u64::try_from(seconds).ok()?, nanos);
        SystemTime::UNIX_EPOCH.checked_add(since)
    }

    /// Which version of which inode it is.
    pub(super) fn moment(&self) -> Moment {
        let Stat {
            st_dev,
            st_ino,
            st_mtime,
            st_mtime_nsec,
            st_ctime,
            st_ctime_nsec,
            ..
        } = self.stat;
        #[allow(
            clippy::unnecessary_cast,
            clippy::cast_sign_loss,
            reason = "of other widths on other systems"
        )]
        Moment {
            inode: (st_dev as u64, st_ino),
            content: (st_mtime as i64, st_mtime_nsec as u32),
            change: (st_ctime as i64, st_ctime_nsec as u32),
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
    inode: (u64, u64),
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
    let permissions = Permissions::from_raw_mode(permissions as _);
    let file = match sys::nameless_file(dir, permissions) {
        Ok(mut file) => {
            file.write_all(content)?;
            promise::attach(&file, claim);
            match sys::give_name(&file, dir, name) {
                Ok(()) => Some(file),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Err(e),
                Err(_) => None,
            }
        }
        Err(_) => None,
    };
    let file = match file {
        Some(file) => file,
        // Not possible there: create the file, then write it, as the peers do.
        None => {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            let mut file = File::from(openat(dir, name, flags, permissions)?);
            if let Err(e) = file.write_all(content) {
                let _ = unlinkat(dir, name, AtFlags::empty());
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
    let file = open_any_file(dir, name)?;
    let same = |file: &File| rustix::fs::fstat(file).is_ok_and(|stat| seen.is(&stat));
    Ok(file.filter(same))
}

/// Opens the file that has the name now.
pub(super) fn open_any_file(dir: &File, name: &OsStr) -> io::Result<Option<File>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match openat(dir, name, flags, Permissions::empty()) {
        Ok(file) => Ok(Some(file.into())),
        Err(Errno::NOENT | Errno::LOOP | Errno::ACCESS | Errno::PERM | Errno::NXIO) => Ok(None),
        Err(e) => Err(e.into()),
    }
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
    let mut names = Vec::new();
    for (number, entry) in rustix::fs::Dir::read_from(dir)?.enumerate() {
        if number == MOST {
            return Ok(None);
        }
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name != "." && name != ".." && concerns(name, entry.ino()) {
            names.push(name.to_owned());
        }
    }
    Ok(Some(names))
}

/// Opens a directory in a directory. `None` if it is gone, or not a directory.
pub(super) fn open(dir: &File, name: &OsStr) -> io::Result<Option<File>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(dir, name, flags, Permissions::empty()) {
        Ok(lock) => Ok(Some(File::from(lock))),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::ACCESS) => Ok(None),
        Err(e) => Err(e.into()),
    }
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
        match unlinkat(&lock, &file, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(e) => return Err(e.into()),
        }
    }
    match unlinkat(dir, name, AtFlags::REMOVEDIR) {
        // It has been filled since.
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(()),
        removed => Ok(removed?),
    }
}

/// A directory that contains nothing, or one empty file; and the name of that file.
fn bare(dir: &File, name: &OsStr) -> io::Result<Option<(File, Option<OsString>)>> {
    let Some(lock) = open(dir, name)? else {
        return Ok(None);
    };
    let file = match names(&lock)?.as_deref() {
        Some([]) => None,
        Some([file]) => Some(file.clone()),
        _ => return Ok(None),
    };
    if let Some(file) = &file {
        let is_empty = match statat(&lock, file, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => {
                let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
                regular && stat.st_size == 0
            }
            Err(Errno::NOENT) => true,
            Err(e) => return Err(e.into()),
        };
        if !is_empty {
            return Ok(None);
        }
    }
    Ok(Some((lock, file)))
}
