//! Opening a lock file, and telling whether it is still the one.
//!
//! The rules, in this order, are the same for native paths and for those of guests:
//! - Open what is there first, and create only what is not: in a sticky directory the kernel may
//!   refuse `O_CREAT` on a file of somebody else's. Creation is exclusive, so it never follows a
//!   dangling symbolic link to wherever that leads. Where the file comes and goes meanwhile, both
//!   in one step, and no link at all: two steps can miss a file that is removed and created in
//!   step with them for as long as that goes on.
//! - For writing only if the lock may need it, as an exclusive record lock does: a program that is
//!   open for writing cannot be executed. If that is refused, for reading.
//! - Never truncate. Never wait: a FIFO or a terminal must not block the caller.
//! - Regular files only.
//!
//! A path of a guest has more rules, all of them here: it is resolved beneath its directory by every
//! system call, files are created within a [`Quota`], and only what is certainly a lock file and
//! nothing else is removed.

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
    /// That of the lock file, or else of the directory in which the lock is a name.
    path: PathBuf,
    create: bool,
    /// Whether to open the file for writing at once.
    write: bool,
    place: Location,
    /// The one in which the lock is a row.
    database: PathBuf,
}

#[derive(Debug)]
enum Base {
    /// The file system as this process sees it; the path is absolute.
    Ambient,
    /// A granted directory; the path leads nowhere but beneath it.
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
    /// Counts a file that is about to be created. Fails if it would be one too many.
    fn count(&self, dir: &Arc<Dir>, path: &Path) -> io::Result<()>;

    /// Takes that back: the file was not created.
    fn discount(&self, dir: &Arc<Dir>, path: &Path);
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Access {
    ReadWrite,
    Create,
    /// What is there, or else a new file.
    OpenOrCreate,
    Read,
}

/// How often another process may create and remove the file under our hands before we give up.
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
            let directory = "a directory, not a file in one";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, directory));
        }
        let database = match (&place, database) {
            #[cfg(all(unix, feature = "sqlite"))]
            (Location::Row(_), Some(database)) => crate::protocol::locate_database(database)?,
            (Location::Row(_), None) => {
                let missing = "no database is named for it";
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

    /// Opens the lock; creates the file where it is missing and may be.
    pub(crate) fn open(&self) -> io::Result<OpenLock> {
        self.open_or(self.create)
    }

    /// Opens the lock only if the file is there.
    pub(crate) fn open_existing(&self) -> io::Result<OpenLock> {
        self.open_or(false)
    }

    /// Opens the file for writing, if that is allowed, though it was opened for reading before.
    pub(crate) fn open_for_writing(&self) -> io::Result<OpenLock> {
        self.open_file(self.create, true)
    }

    fn open_or(&self, create: bool) -> io::Result<OpenLock> {
        match &self.place {
            Location::File => self.open_file(create, self.write),
            Location::Marker(name) => {
                let dir = self.open_dir()?;
                self.refuse_reserved(Some(&dir), name)?;
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
                // Good for resolution, and for nothing that needs more than a path.
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
                        // Windows knows no such step that does not follow links.
                        (_, E::NotFound) if access == first && raced && cfg!(unix) => {
                            Access::OpenOrCreate
                        }
                        (_, E::NotFound) if access == first && create => Access::Create,
                        (Access::Create, E::AlreadyExists) => {
                            raced = true;
                            first
                        }
                        // A link.
                        (Access::OpenOrCreate, E::InvalidInput) => first,
                        // The directory's permissions, or a file of somebody else's.
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
        // There every exclusive lock needs it.
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
            Base::Beneath(Granted { dir, quota }) => {
                let mut options = cap_std::fs::OpenOptions::new();
                options
                    .read(true)
                    .write(write)
                    .create_new(create)
                    .create(either);
                cap_std::fs::OpenOptionsExt::custom_flags(&mut options, flags);
                let open = || dir.open_with(&self.path, &options).map_err(escape);
                let file = if create || either {
                    self.refuse_reserved(None, self.path.file_name().unwrap_or_default())?;
                    quota.count(dir, &self.path)?;
                    open().inspect_err(|_| quota.discount(dir, &self.path))
                } else {
                    open()
                };
                file.map(cap_std::fs::File::into_std)
            }
        }
    }

    /// Refuses to make for a guest what others would take for a part of an existence lock. `dir` is
    /// the directory of the name, if it is open.
    #[cfg_attr(
        not(feature = "sandbox"),
        expect(clippy::unnecessary_wraps, clippy::unused_self, reason = "guests only")
    )]
    fn refuse_reserved(&self, dir: Option<&File>, name: &OsStr) -> io::Result<()> {
        #[cfg(feature = "sandbox")]
        if let Base::Beneath(granted) = &self.base {
            let open_lock;
            let dir = match dir {
                Some(dir) => dir,
                None => {
                    open_lock = granted.parent(&self.path)?;
                    &open_lock
                }
            };
            if crate::protocol::is_reserved(dir, name) {
                let reserved = "the name belongs to existence locks";
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, reserved));
            }
        }
        let _ = (dir, name);
        Ok(())
    }

    /// Whether the path still leads to what `identity` is that of.
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

    /// Removes the file if the path is the name of `identity`, and not a link to it. A guest's is
    /// removed only if it is empty and has no other name: then it is a lock file and nothing else.
    pub(crate) fn remove(&self, identity: Identity) -> io::Result<()> {
        match &self.base {
            Base::Ambient => sys::remove(&self.path, identity),
            #[cfg(feature = "sandbox")]
            Base::Beneath(granted) => granted.remove(&self.path, identity),
        }
    }

    /// Whether the file is removed only by a holder that excludes the users of both lock families.
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
    /// The directory in which the last part of a path is a name.
    fn parent(&self, path: &Path) -> io::Result<File> {
        let parent = path.parent().filter(|parent| *parent != Path::new(""));
        let parent = parent.unwrap_or(Path::new("."));
        let dir = self.dir.open_dir(parent).map_err(escape)?;
        Ok(dir.into_std_file())
    }

    /// The identity of what a path leads to; none if nothing is there. What lies outside of the
    /// directory is not looked at: to the guest, nothing is there.
    fn identity(&self, path: &Path) -> io::Result<Option<Identity>> {
        // Without following a link first, which takes a single call for most paths.
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
        // Opened once, so that nobody can exchange it between the look and the removal.
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

/// A path that leads out of its directory is a mistake in the path, and says nothing about
/// permissions. Nobody but the resolver refuses without an error number.
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
