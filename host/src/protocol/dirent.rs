//! What has a name in a directory: to look at it, make it, read it and remove it, without ever
//! following it to somewhere else.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, FileType, Mode as Permissions, OFlags, Stat, openat, statat, unlinkat};
use rustix::io::Errno;

use crate::object::Created;
use crate::sys;

/// What has a name, at a time.
#[derive(Debug)]
pub(super) struct EntryStat {
    pub(super) stat: Stat,
    /// Keeps its number from being given to another.
    _pin: Option<File>,
}

impl EntryStat {
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

    /// The number of the file in its file system.
    pub(super) fn number(&self) -> u64 {
        self.stat.st_ino
    }

    /// Whether that file system has a device of its own.
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
) -> io::Result<Created> {
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
    Ok(Created {
        token: OsString::new(),
        pin: Some(file),
    })
}

/// The content of a lock file, if it is no longer than any that a holder writes.
pub(super) fn read_file(dir: &File, name: &OsStr, seen: &EntryStat) -> io::Result<Option<Vec<u8>>> {
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
    names_if(dir, |_, _| true)
}

/// Those of them that `concerns` selects, by the name and the number that the directory gives for
/// the file.
pub(super) fn names_if(
    dir: &File,
    concerns: impl Fn(&OsStr, u64) -> bool,
) -> io::Result<Vec<OsString>> {
    const MOST: usize = 10_000;
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(dir)?.take(MOST) {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name != "." && name != ".." && concerns(name, entry.ino()) {
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
    Ok(bare(dir, name)?.is_some())
}

/// Removes a directory that has nothing in it, but possibly one empty file. Any other stays.
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
        // Something has been put into it since.
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(()),
        removed => Ok(removed?),
    }
}

/// A directory that has nothing in it, but possibly one empty file; and that.
fn bare(dir: &File, name: &OsStr) -> io::Result<Option<(File, Option<OsString>)>> {
    let Some(lock) = open(dir, name)? else {
        return Ok(None);
    };
    let file = match names(&lock)?.as_slice() {
        [] => None,
        [file] => Some(file.clone()),
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
