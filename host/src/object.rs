//! What a lock is kept on: an open file, or an entry in an open directory.

#[cfg(feature = "remote")]
mod claim;

use std::any::Any;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::sync::{Mutex, MutexGuard, lock};
use crate::sys::{Backing, Identity};

#[cfg(feature = "remote")]
pub(crate) use self::claim::Claim;

/// What a lock is kept on, open, and what this engine holds there.
#[derive(Debug)]
pub(crate) struct LockObject {
    /// The lock file, or for an existence lock its directory.
    pub(crate) file: File,
    /// Whether the file is open for writing, which an exclusive record lock needs.
    pub(crate) writable: bool,
    kept: Kept,
}

/// What the lock is, if it is not that of the file. Boxed, since most are.
#[derive(Debug)]
enum Kept {
    OnFile,
    AsMarker(Box<Marker>),
    #[cfg(feature = "remote")]
    OnServer(Box<Claim>),
}

/// An open lock.
#[derive(Debug)]
pub(crate) struct OpenLock {
    pub(crate) object: LockObject,
    /// The identity of the file in `object`; for a row, that of its store.
    pub(crate) identity: Identity,
    /// On what its file system depends.
    pub(crate) backing: Backing,
}

/// Where a protocol keeps the lock of a file.
#[derive(Clone, Debug)]
pub(crate) enum Location {
    /// On the file itself.
    File,
    /// As an entry in the file's directory.
    Marker(OsString),
    /// As a row of a store, under the file's absolute path with this in place of its name.
    #[cfg_attr(
        not(feature = "sqlite"),
        expect(dead_code, reason = "needs the feature")
    )]
    Row(OsString, Arc<dyn Store>),
}

/// A file that keeps the locks of other files as rows.
pub(crate) trait Store: fmt::Debug + Send + Sync {
    /// Where it is.
    fn path(&self) -> &Path;

    /// Opens the row of the path `name` in `dir`. Creates the store if it is missing and `create`
    /// says so.
    fn open(&self, dir: &File, name: &OsStr, create: bool) -> io::Result<OpenLock>;
}

/// An existence lock: held while its entry or row exists.
#[derive(Debug)]
pub(crate) struct Marker {
    name: OsString,
    /// The store, if the lock is a row.
    store: Option<PathBuf>,
    created: Mutex<Option<Created>>,
    /// What its backend remembers of the last look.
    memory: Mutex<Memory>,
}

/// Known to the backend alone.
pub(crate) type Memory = Option<Arc<dyn Any + Send + Sync>>;

/// The marker that was created to take a lock.
#[derive(Debug)]
pub(crate) struct Created {
    /// A name of the creator that was never used before; empty if `pin` identifies the marker.
    pub(crate) token: OsString,
    /// Keeps the inode number of the marker from being reused.
    pub(crate) pin: Option<File>,
    /// Carries the `flock` that proves that the holder lives, if that is not `pin`.
    #[cfg_attr(windows, expect(dead_code, reason = "there is none"))]
    pub(crate) life: Option<File>,
}

#[cfg(unix)]
impl Created {
    /// The description that carries the lock: a process that inherits it keeps the lock, if the
    /// marker promises that.
    pub(crate) fn carrier(&self) -> Option<&File> {
        self.life.as_ref().or(self.pin.as_ref())
    }
}

impl LockObject {
    pub(crate) fn file(file: File, writable: bool) -> Self {
        Self {
            file,
            writable,
            kept: Kept::OnFile,
        }
    }

    /// A claim on a lock of a server, which leaves `file` alone.
    #[cfg(feature = "remote")]
    pub(crate) fn claim(file: File, claim: Claim) -> Self {
        Self {
            file,
            writable: true,
            kept: Kept::OnServer(Box::new(claim)),
        }
    }

    pub(crate) fn marker(dir: File, name: OsString, store: Option<PathBuf>) -> Self {
        let name = Marker {
            name,
            store,
            created: Mutex::default(),
            memory: Mutex::default(),
        };
        Self {
            file: dir,
            writable: true,
            kept: Kept::AsMarker(Box::new(name)),
        }
    }

    /// The same existence lock, or the same lock of a server, of which nothing is held. Fails for a
    /// file.
    pub(crate) fn renewed(&self) -> io::Result<Self> {
        #[cfg(feature = "remote")]
        if let Some(claim) = self.as_claim() {
            return Ok(Self::claim(self.file.try_clone()?, claim.another()));
        }
        let marker = self.as_marker().ok_or(io::ErrorKind::InvalidInput)?;
        let dir = self.file.try_clone()?;
        let store = marker.store.clone();
        Ok(Self::marker(dir, marker.name.clone(), store))
    }

    /// Whether it is an existence lock of which a marker was created here, and has not been removed.
    pub(crate) fn has_created(&self) -> bool {
        self.as_marker()
            .is_some_and(|marker| marker.created().is_some())
    }

    /// A duplicate of the description that carries an existence lock, if there is one.
    #[cfg(unix)]
    pub(crate) fn carrier(&self) -> Option<File> {
        let created = self.as_marker()?.created();
        created.as_ref()?.carrier()?.try_clone().ok()
    }

    /// The marker, if this is an existence lock.
    pub(crate) fn as_marker(&self) -> Option<&Marker> {
        match &self.kept {
            Kept::AsMarker(marker) => Some(marker),
            _ => None,
        }
    }

    /// The claim, if this is a lock of a server.
    #[cfg(feature = "remote")]
    pub(crate) fn as_claim(&self) -> Option<&Claim> {
        match &self.kept {
            Kept::OnServer(claim) => Some(claim),
            _ => None,
        }
    }

    /// Whether it is a lock of a server.
    pub(crate) fn is_on_server(&self) -> bool {
        #[cfg(feature = "remote")]
        return self.as_claim().is_some();
        #[cfg(not(feature = "remote"))]
        false
    }

    /// Whether it is the lock of the file itself.
    pub(crate) fn is_on_file(&self) -> bool {
        matches!(self.kept, Kept::OnFile)
    }

    /// What tells it from other locks on the same descriptor.
    pub(crate) fn key(&self) -> Option<OsString> {
        match &self.kept {
            Kept::OnFile => None,
            Kept::AsMarker(marker) => Some(marker.name.clone()),
            #[cfg(feature = "remote")]
            Kept::OnServer(claim) => Some(claim.key().clone()),
        }
    }
}

impl Marker {
    pub(crate) fn name(&self) -> &OsStr {
        &self.name
    }

    /// The path of the store, if the lock is a row.
    pub(crate) fn store(&self) -> Option<&Path> {
        self.store.as_deref()
    }

    pub(crate) fn created(&self) -> MutexGuard<'_, Option<Created>> {
        lock(&self.created)
    }

    pub(crate) fn memory(&self) -> MutexGuard<'_, Memory> {
        lock(&self.memory)
    }
}
