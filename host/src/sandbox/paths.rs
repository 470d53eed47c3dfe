//! The paths of guests: which granted place one belongs to, and the rest of it beneath that.
//!
//! No other module reads a guest's string as a path. The result is a directory that the embedder
//! granted and a relative path, which the operating system resolves beneath it (see
//! `lock_path.rs`); or a granted server and the name of a lock on it.
//!
//! On Windows a component can mean something else than a name: a device, a stream of a file, a drive,
//! several components. None of those reaches the system.

use std::io;
#[cfg(feature = "remote")]
use std::path::Component;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::directory::Directory;
use super::rights::Rights;
use crate::engine::{Engine, Territory};
use crate::error::{Error, ErrorKind, Result};
use crate::protocol::Protocol;
#[cfg(feature = "remote")]
use crate::remote::Remote;

/// A place for locks under a name in the guest.
#[derive(Debug)]
pub(super) struct Grant {
    name: Arc<[String]>,
    absolute: bool,
    pub(super) place: Place,
    rights: Rights,
    revoked: AtomicBool,
}

/// What is granted.
#[derive(Clone, Debug)]
pub(super) enum Place {
    Directory(
        Directory,
        #[expect(dead_code, reason = "keeps databases out of it")] Arc<Territory>,
    ),
    #[cfg(feature = "remote")]
    Server(Remote),
}

impl Grant {
    pub(super) fn new(
        engine: &Engine,
        directory: &Directory,
        name: &str,
        rights: Rights,
    ) -> io::Result<Self> {
        let place = || {
            let territory = engine.territory(directory.identity)?;
            Ok(Place::Directory(directory.clone(), Arc::new(territory)))
        };
        Self::of(place, name, rights)
    }

    #[cfg(feature = "remote")]
    pub(super) fn on_server(remote: &Remote, name: &str, rights: Rights) -> io::Result<Self> {
        Self::of(|| Ok(Place::Server(remote.clone())), name, rights)
    }

    fn of(
        place: impl FnOnce() -> io::Result<Place>,
        name: &str,
        rights: Rights,
    ) -> io::Result<Self> {
        let absolute = name.starts_with('/');
        let name: Arc<[String]> = components(name).map(str::to_owned).collect();
        if name.iter().any(|part| part == "..") {
            let why = "the name of a grant contains `..`";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        Ok(Self {
            name,
            absolute,
            rights,
            revoked: AtomicBool::new(false),
            place: place()?,
        })
    }

    /// The same grant for another guest, from which it is revoked by itself.
    pub(super) fn again(&self) -> Self {
        Self {
            name: Arc::clone(&self.name),
            absolute: self.absolute,
            rights: self.rights,
            revoked: AtomicBool::new(false),
            place: self.place.clone(),
        }
    }

    /// The protocol of its locks, if the guest names none: `usual` for files.
    pub(super) fn protocol(&self, usual: Protocol) -> Protocol {
        match self.place {
            Place::Directory(..) => usual,
            #[cfg(feature = "remote")]
            Place::Server(_) => Protocol::Remote,
        }
    }

    /// The rights that are left.
    pub(super) fn rights(&self) -> Rights {
        if self.revoked.load(Ordering::SeqCst) {
            Rights::NONE
        } else {
            self.rights
        }
    }

    pub(super) fn revoke(&self) {
        self.revoked.store(true, Ordering::SeqCst);
    }

    /// Whether its name in the guest is `name`.
    pub(super) fn is_named(&self, name: &str) -> bool {
        let absolute = name.starts_with('/');
        absolute == self.absolute && components(name).eq(self.name.iter())
    }
}

/// The grant that a path belongs to, and the path beneath it.
pub(super) fn resolve(
    grants: &[Arc<Grant>],
    path: &str,
    longest: usize,
) -> Result<(Arc<Grant>, PathBuf)> {
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
    if cfg!(windows)
        && parts[grant.name.len()..]
            .iter()
            .any(|part| means_more_on_windows(part))
    {
        return Err(refuse(ErrorKind::InvalidPath));
    }
    Ok((Arc::clone(grant), rest))
}

/// The name of a lock on a server: what is left of a path beneath a grant. No directory is there that
/// `..` could lead through.
#[cfg(feature = "remote")]
pub(super) fn lock_name(path: &str, rest: &Path) -> Result<String> {
    let parts = rest.components().map(|part| match part {
        Component::Normal(part) => part.to_str(),
        _ => None,
    });
    let parts: Option<Vec<_>> = parts.collect();
    let refused = || Error::new(ErrorKind::InvalidPath, Path::new(path));
    Ok(parts.ok_or_else(refused)?.join("/"))
}

/// Whether Windows takes a component for something else than the name of a file in a directory, or
/// drops a part of it.
fn means_more_on_windows(part: &str) -> bool {
    const DEVICES: [&str; 6] = ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"];
    let special = |c: char| c < ' ' || r#"<>:"/\|?*"#.contains(c);
    if part == ".." {
        return false;
    }
    if part.contains(special) || part.ends_with(['.', ' ']) {
        return true;
    }
    // Devices keep their meaning with any extension, and with spaces before it.
    let stem = part.split('.').next().unwrap_or_default();
    let stem = stem.trim_end_matches(' ').to_ascii_uppercase();
    let numbered = ["COM", "LPT"].iter().any(|device| {
        let number = stem.strip_prefix(device).map(|number| number.chars());
        number.is_some_and(|mut number| {
            let first = number.next();
            first.is_some_and(|c| "0123456789¹²³".contains(c)) && number.next().is_none()
        })
    });
    numbered || DEVICES.contains(&stem.as_str())
}

/// The components of a path, without those that have no effect.
fn components(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|part| !matches!(*part, "" | "."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_windows_takes_for_more_than_a_name_is_refused() {
        for bad in [
            "CON",
            "con.txt",
            "Nul",
            "AUX .lock",
            "COM1",
            "com\u{b9}",
            "LPT\u{b3}.x",
            "lpt0",
            "CONIN$",
            "a:b",
            "lock::$DATA",
            "C:",
            r"a\b",
            r"..\x",
            r"\\server\share",
            "a.",
            "a ",
            "...",
            "a?",
            "a*",
            "\u{1}",
            "a|b",
            "\"",
            "<",
            ">",
        ] {
            assert!(means_more_on_windows(bad), "{bad}");
        }
        for good in [
            "..", "a", "CONSOLE", "COM", "COM10", "COMA", "a.con", ".lock", "nul_", "\u{e9}",
        ] {
            assert!(!means_more_on_windows(good), "{good}");
        }
    }
}
