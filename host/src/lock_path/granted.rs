//! A directory granted to a guest: every path is resolved beneath it.

use std::fmt;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use cap_std::fs::Dir;

use super::LockPath;
use crate::backend::is_reserved;
use crate::sys::{self, Identity};

/// A directory granted to a guest, and how many files the guest may create.
#[derive(Clone, Debug)]
pub(crate) struct Granted {
    pub(crate) dir: Arc<Dir>,
    /// Its path on the host, if that is known.
    pub(crate) host: Option<Arc<Path>>,
    pub(crate) quota: Arc<dyn Quota>,
}

/// Limits the files that a guest creates.
pub(crate) trait Quota: fmt::Debug + Send + Sync {
    /// Counts a file that is about to be created. Answers `false` if it counts already, and fails
    /// if it would be one too many.
    fn count(&self, dir: &Arc<Dir>, path: &Path) -> io::Result<bool>;

    /// Takes the count back: the file was not created.
    fn discount(&self, dir: &Arc<Dir>, path: &Path);
}

impl LockPath {
    /// The same under the name by which a guest knows it.
    pub(crate) fn known_as(self, name: &str) -> Self {
        let name = Some(name.into());
        Self { name, ..self }
    }
}

impl Granted {
    /// The directory that contains the last component of a path.
    pub(super) fn parent(&self, path: &Path) -> io::Result<File> {
        let parent = path.parent().filter(|parent| *parent != Path::new(""));
        let parent = parent.unwrap_or(Path::new("."));
        let dir = self.dir.open_dir(parent).map_err(escape)?;
        Ok(dir.into_std_file())
    }

    /// The identity of what a path leads to; `None` if nothing is there. Nothing outside of the
    /// directory is looked at: to the guest, nothing exists there.
    pub(super) fn identity(&self, path: &Path) -> io::Result<Option<Identity>> {
        match self.look(path) {
            Ok(identity) => Ok(Some(identity)),
            Err(e) if is_escape(&e) => Ok(None),
            Err(e) => match e.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Ok(None),
                _ => Err(e),
            },
        }
    }

    #[cfg(unix)]
    fn look(&self, path: &Path) -> io::Result<Identity> {
        use cap_std::fs::MetadataExt as _;
        // First without following a link, which takes a single call for most paths.
        let found = match self.dir.symlink_metadata(path) {
            Ok(metadata) if metadata.is_symlink() => self.dir.metadata(path),
            found => found,
        };
        found.map(|metadata| Identity::new(metadata.dev(), metadata.ino()))
    }

    /// Windows tells the identity of what is open.
    #[cfg(windows)]
    fn look(&self, path: &Path) -> io::Result<Identity> {
        use cap_std::fs::OpenOptionsExt as _;
        let mut options = cap_std::fs::OpenOptions::new();
        options.access_mode(0).custom_flags(sys::OPEN_FLAGS);
        let file = self.dir.open_with(path, &options)?.into_std();
        Identity::of(&file, &file.metadata()?)
    }

    pub(super) fn remove(&self, path: &Path, identity: Identity) -> io::Result<()> {
        let name = path.file_name().unwrap_or_default();
        // Opened once, so that it cannot be exchanged between the check and the removal.
        let dir = match self.parent(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            dir => dir?,
        };
        if is_reserved(&dir, name) {
            return Ok(());
        }
        sys::remove_empty(&dir, name, identity)
    }
}

/// A path that leads out of its directory is an invalid path, not a matter of permissions. Only the
/// resolver refuses without an error number.
pub(super) fn escape(error: io::Error) -> io::Error {
    if is_escape(&error) {
        return io::Error::new(io::ErrorKind::InvalidInput, error);
    }
    error
}

fn is_escape(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied && error.raw_os_error().is_none()
}
