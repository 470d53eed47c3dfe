//! Opening a lock file, and checking that a path still leads to it.
//!
//! The rules, in this order, are the same for native paths and for those of guests:
//! - Open an existing file first, and create it only if it is missing: in a sticky directory the
//!   kernel may refuse `O_CREAT` on another user's file. Creation is exclusive, so it never follows
//!   a dangling symbolic link. If the file comes and goes meanwhile, open or create it in one step,
//!   without following links: two steps can miss a file that is removed and created in step with
//!   them, again and again.
//! - Open for writing only if the lock may need it, as an exclusive record lock does: a program
//!   file that is open for writing cannot be executed. If that is refused, open for reading.
//! - Never truncate. Never wait: a FIFO or a terminal must not block the caller.
//! - Regular files only.
//!
//! A path of a guest has three more rules, all enforced here: every system call resolves it beneath
//! its directory, files are created within a [`Quota`], and a file is removed only if it certainly
//! is a lock file and nothing else.

use std::ffi::OsStr;
#[cfg(feature = "sandbox")]
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
#[cfg(feature = "sandbox")]
use std::sync::Arc;

#[cfg(feature = "sandbox")]
use cap_std::fs::{Dir, MetadataExt as _};

use crate::Protocol;
use crate::object::{Location, LockObject, OpenLock};
use crate::sys::{self, NO_LINK, OPEN_FLAGS, OpenOptionsExt as _};

pub(crate) use crate::sys::{Identity, reopen};

/// Where a lock is: a path, and the directory that it starts from.
#[derive(Debug)]
pub(crate) struct LockPath {
    base: Base,
    /// The path of the lock file, or the directory of an existence lock.
    path: PathBuf,
    create: bool,
    /// Whether to open the file for writing at once.
    write: bool,
    place: Location,
    /// The database, if the lock is a row.
    database: PathBuf,
}

#[derive(Debug)]
enum Base {
    /// The file system as this process sees it; the path is absolute.
    Ambient,
    /// A granted directory; the path cannot lead out of it.
    #[cfg(feature = "sandbox")]
    Beneath(Granted),
}

/// A directory granted to a guest, and how many files the guest may create.
#[cfg(feature = "sandbox")]
#[derive(Clone, Debug)]
pub(crate) struct Granted {
    pub(crate) dir: Arc<Dir>,
    pub(crate) quota: Arc<dyn Quota>,
}

/// Limits the files that a guest creates.
#[cfg(feature = "sandbox")]
pub(crate) trait Quota: fmt::Debug + Send + Sync {
    /// Counts a file that is about to be created. Answers `false` if it counts already, and fails if
    /// it would be one too many.
    fn count(&self, dir: &Arc<Dir>, path: &Path) -> io::Result<bool>;

    /// Takes the count back: the file was not created.
    fn discount(&self, dir: &Arc<Dir>, path: &Path);
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Access {
    ReadWrite,
    Create,
    /// An existing file, otherwise a new one.
    OpenOrCreate,
    Read,
}

/// How often another process may create and remove the file meanwhile before the open fails.
pub(crate) const TRIES: usize = 64;

impl LockPath {
    /// A path of this process. It is made absolute, since the working directory may change.
    pub(crate) fn ambient(path: &Path, create: bool, write: bool) -> io::Result<Self> {
        let path = if path.is_absolute() {
            path.to_owned()
        } else {
            std::path::absolute(path)?
        };
        Ok(Self {
            base: Base::Ambient,
            path,
            create,
            write,
            place: Location::File,
            database: PathBuf::new(),
        })
    }

    /// A path beneath a directory.
    #[cfg(feature = "sandbox")]
    pub(crate) fn beneath(granted: Granted, path: PathBuf, create: bool, write: bool) -> Self {
        Self {
            base: Base::Beneath(granted),
            path,
            create,
            write,
            place: Location::File,
            database: PathBuf::new(),
        }
    }

