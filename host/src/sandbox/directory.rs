//! A directory of the host that guests can be granted.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use cap_std::fs::Dir;

use crate::lock_path::Identity;

/// An open directory of the host, to be granted to guests. It stays the same whatever happens to
/// its path. Clones share one descriptor, and so do all guests that it is granted to.
///
/// ```
/// use locket::sandbox::{Directory, Rights, Sandbox};
/// use locket::Engine;
///
/// # let dir = tempfile::tempdir()?;
/// # let jobs = dir.path();
/// let engine = Engine::new();
/// let jobs = Directory::open(jobs)?;
/// let guests = (0..100).map(|_| {
///     Ok(Sandbox::builder(&engine).grant(&jobs, "/jobs", Rights::LOCKS)?.build())
/// });
/// let guests = guests.collect::<std::io::Result<Vec<_>>>()?; // One descriptor for all.
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Directory {
    pub(super) dir: Arc<Dir>,
    pub(super) identity: Identity,
    /// Its path when it was opened.
    pub(super) host: Option<Arc<Path>>,
}

impl Directory {
    /// Opens the directory at a path of the host.
    ///
    /// # Errors
    ///
    /// Those of opening it, among them [not a directory](io::ErrorKind::NotADirectory).
    #[expect(clippy::disallowed_methods, reason = "the host chose the path")]
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref();
        let dir = Dir::open_ambient_dir(path, cap_std::ambient_authority())?;
        let host = std::path::absolute(path).ok();
        Self::new(dir, host.map(Into::into))
    }

    /// A directory that is open already.
    ///
    /// # Errors
    ///
    /// [Not a directory](io::ErrorKind::NotADirectory).
    pub fn from_file(file: File) -> io::Result<Self> {
        if !file.metadata()?.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Self::new(Dir::from_std_file(file), None)
    }

    fn new(dir: Dir, host: Option<Arc<Path>>) -> io::Result<Self> {
        let open = dir.try_clone()?.into_std_file();
        Ok(Self {
            identity: Identity::of(&open, &open.metadata()?)?,
            dir: Arc::new(dir),
            host,
        })
    }
}
