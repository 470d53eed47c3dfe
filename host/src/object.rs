//! What a lock is kept on: an open file, or a name in an open directory.

#![cfg_attr(
    windows,
    allow(dead_code, reason = "there are no locks that are a name")
)]

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::path::PathBuf;

use crate::sync::{Mutex, MutexGuard, lock};
use crate::sys::Identity;

/// What a lock is kept on, open, and what this engine holds there.
#[derive(Debug)]
pub(crate) struct LockObject {
    /// The lock file. Where the lock is a name, the directory that the name is in.
    pub(crate) file: File,
    /// Whether the file is open for writing, without which there is no exclusive record lock.
    pub(crate) writable: bool,
    /// Boxed, since most locks have none.
    name: Option<Box<Marker>>,
}

/// An open lock.
#[derive(Debug)]
pub(crate) struct OpenLock {
    pub(crate) object: LockObject,
    /// That of the file of the site; of a row that of its database.
    pub(crate) identity: Identity,
    /// Whether it lies on a network file system.
    pub(crate) network: bool,
}

/// Where a protocol keeps the lock of a file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Location {
    /// On the file itself.
    File,
    /// As a name in the file's directory.
    Marker(OsString),
    /// As a row of a database, under the file's absolute path with this in place of its name.
    #[cfg_attr(
        not(feature = "sqlite"),
        expect(dead_code, reason = "needs the feature")
    )]
    Row(OsString),
}

/// A lock that exists when its name does.
#[derive(Debug)]
pub(crate) struct Marker {
    name: OsString,
    /// Where the name is a row of a database: that.
    pub(crate) database: Option<PathBuf>,
    created: Mutex<Option<Created>>,
}

/// What was made to take a lock.
#[derive(Debug)]
pub(crate) struct Created {
    /// Who made it, in words that nobody used before; empty where the pin tells it from others.
    pub(crate) token: OsString,
    /// Keeps the number of the thing that was made from being given to another.
    pub(crate) pin: Option<File>,
}

impl LockObject {
    pub(crate) fn file(file: File, writable: bool) -> Self {
        Self {
            file,
            writable,
            name: None,
        }
    }

    pub(crate) fn marker(dir: File, name: OsString, database: Option<PathBuf>) -> Self {
        let name = Marker {
            name,
            database,
            created: Mutex::default(),
        };
        Self {
            file: dir,
            writable: true,
            name: Some(Box::new(name)),
        }
    }

    /// The name that is the lock, if it is one.
    pub(crate) fn as_marker(&self) -> Option<&Marker> {
        self.name.as_deref()
    }
}

impl Marker {
    pub(crate) fn name(&self) -> &OsStr {
        &self.name
    }

    pub(crate) fn created(&self) -> MutexGuard<'_, Option<Created>> {
        lock(&self.created)
    }
}
