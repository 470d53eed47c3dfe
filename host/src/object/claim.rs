//! What takes the place of an open file for a lock on a server.

use std::ffi::OsString;
use std::sync::Arc;

use crate::remote::{Changed, Remote, Seat, Server};

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

impl Claim {
    /// A seat at the lock called `name`. Asks no server.
    pub(crate) fn new(remote: &Remote, name: &str) -> Self {
        let changed = Arc::default();
        let server = Arc::clone(&remote.server);
        Self {
            seat: server.seat(name, &changed),
            server,
            name: name.to_owned(),
            changed,
            key: format!("{}\0{name}", remote.number).into(),
        }
    }

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
