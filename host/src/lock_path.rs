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
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

#[cfg(feature = "sandbox")]
use crate::backend::is_reserved;
use crate::object::{Location, LockObject, OpenLock};
use crate::protocol::Protocol;
#[cfg(feature = "remote")]
use crate::remote::Remote;
use crate::sys;

#[cfg(feature = "sandbox")]
mod granted;
#[cfg(feature = "remote")]
mod on_server;
mod open_file;

#[cfg(feature = "remote")]
pub(crate) use self::on_server::RemoteName;
#[cfg(feature = "remote")]
use self::on_server::RemoteName as OnServer;
pub(crate) use crate::sys::{Identity, reopen};
#[cfg(feature = "sandbox")]
use granted::escape;
#[cfg(feature = "sandbox")]
pub(crate) use granted::{Granted, Quota};

/// Where a lock is: a path, and the directory that it starts from.
#[derive(Clone, Debug)]
pub(crate) struct LockPath {
    base: Base,
    /// The path of the lock file, or the directory of an existence lock.
    path: PathBuf,
    /// The path as the caller knows it, if that is another one.
    name: Option<PathBuf>,
    create: bool,
    /// Whether to open the file for writing at once.
    write: bool,
    place: Location,
}

#[derive(Clone, Debug)]
enum Base {
    /// The file system as this process sees it; the path is absolute.
    Ambient,
    /// A file that the caller opened, or a lock of a server; the path only names it.
    Fixed(Option<OnServer>),
    /// A granted directory; the path cannot lead out of it.
    #[cfg(feature = "sandbox")]
    Beneath(Granted),
}

#[cfg(not(feature = "remote"))]
type OnServer = std::convert::Infallible;

/// How often another process may create and remove the file meanwhile before the open fails.
pub(crate) const TRIES: usize = 64;

impl LockPath {
    /// A path of this process. It is made absolute, since the working directory may change.
    pub(crate) fn ambient(path: &Path, create: bool, write: bool) -> io::Result<Self> {
        let (path, name) = if path.is_absolute() {
            (path.to_owned(), None)
        } else {
            (std::path::absolute(path)?, Some(path.to_owned()))
        };
        Ok(Self {
            base: Base::Ambient,
            path,
            name,
            create,
            write,
            place: Location::File,
        })
    }

    /// A path beneath a directory, which the guest knows as `name`.
    #[cfg(feature = "sandbox")]
    pub(crate) fn beneath(
        granted: Granted,
        path: PathBuf,
        name: PathBuf,
        create: bool,
        write: bool,
    ) -> Self {
        Self {
            base: Base::Beneath(granted),
            path,
            name: Some(name),
            create,
            write,
            place: Location::File,
        }
    }

    /// A file that is open already, and its lock. With `any_kind`, it need not be a regular one.
    pub(crate) fn adopt(file: File, any_kind: bool) -> io::Result<(Self, OpenLock)> {
        let metadata = file.metadata()?;
        let lockable = (any_kind || metadata.is_file()).then_some(&file);
        let identity = Identity::of(lockable.ok_or_else(not_a_file)?, &metadata)?;
        let path = sys::path_of(&file).unwrap_or_default();
        let (file, writable) = sys::adopt(file)?;
        let open_lock = OpenLock {
            identity,
            backing: identity.backing(&file),
            object: LockObject::file(file, writable),
        };
        let lock_path = Self {
            base: Base::Fixed(None),
            path,
            name: None,
            create: false,
            write: writable,
            place: Location::File,
        };
        Ok((lock_path, open_lock))
    }

    /// A lock of a server, which the caller knows as `path`.
    #[cfg(feature = "remote")]
    pub(crate) fn on_server(name: OnServer, path: PathBuf) -> Self {
        Self {
            base: Base::Fixed(Some(name)),
            path,
            name: None,
            create: false,
            write: true,
            place: Location::File,
        }
    }

    /// The server that keeps the lock, if one does.
    #[cfg(feature = "remote")]
    pub(crate) fn remote(&self) -> Option<&Remote> {
        match &self.base {
            Base::Fixed(Some(name)) => Some(name.remote()),
            _ => None,
        }
    }