    /// The lock of the same file in a protocol.
    pub(crate) fn kept_by(self, protocol: Protocol, database: Option<&Path>) -> io::Result<Self> {
        let backend = protocol.backend();
        let file = self.path.file_name().unwrap_or_default();
        let place = backend.place(file)?;
        if place == Location::File {
            return Ok(self);
        }
        if file.is_empty() {
            let directory = "the path names a directory, not a file in one";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, directory));
        }
        let database = match (&place, database) {
            #[cfg(all(unix, feature = "sqlite"))]
            (Location::Row(_), Some(database)) => crate::protocol::locate_database(database)?,
            (Location::Row(_), None) => {
                let missing = "no database is named for this protocol";
                return Err(io::Error::new(io::ErrorKind::Unsupported, missing));
            }
            _ => PathBuf::new(),
        };
        let mut path = self.path;
        path.pop();
        if path.as_os_str().is_empty() {
            path.push(".");
        }
        Ok(Self {
            path,
            place,
            database,
            ..self
        })
    }

    /// Opens the lock. Creates the file if it is missing and that is allowed.
    pub(crate) fn open(&self) -> io::Result<OpenLock> {
        self.open_or(self.create)
    }

    /// Opens the lock only if the file exists.
    pub(crate) fn open_existing(&self) -> io::Result<OpenLock> {
        self.open_or(false)
    }

    /// Opens the file for writing, if that is allowed, after it was opened for reading.
    pub(crate) fn open_for_writing(&self) -> io::Result<OpenLock> {
        self.open_file(self.create, true)
    }

    fn open_or(&self, create: bool) -> io::Result<OpenLock> {
        match &self.place {
            Location::File => self.open_file(create, self.write),
            Location::Marker(name) => {
                let dir = self.open_dir()?;
                self.refuse_reserved(&dir, name)?;
                let identity = Identity::of(&dir, &dir.metadata()?)?;
                Ok(OpenLock {
                    identity,
                    network: identity.is_network(&dir),
                    object: LockObject::marker(dir, name.clone(), None),
                })
            }
            #[cfg(all(unix, feature = "sqlite"))]
            Location::Row(name) => {
                let key = sys::path_of(&self.open_dir()?)?.join(name);
                crate::protocol::open_row(&self.database, key, create)
            }
            #[cfg(not(all(unix, feature = "sqlite")))]
            Location::Row(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    fn open_dir(&self) -> io::Result<File> {
        match &self.base {
            Base::Ambient => sys::open_dir(&self.path),
            #[cfg(feature = "sandbox")]
            Base::Beneath(Granted { dir, .. }) => {
                // The descriptor only serves to resolve paths.
                let dir = dir.open_dir(&self.path).map_err(escape)?;
                sys::read_dir(dir.into_std_file())
            }
        }
    }

    fn open_file(&self, create: bool, write: bool) -> io::Result<OpenLock> {
        use io::ErrorKind as E;
        let first = if write {
            Access::ReadWrite
        } else {
            Access::Read
        };
        let mut access = first;
        let mut tries = 0..TRIES;
        let mut raced = false;
        let file = loop {
            match self.open_with(access) {
                Ok(file) => break file,
                Err(e) if tries.next().is_none() => return Err(e),
                Err(e) => {
                    let known = e.raw_os_error().and_then(sys::kind_of);
                    let known = known.unwrap_or_else(|| e.kind());
                    access = match (access, known) {
                        // Windows has no such step that does not follow links.
                        (_, E::NotFound) if access == first && raced && cfg!(unix) => {
                            Access::OpenOrCreate
                        }
                        (_, E::NotFound) if access == first && create => Access::Create,
                        (Access::Create, E::AlreadyExists) => {
                            raced = true;
                            first
                        }
                        // The path is a symbolic link.
                        (Access::OpenOrCreate, E::InvalidInput) => first,
                        // The directory's permissions, or another user's file.
                        (Access::OpenOrCreate, E::PermissionDenied) => Access::Create,
                        (Access::ReadWrite, E::PermissionDenied) => Access::Read,
                        (Access::ReadWrite, E::ReadOnlyFilesystem) => Access::Read,
                        (Access::ReadWrite, E::ExecutableFileBusy) => Access::Read,
                        (_, E::Interrupted) => access,
                        _ => return Err(e),
                    }
                }
            }
        };
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(E::InvalidInput, "not a regular file"));
        }
        let writable = access != Access::Read;
        let identity = Identity::of(&file, &metadata)?;
        let network = identity.is_network(&file);
        // On a network file system, every exclusive lock needs to write.
        if network && first == Access::Read && !writable {
            return self.open_file(create, true);
        }
        Ok(OpenLock {
            identity,
            network,
            object: LockObject::file(file, writable),
        })
    }

    fn open_with(&self, access: Access) -> io::Result<File> {
        let write = !matches!(access, Access::Read);
        let create = matches!(access, Access::Create);
        let either = matches!(access, Access::OpenOrCreate);
        let flags = if either {
            OPEN_FLAGS | NO_LINK
        } else {
            OPEN_FLAGS
        };
        match &self.base {
            Base::Ambient => OpenOptions::new()
                .read(true)
                .write(write)
                .create_new(create)
                .create(either)
                .truncate(false)
                .custom_flags(flags)
                .open(&self.path),
            #[cfg(feature = "sandbox")]
            Base::Beneath(granted) => {
                let Granted { dir, quota } = granted;
                let mut options = cap_std::fs::OpenOptions::new();
                options
                    .read(true)
                    .write(write)
                    .create_new(create)
                    .create(either);
                cap_std::fs::OpenOptionsExt::custom_flags(&mut options, flags);
                let file = if create || either {
                    // In the directory that was checked: another one may take its name meanwhile.
                    let parent = granted.parent(&self.path)?;
                    let name = self.path.file_name().unwrap_or_default();
                    self.refuse_reserved(&parent, name)?;
                    let counted = quota.count(dir, &self.path)?;
                    let created = Dir::from_std_file(parent).open_with(name, &options);
                    created.inspect_err(|_| {
                        if counted {
                            quota.discount(dir, &self.path);
                        }
                    })
                } else {
                    dir.open_with(&self.path, &options)
                };
                let file = file.map_err(escape);
                file.map(cap_std::fs::File::into_std)
            }
        }
    }

    /// Refuses to create a file for a guest that other programs would take for a part of an
    /// existence lock.
    #[cfg_attr(
        not(feature = "sandbox"),
        expect(clippy::unnecessary_wraps, clippy::unused_self, reason = "guests only")
    )]
    fn refuse_reserved(&self, dir: &File, name: &OsStr) -> io::Result<()> {
        #[cfg(feature = "sandbox")]
        if let Base::Beneath(_) = &self.base
            && crate::protocol::is_reserved(dir, name)
        {
            let reserved = "the name is reserved for existence locks";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, reserved));
        }
        let _ = (dir, name);
        Ok(())
    }

    /// Whether the path still leads to the object with `identity`.
    pub(crate) fn is(&self, identity: Identity) -> io::Result<bool> {
        if let Location::Row(_) = self.place {
            return Ok(Identity::at(&self.database, false)? == Some(identity));
        }
        let found = match &self.base {
            Base::Ambient => Identity::at(&self.path, true)?,
            #[cfg(feature = "sandbox")]
            Base::Beneath(granted) => granted.identity(&self.path)?,
        };
        Ok(found == Some(identity))
    }

    /// Removes the file if the path is the name of `identity`, and not a link to it. A guest's file
    /// is removed only if it is empty and has no other name, since then it is nothing but a lock
    /// file.
    pub(crate) fn remove(&self, identity: Identity) -> io::Result<()> {
        match &self.base {
            Base::Ambient => sys::remove(&self.path, identity),
            #[cfg(feature = "sandbox")]
            Base::Beneath(granted) => granted.remove(&self.path, identity),
        }
    }

    /// Whether only a holder that excludes the users of both lock families may remove the file.
    pub(crate) fn is_guests(&self) -> bool {
        match &self.base {
            Base::Ambient => false,
            #[cfg(feature = "sandbox")]
            Base::Beneath(_) => true,
        }
    }
}

