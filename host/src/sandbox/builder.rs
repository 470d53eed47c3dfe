//! Settings of a sandbox.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Sandbox;
use super::limits::Limits;
use super::paths::Grant;
use super::quota::Guest;
use super::rights::Rights;
use crate::engine::Engine;
use crate::protocol::Protocol;

/// Settings of a [`Sandbox`].
#[derive(Debug)]
#[must_use]
pub struct SandboxBuilder {
    engine: Engine,
    label: Option<String>,
    protocol: Protocol,
    protocols: Option<Vec<Protocol>>,
    limits: Limits,
    grants: Vec<Grant>,
    database: Option<PathBuf>,
}

impl SandboxBuilder {
    pub(super) fn new(engine: &Engine) -> Self {
        Self {
            engine: engine.clone(),
            label: None,
            protocol: Protocol::default(),
            protocols: None,
            limits: Limits::default(),
            grants: Vec::new(),
            database: None,
        }
    }

    /// The label shown to others that query the holder of a lock. None by default.
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// The protocol of locks that the guest opens without naming one. [`Protocol::Native`] by
    /// default.
    pub fn protocol(mut self, protocol: Protocol) -> Self {
        self.protocol = protocol;
        self
    }

    /// The protocols that the guest may choose, within its [`Rights`]. All by default. The one of
    /// [`protocol`](Self::protocol) is always among them.
    pub fn protocols(mut self, protocols: impl IntoIterator<Item = Protocol>) -> Self {
        self.protocols = Some(protocols.into_iter().collect());
        self
    }

    /// How much the guest may use.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The database of the host that keeps the guest's locks of [`Protocol::Sqlite`]. Unless one is
    /// set, that protocol is unsupported.
    ///
    /// # Errors
    ///
    /// [Permission denied](io::ErrorKind::PermissionDenied) if the database lies in a directory
    /// that is granted to a guest of this engine, or below one; and those of resolving its
    /// directory.
    pub fn database(mut self, host_path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = host_path.into();
        self.engine.keep_from_guests(&path)?;
        self.database = Some(path);
        Ok(self)
    }

    /// Grants the directory at `host_path` under the name `guest_path`. The directory is opened
    /// now, and stays the same whatever happens to its path. Of two grants with one name, the later
    /// one counts; a grant within another one does not narrow that one. Do not grant a directory in
    /// which this process has a SQLite database open, or other POSIX record locks of its own: see
    /// the [module](super#what-granting-a-directory-means) for the reason, and for what else a
    /// guest can do in it.
    ///
    /// # Errors
    ///
    /// Those of opening the directory, and those of [`Sandbox::grant`].
    pub fn grant_dir(
        mut self,
        host_path: impl AsRef<Path>,
        guest_path: impl AsRef<str>,
        rights: Rights,
    ) -> io::Result<Self> {
        let (path, name) = (host_path.as_ref(), guest_path.as_ref());
        self.grants
            .push(Grant::ambient(&self.engine, path, name, rights)?);
        Ok(self)
    }

    /// Builds the sandbox of one guest.
    pub fn build(self) -> Sandbox {
        let label = self.label.as_deref();
        Sandbox {
            guest: Arc::new(Guest::new(&self.engine, label, self.protocol, self.limits)),
            grants: self.grants,
            database: self.database,
            protocols: self.protocols,
        }
    }
}