    /// The path as the caller knows it.
    pub(crate) fn name(&self) -> &Path {
        self.name.as_ref().unwrap_or(&self.path)
    }

    /// The path of the locked file on the host, as far as it is known.
    pub(crate) fn whole(&self) -> PathBuf {
        let start = match &self.base {
            Base::Ambient | Base::Fixed(_) => Path::new(""),
            #[cfg(feature = "sandbox")]
            Base::Beneath(Granted {
                host: Some(dir), ..
            }) => dir,
            #[cfg(feature = "sandbox")]
            Base::Beneath(_) => return self.name().to_owned(),
        };
        let mut whole = start.join(&self.path);
        if !matches!(self.place, Location::File) {
            // The path is that of the directory.
            whole.extend(self.name().file_name());
        }
        whole
    }

    /// Makes it the lock of the same file in a protocol.
    pub(crate) fn keep_by(
        &mut self,
        protocol: Protocol,
        database: Option<&Path>,
    ) -> io::Result<()> {
        if !protocol.is_existence_lock() {
            return Ok(());
        }
        let file = self.path.file_name().unwrap_or_default();
        let place = protocol.backend().place(file, database)?;
        if file.is_empty() {
            let directory = "the path names a directory, not a file in one";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, directory));
        }
        self.place = place;
        self.name.get_or_insert_with(|| self.path.clone());
        self.path.pop();
        if self.path.as_os_str().is_empty() {
            self.path.push(".");
        }
        Ok(())
    }

    /// The path of the store, if the lock is a row of one.
    pub(crate) fn store(&self) -> Option<&Path> {
        match &self.place {
            Location::Row(_, store) => Some(store.path()),
            Location::File | Location::Marker(_) => None,
        }
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
        #[cfg(feature = "remote")]
        if let Base::Fixed(Some(name)) = &self.base {
            return name.open();
        }
        match &self.place {
            Location::File => self.open_file(create, self.write),
            Location::Marker(name) => {
                let dir = self.open_dir()?;
                self.refuse_reserved(&dir, name)?;
                let identity = Identity::of(&dir, &dir.metadata()?)?;
                Ok(OpenLock {
                    identity,
                    backing: identity.backing(&dir),
                    object: LockObject::marker(dir, name.clone(), None),
                })
            }
            Location::Row(name, store) => store.open(&self.open_dir()?, name, create),
        }
    }

    fn open_dir(&self) -> io::Result<File> {
        match &self.base {
            Base::Ambient => sys::open_dir(&self.path),
            Base::Fixed(_) => Err(not_by_path()),
            #[cfg(feature = "sandbox")]
            Base::Beneath(Granted { dir, .. }) => {
                // The descriptor only serves to resolve paths.
                let dir = dir.open_dir(&self.path).map_err(escape)?;
                sys::read_dir(dir.into_std_file())
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
            && is_reserved(dir, name)
        {
            let reserved = "the name is reserved for existence locks";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, reserved));
        }
        let _ = (dir, name);
        Ok(())
    }

    /// Whether the path still leads to the object with `identity`.
    pub(crate) fn is(&self, identity: Identity) -> io::Result<bool> {
        if let Some(store) = self.store() {
            return Ok(Identity::at(store, false)? == Some(identity));
        }
        let found = match &self.base {
            Base::Ambient => Identity::at(&self.path, true)?,
            Base::Fixed(_) => Some(identity),
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
            Base::Fixed(_) => Ok(()),
            #[cfg(feature = "sandbox")]
            Base::Beneath(granted) => granted.remove(&self.path, identity),
        }
    }

    /// Whether only a holder that excludes the users of both lock families may remove the file.
    pub(crate) fn is_guests(&self) -> bool {
        match &self.base {
            Base::Ambient | Base::Fixed(_) => false,
            #[cfg(feature = "sandbox")]
            Base::Beneath(_) => true,
        }
    }
}

fn not_a_file() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")
}

fn not_by_path() -> io::Error {
    let why = "the caller opened the file, so it cannot be opened by its path";
    io::Error::new(io::ErrorKind::Unsupported, why)
}
