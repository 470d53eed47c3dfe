//! Opening a lock file, and telling whether it is still the one.
//!
//! The rules, in this order, are the same for native paths and for those of guests:
//! - Open what is there first, and create only what is not: in a sticky directory the kernel may
//!   refuse `O_CREAT` on a file of somebody else's. Creation is exclusive, so it never follows a
//!   dangling symbolic link to wherever that leads. Where the file comes and goes meanwhile, both
//!   in one step, and no link at all: two steps can miss a file that is removed and created in
//!   step with them for as long as that goes on.
//! - For writing if possible, since an exclusive record lock needs that; else for reading.
//! - Never truncate. Never wait: a FIFO or a terminal must not block the caller.
//! - Regular files only.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use crate::Protocol;
use crate::site::{Opened, Place, Site};
use crate::sys::{self, NO_LINK, OPEN_FLAGS, OpenOptionsExt as _};

pub(crate) use crate::sys::{Identity, reopen};

/// Where a lock is: a path, and the directory that it starts from.
#[derive(Debug)]
pub(crate) struct Target {
    base: Base,
    /// That of the lock file, or else of the directory in which the lock is a name.
    path: PathBuf,
    create: bool,
    place: Place,
    /// The one in which the lock is a row.
    database: PathBuf,
}

#[derive(Debug)]
enum Base {
    /// The file system as this process sees it; the path is absolute.
    Ambient,
    /// A granted directory; the path leads nowhere but beneath it.
    #[cfg(feature = "sandbox")]
    Beneath(std::sync::Arc<cap_std::fs::Dir>),
}

#[derive(Clone, Copy)]
enum Access {
    ReadWrite,
    Create,
    /// What is there, or else a new file.
    OpenOrCreate,
    Read,
}

/// How often another process may create and remove the file under our hands before we give up.
pub(crate) const TRIES: usize = 64;

impl Target {
    /// A path of this process. It is made absolute, since the working directory may change.
    pub(crate) fn ambient(path: &Path, create: bool) -> io::Result<Self> {
        let path = if path.is_absolute() {
            path.to_owned()
        } else {
            std::path::absolute(path)?
        };
        Ok(Self {
            base: Base::Ambient,
            path,
            create,
            place: Place::File,
            database: PathBuf::new(),
        })
    }

    /// A path beneath a directory.
    #[cfg(feature = "sandbox")]
    pub(crate) fn beneath(
        dir: std::sync::Arc<cap_std::fs::Dir>,
        path: PathBuf,
        create: bool,
    ) -> Self {
        Self {
            base: Base::Beneath(dir),
            path,
            create,
            place: Place::File,
            database: PathBuf::new(),
        }
    }

