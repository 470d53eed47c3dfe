//! Settings of a sandbox.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Sandbox;
use super::directory::Directory;
use super::hooks::{Hooks, Listener};
use super::limits::Limits;
use super::paths::Grant;
use super::quota::{Guest, Settings};
use super::rights::Rights;
use super::tenant::Shared;
use crate::engine::Engine;
use crate::owner::Profile;
use crate::protocol::Protocol;

/// Settings of a [`Sandbox`]. A clone can become another guest.
#[derive(Clone)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct SandboxBuilder {
    pub(super) engine: Engine,
    pub(super) tenant: Option<Arc<Shared>>,
    label: Option<String>,
    tag: Option<String>,
    pub(super) settings: Settings,
    pub(super) limits: Limits,
    pub(super) grants: Vec<Arc<Grant>>,
    hooks: Option<Arc<dyn Hooks>>,
}

impl std::fmt::Debug for SandboxBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SandboxBuilder")
            .field("label", &self.label)
            .field("tag", &self.tag)
            .field("limits", &self.limits)
            .field("grants", &self.grants)
            .finish_non_exhaustive()
    }
}

impl SandboxBuilder {
    pub(super) fn new(engine: &Engine) -> Self {
        Self {
            engine: engine.clone(),
            tenant: None,
            label: None,
            tag: None,
            settings: Settings {
                protocol: Protocol::default(),
                protocols: None,
                lends: false,
                fencing: false,
                database: None,
            },
            limits: Limits::default(),
            grants: Vec::new(),
            hooks: None,
        }
    }

    /// The label shown to others that query the holder of a lock. None by default.
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// What the host calls the guest in its log and its listings, such as the number of a request.
    /// Never shown to a guest. None by default.
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tag = Some(tag.into());
        self
    }

    /// The protocol of locks that the guest opens without naming one. [`Protocol::Native`] by
    /// default.
    pub fn protocol(mut self, protocol: Protocol) -> Self {
        self.settings.protocol = protocol;
        self
    }

    /// The protocols that the guest may choose, within its [`Rights`]. All by default. The one of
    /// [`protocol`](Self::protocol) is always among them. Without [`Rights::EXISTENCE`], only
    /// kernel locks remain.
    pub fn protocols(mut self, protocols: impl IntoIterator<Item = Protocol>) -> Self {
        self.settings.protocols = Some(protocols.into_iter().collect());
        self
    }

    /// Lets the guest lock files that it has open by other means, such as descriptors of WASI: it may
    /// share the lock of each file that it may read, and hold that of each file that it may write,
    /// whatever the grants say. Not by default.
    pub fn lock_open_files(mut self, allowed: bool) -> Self {
        self.settings.lends = allowed;
        self
    }

    /// Gives each grant of a kernel lock in a granted directory a fencing token: see
    /// [`Options::fencing`](crate::Options::fencing). Not by default, since it sets an extended
    /// attribute of the locked file.
    pub fn fencing(mut self, fencing: bool) -> Self {
        self.settings.fencing = fencing;
        self
    }

    /// How much the guest may use.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Follows what the guest does with locks, and decides what it may do.
    pub fn hooks(mut self, hooks: Arc<dyn Hooks>) -> Self {
        self.hooks = Some(hooks);
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
        self.settings.database = Some(path);
        Ok(self)
    }

    /// Grants the directory at `host_path` under the name `guest_path`. The directory is opened
    /// now, and stays the same whatever happens to its path. To grant it to several guests, open a
    /// [`Directory`] once and [`grant`](Self::grant) that.
    ///
    /// # Errors
    ///
    /// Those of opening the directory, and those of [`grant`](Self::grant).
    pub fn grant_dir(
        self,
        host_path: impl AsRef<Path>,
        guest_path: impl AsRef<str>,
        rights: Rights,
    ) -> io::Result<Self> {
        self.grant(&Directory::open(host_path)?, guest_path, rights)
    }

    /// Grants a directory under the name `guest_path`. Of two grants with one name, the later one
    /// counts; a grant within another one does not narrow that one. Do not grant a directory in
    /// which this process has a SQLite database open, or other POSIX record locks of its own: see
    /// the [module](super#what-granting-a-directory-means) for the reason, and for what else a
    /// guest can do in it.
    ///
    /// # Errors
    ///
    /// [Invalid input](io::ErrorKind::InvalidInput) if the name has `..` in it;
    /// [permission denied](io::ErrorKind::PermissionDenied) if a database of the engine lies in the
    /// directory or below it.
    pub fn grant(
        mut self,
        directory: &Directory,
        guest_path: impl AsRef<str>,
        rights: Rights,
    ) -> io::Result<Self> {
        let grant = Grant::new(&self.engine, directory, guest_path.as_ref(), rights)?;
        self.grants.push(Arc::new(grant));
        Ok(self)
    }

    /// Grants the locks of a server under the name `guest_path`: the guest's path beneath it is the
    /// name of the lock there. Of the [`Rights`], [`SHARED`](Rights::SHARED),
    /// [`EXCLUSIVE`](Rights::EXCLUSIVE) and [`BREAK`](Rights::BREAK) count. The guest names no
    /// protocol for them.
    ///
    /// # Errors
    ///
    /// [Invalid input](io::ErrorKind::InvalidInput) if the name has `..` in it.
    #[cfg(feature = "remote")]
    #[cfg_attr(docsrs, doc(cfg(any(feature = "etcd", feature = "postgres"))))]
    pub fn grant_remote(
        mut self,
        remote: &crate::Remote,
        guest_path: impl AsRef<str>,
        rights: Rights,
    ) -> io::Result<Self> {
        let grant = Grant::on_server(remote, guest_path.as_ref(), rights)?;
        self.grants.push(Arc::new(grant));
        Ok(self)
    }

    /// Builds the sandbox of one guest.
    pub fn build(self) -> Sandbox {
        Sandbox {
            guest: Guest::new(self),
        }
    }

    pub(super) fn profile(&self) -> Profile {
        Profile {
            label: self.label.clone(),
            tag: self.tag.clone(),
        }
    }

    pub(super) fn listener(&self) -> Listener {
        let (label, tag) = (self.label.as_deref(), self.tag.as_deref());
        Listener::new(label, tag, self.hooks.clone())
    }
}
