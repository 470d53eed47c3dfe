//! What has a name in a directory: to look at it, make it, read it and remove it, without ever
//! following it to somewhere else.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, FileType, Mode as Permissions, OFlags, Stat, openat, statat, unlinkat};
use rustix::io::Errno;

use crate::site::Made;
use crate::sys;

/// What has a name, at a time.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) stat: Stat,
    /// Keeps its number from being given to another.
    _pin: Option<File>,
}

impl Seen {
    /// What has the name, without following it.
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

    /// The same, to be compared with what is open here, and so keeps its number anyway. It takes
    /// no descriptor, of which there may be none left.
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

    pub(super) fn age(&self) -> Duration {
        let age = self.changed().and_then(|changed| changed.elapsed().ok());
        age.unwrap_or_default()
    }
}

/// Makes a file with a content, complete from the moment it has its name.
pub(super) fn make_file(
    dir: &File,
    name: &OsStr,
    content: &[u8],
    permissions: u32,
) -> io::Result<Made> {
    let permissions = Permissions::from_raw_mode(permissions as _);
    let file = match sys::nameless_file(dir, permissions) {
        Ok(mut file) => {
            file.write_all(content)?;
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
        // Not possible there: made and then written, as the peers do.
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
    Ok(Made {
        mark: OsString::new(),
        pin: Some(file),
    })
}

/// The content of a lock file, if it is no longer than any that a holder writes.
pub(super) fn read_file(dir: &File, name: &OsStr, seen: &Seen) -> io::Result<Option<Vec<u8>>> {
    const LONGEST: u64 = 1024;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match openat(dir, name, flags, Permissions::empty()) {
        Ok(file) => File::from(file),
        // Gone, or not for us to read: it says nothing.
        Err(Errno::NOENT | Errno::LOOP | Errno::ACCESS | Errno::PERM | Errno::NXIO) => {
            return Ok(None);
        }
        Err(e) => return Err(e.into()),
    };
    if !rustix::fs::fstat(&file).is_ok_and(|stat| seen.is(&stat)) {
        return Ok(None);
    }
    let mut content = Vec::new();
    file.take(LONGEST + 1).read_to_end(&mut content)?;
    Ok((content.len() as u64 <= LONGEST).then_some(content))
}

/// The names in a directory, or as many of them as are worth reading. Whoever fills it must not hold
/// up the engine; so of a lock in such a directory there is nothing to be proven.
pub(super) fn names(dir: &File) -> io::Result<Vec<OsString>> {
    const MOST: usize = 10_000;
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(dir)?.take(MOST) {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name != "." && name != ".." {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// Opens a directory in a directory; none if it is gone, or something else.
pub(super) fn open(dir: &File, name: &OsStr) -> io::Result<Option<File>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(dir, name, flags, Permissions::empty()) {
        Ok(lock) => Ok(Some(File::from(lock))),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::ACCESS) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Whether a directory has nothing in it, but possibly one empty file.
pub(super) fn is_bare(dir: &File, name: &OsStr) -> io::Result<bool> {
    let Some(lock) = open(dir, name)? else {
        return Ok(false);
    };
    Ok(match names(&lock)?.as_slice() {
        [] => true,
        [file] => statat(&lock, file, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|stat| {
            FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && stat.st_size == 0
        }),
        _ => false,
    })
}

/// Removes a directory and the files in it, and never a directory in that.
pub(super) fn remove_all(dir: &File, name: &OsStr) -> io::Result<()> {
    if let Some(lock) = open(dir, name)? {
        for file in names(&lock)? {
            match unlinkat(&lock, &file, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
    Ok(unlinkat(dir, name, AtFlags::REMOVEDIR)?)
}
