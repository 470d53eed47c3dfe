//! The paths of guests: which granted directory one belongs to, and the rest of it beneath that.
//!
//! No other module reads a guest's string as a path. The result is a directory that the embedder
//! granted and a relative path, which the operating system resolves beneath it (see
//! `lock_path.rs`).

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cap_std::fs::Dir;

use super::rights::Rights;
use crate::engine::{Engine, Territory};
use crate::error::{Error, ErrorKind, Result};

/// A directory under a name in the guest.
#[derive(Debug)]
pub(super) struct Grant {
    name: Vec<String>,
    absolute: bool,
    pub(super) dir: Arc<Dir>,
    pub(super) rights: Rights,
    /// Keeps databases of the host out of it.
    _territory: Territory,
}

impl Grant {
    /// Grants the directory at a path of the host, which is opened now.
    #[expect(clippy::disallowed_methods, reason = "the host chose the path")]
    pub(super) fn ambient(
        engine: &Engine,
        path: &Path,
        name: &str,
        rights: Rights,
    ) -> io::Result<Self> {
        let dir = Dir::open_ambient_dir(path, cap_std::ambient_authority())?;
        Self::new(engine, dir, name, rights)
    }

    pub(super) fn new(engine: &Engine, dir: Dir, name: &str, rights: Rights) -> io::Result<Self> {
        let absolute = name.starts_with('/');
        let name: Vec<String> = components(name).map(str::to_owned).collect();
        if name.iter().any(|part| part == "..") {
            let why = "the name of a granted directory contains `..`";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        Ok(Self {
            name,
            absolute,
            rights,
            _territory: engine.territory(&dir)?,
            dir: Arc::new(dir),
        })
    }
}

/// The grant that a path belongs to, and the path beneath it.
pub(super) fn resolve<'a>(
    grants: &'a [Grant],
    path: &str,
    longest: usize,
) -> Result<(&'a Grant, PathBuf)> {
    let refuse = |kind| Error::new(kind, Path::new(path));
    if path.is_empty() || path.len() > longest || path.contains('\0') {
        return Err(refuse(ErrorKind::InvalidPath));
    }
    let absolute = path.starts_with('/');
    let parts: Vec<&str> = components(path).collect();
    let matching = grants.iter().filter(|grant| {
        parts.len() >= grant.name.len() && grant.name.iter().zip(&parts).all(|(a, b)| a == b)
    });
    let grant = matching
        .max_by_key(|grant| (grant.name.len(), grant.absolute == absolute))
        .ok_or_else(|| refuse(ErrorKind::Denied))?;
    let rest: PathBuf = parts[grant.name.len()..].iter().collect();
    // A directory, whatever exists there: the grant itself, or a path that can only be a
    // directory's.
    let end = path.rsplit('/').next().unwrap_or_default();
    if rest.as_os_str().is_empty() || matches!(end, "" | "." | "..") {
        return Err(refuse(ErrorKind::InvalidPath));
    }
    Ok((grant, rest))
}

/// The components of a path, without those that have no effect.
fn components(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|part| !matches!(*part, "" | "."))
}
