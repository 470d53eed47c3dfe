//! What takes the place of an open file for a lock on a server.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::sync::Arc;

use super::{Changed, Remote, Seat, Server};
use crate::object::{LockObject, OpenLock};
use crate::sys::{Backing, Identity};

/// A seat at a lock, and what it takes to have another one.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) server: Arc<dyn Server>,
    pub(crate) name: String,
    pub(crate) seat: Arc<dyn Seat>,
    pub(crate) changed: Arc<Changed>,
    /// Identifies the lock among all of this process.
    key: OsString,
}

/// The name of a lock on a server.
#[derive(Clone, Debug)]
pub(crate) struct RemoteName {
    remote: Remote,
    name: String,
}

impl RemoteName {
    pub(crate) fn new(remote: &Remote, name: &str) -> io::Result<Self> {
        remote.server.check_name(name)?;
        Ok(Self {
            remote: remote.clone(),
            name: name.to_owned(),
        })
    }

    pub(crate) fn remote(&self) -> &Remote {
        &self.remote
    }

    /// Opens the lock. Asks no server.
    pub(crate) fn open(&self) -> io::Result<OpenLock> {
        let Self { remote, name } = self;
        let changed = Arc::default();
        let server = Arc::clone(&remote.server);
        let claim = Claim {
            seat: server.seat(name, &changed),
            server,
            name: name.clone(),
            changed,
            key: format!("{}\0{name}", remote.number).into(),
        };
        // Its callers that need a descriptor get one that carries no lock.
        let file = File::open(if cfg!(windows) { "NUL" } else { "/dev/null" })?;
        Ok(OpenLock {
            identity: Identity::of(&file, &file.metadata()?)?,
            backing: Backing::Network,
            object: LockObject::claim(file, claim),
        })
    }
}

impl Claim {
    /// Another seat at the same lock.
    pub(crate) fn another(&self) -> Self {
        Self {
            server: Arc::clone(&self.server),
            name: self.name.clone(),
            seat: self.server.seat(&self.name, &self.changed),
            changed: Arc::clone(&self.changed),
            key: self.key.clone(),
        }
    }

    pub(crate) fn key(&self) -> &OsString {
        &self.key
    }
}