#[cfg(feature = "sandbox")]
impl Granted {
    /// The directory that contains the last component of a path.
    fn parent(&self, path: &Path) -> io::Result<File> {
        let parent = path.parent().filter(|parent| *parent != Path::new(""));
        let parent = parent.unwrap_or(Path::new("."));
        let dir = self.dir.open_dir(parent).map_err(escape)?;
        Ok(dir.into_std_file())
    }

    /// The identity of what a path leads to; `None` if nothing is there. Nothing outside of the
    /// directory is looked at: to the guest, nothing exists there.
    fn identity(&self, path: &Path) -> io::Result<Option<Identity>> {
        // First without following a link, which takes a single call for most paths.
        let found = match self.dir.symlink_metadata(path) {
            Ok(metadata) if metadata.is_symlink() => self.dir.metadata(path),
            found => found,
        };
        match found {
            Ok(metadata) => Ok(Some(Identity::new(metadata.dev(), metadata.ino()))),
            Err(e) if is_escape(&e) => Ok(None),
            Err(e) => match e.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Ok(None),
                _ => Err(e),
            },
        }
    }

    fn remove(&self, path: &Path, identity: Identity) -> io::Result<()> {
        let name = path.file_name().unwrap_or_default();
        // Opened once, so that it cannot be exchanged between the check and the removal.
        let dir = match self.parent(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            dir => dir?,
        };
        if crate::protocol::is_reserved(&dir, name) {
            return Ok(());
        }
        sys::remove_empty(&dir, name, identity)
    }
}

/// A path that leads out of its directory is an invalid path, not a matter of permissions. Only the
/// resolver refuses without an error number.
#[cfg(feature = "sandbox")]
fn escape(error: io::Error) -> io::Error {
    if is_escape(&error) {
        return io::Error::new(io::ErrorKind::InvalidInput, error);
    }
    error
}

#[cfg(feature = "sandbox")]
fn is_escape(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied && error.raw_os_error().is_none()
}