    /// The lock of the same file in a protocol.
    pub(crate) fn kept_by(self, protocol: Protocol, database: Option<&Path>) -> io::Result<Self> {
        let scheme = protocol.scheme();
        let file = self.path.file_name().unwrap_or_default();
        let place = scheme.place(file)?;
        if place == Place::File {
            return Ok(self);
        }
        if file.is_empty() {
            let directory = "a directory, not a file in one";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, directory));
        }
        let database = match (&place, database) {
            (Place::Row(_), Some(database)) => std::path::absolute(database)?,
            (Place::Row(_), None) => {
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
    pub(crate) fn open(&self) -> io::Result<Opened> {
        self.open_or(self.create)
    }

    /// Opens the lock only if the file is there.
    pub(crate) fn open_existing(&self) -> io::Result<Opened> {
        self.open_or(false)
    }

    fn open_or(&self, create: bool) -> io::Result<Opened> {
        match &self.place {
            Place::File => self.open_file(create),
            Place::Name(name) => {
                let dir = self.open_dir()?;
                let identity = Identity::of(&dir, &dir.metadata()?)?;
                Ok(Opened {
                    writable: true,
                    identity,
                    network: identity.is_network(&dir),
                    site: Site::name(dir, name.clone(), None),
                })
            }
            #[cfg(all(unix, feature = "sqlite"))]
            Place::Row(name) => {
                let key = sys::path_of(&self.open_dir()?)?.join(name);
                crate::protocol::open_row(&self.database, key, create)
            }
            #[cfg(not(all(unix, feature = "sqlite")))]
            Place::Row(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    fn open_dir(&self) -> io::Result<File> {
        match &self.base {
            Base::Ambient => sys::open_dir(&self.path),
            #[cfg(feature = "sandbox")]
            Base::Beneath(dir) => {
                // Good for resolution, and for nothing that needs more than a path.
                let dir = dir.open_dir(&self.path).map_err(escape)?;
                sys::read_dir(dir.into_std_file())
            }
        }
    }

    fn open_file(&self, create: bool) -> io::Result<Opened> {
        use io::ErrorKind as E;
        let mut access = Access::ReadWrite;
        let mut tries = 0..TRIES;
        let mut raced = false;
        let file = loop {
            match self.open_with(access) {
                Ok(file) => break file,
                Err(e) if tries.next().is_none() => return Err(e),
                Err(e) => {
                    let known = e.raw_os_error().and_then(sys::kind_of);
                    access = match (access, known.unwrap_or_else(|| e.kind())) {
                        // Windows knows no such step that does not follow links.
                        (Access::ReadWrite, E::NotFound) if raced && cfg!(unix) => {
                            Access::OpenOrCreate
                        }
                        (Access::ReadWrite, E::NotFound) if create => Access::Create,
                        (Access::Create, E::AlreadyExists) => {
                            raced = true;
                            Access::ReadWrite
                        }
                        // A link.
                        (Access::OpenOrCreate, E::InvalidInput) => Access::ReadWrite,
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
        let writable = !matches!(access, Access::Read);
        let identity = Identity::of(&file, &metadata)?;
        Ok(Opened {
            writable,
            identity,
            network: identity.is_network(&file),
            site: Site::file(file),
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
            Base::Beneath(dir) => {
                let mut options = cap_std::fs::OpenOptions::new();
                options
                    .read(true)
                    .write(write)
                    .create_new(create)
                    .create(either);
                cap_std::fs::OpenOptionsExt::custom_flags(&mut options, flags);
                let file = dir.open_with(&self.path, &options).map_err(escape);
                file.map(cap_std::fs::File::into_std)
            }
        }
    }

    /// Whether the path still leads to what `identity` is that of.
    pub(crate) fn is(&self, identity: Identity) -> io::Result<bool> {
        if let Place::Row(_) = self.place {
            return Ok(Identity::at(&self.database, true)? == Some(identity));
        }
        // Only compares, and so needs no care about where the path may have come to lead.
        let found = match &self.base {
            Base::Ambient => Identity::at(&self.path, true),
            #[cfg(feature = "sandbox")]
            Base::Beneath(dir) => Identity::beneath(dir, &self.path, true),
        };
        Ok(found? == Some(identity))
    }

    /// Removes the file if the path is the name of `identity`, and not a link to it.
    pub(crate) fn remove(&self, identity: Identity) -> io::Result<()> {
        match &self.base {
            Base::Ambient => sys::remove(&self.path, identity),
            #[cfg(feature = "sandbox")]
            Base::Beneath(dir) => match Identity::beneath(dir, &self.path, false)? {
                Some(found) if found == identity => dir.remove_file(&self.path),
                _ => Ok(()),
            },
        }
    }
}

/// A path that leads out of its directory is a mistake in the path, and says nothing about
/// permissions. Nobody but the resolver refuses without an error number.
#[cfg(feature = "sandbox")]
fn escape(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::PermissionDenied && error.raw_os_error().is_none() {
        return io::Error::new(io::ErrorKind::InvalidInput, error);
    }
    error
}
