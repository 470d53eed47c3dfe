//! The lock of a server, in place of a path.

use std::fs::File;
use std::io;

use crate::object::{Claim, LockObject, OpenLock};
use crate::remote::Remote;
use crate::sys::{Backing, Identity};

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
        let claim = Claim::new(&self.remote, &self.name);
        // Its callers that need a descriptor get one that carries no lock.
        let file = File::open(if cfg!(windows) { "NUL" } else { "/dev/null" })?;
        Ok(OpenLock {
            identity: Identity::of(&file, &file.metadata()?)?,
            backing: Backing::Network,
            object: LockObject::claim(file, claim),
        })
    }
}
