//! Where a trace writes: files, or a standard stream.

use std::ffi::OsString;
use std::fmt::Display;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::exit::{self, ExitError};
use crate::output::shown_path;

pub(super) struct Output {
    /// What errors call it.
    name: String,
    to: Box<dyn Write>,
}

impl Output {
    pub(super) fn stdout() -> Self {
        let name = "standard output".to_owned();
        let to = Box::new(io::stdout());
        Self { name, to }
    }

    pub(super) fn stderr() -> Self {
        let name = "standard error".to_owned();
        let to = Box::new(io::stderr());
        Self { name, to }
    }

    /// Creates a file, or empties it. Refuses the files of `locks`.
    pub(super) fn create(path: &Path, locks: &[PathBuf]) -> Result<Self, ExitError> {
        let name = format!("`{}`", shown_path(path));
        if identity(path).is_some_and(|file| locks.iter().any(|lock| is_at(lock, &file))) {
            let message = format_args!(
                "{name} is watched as a lock, or is the other output; choose another file"
            );
            return Err(ExitError::new(exit::USAGE, message));
        }
        let file = File::create(path).map_err(|e| {
            let message = format_args!("cannot create {name}: {e}");
            ExitError::new(exit::NO_INPUT, message)
        })?;
        let to = Box::new(file);
        Ok(Self { name, to })
    }

    /// Writes all of it at once.
    pub(super) fn print(&mut self, text: impl Display) -> anyhow::Result<()> {
        let text = text.to_string();
        let written = self.to.write_all(text.as_bytes());
        let written = written.and_then(|()| self.to.flush());
        written.with_context(|| format!("cannot write to {}", self.name))
    }
}

/// What a path leads to: the device and inode of a file, or of the directory in which a file of that
/// name is missing.
type Identity = (u64, u64, Option<OsString>);

fn identity(path: &Path) -> Option<Identity> {
    let number = |path: &Path| fs::metadata(path).map(|file| (file.dev(), file.ino()));
    if let Ok((device, inode)) = number(path) {
        return Some((device, inode, None));
    }
    let mut path = std::path::absolute(path).ok()?;
    // A file is created where links lead. The kernel follows no more of them.
    for _ in 0..40 {
        let Ok(target) = fs::read_link(&path) else {
            break;
        };
        path = path.parent()?.join(target);
    }
    let (device, inode) = number(path.parent()?).ok()?;
    Some((device, inode, Some(path.file_name()?.to_owned())))
}

fn is_at(path: &Path, file: &Identity) -> bool {
    identity(path).as_ref() == Some(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_not_emptied_under_any_of_its_names() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let locks = [path("lock"), path("missing")];
        fs::write(&locks[0], "content").unwrap();
        fs::hard_link(&locks[0], path("hard")).unwrap();
        std::os::unix::fs::symlink("lock", path("soft")).unwrap();
        std::os::unix::fs::symlink("missing", path("dangling")).unwrap();
        std::os::unix::fs::symlink("dangling", path("twice")).unwrap();
        for name in ["lock", "hard", "soft", "./missing", "dangling", "twice"] {
            assert!(Output::create(&path(name), &locks).is_err(), "{name}");
        }
        assert_eq!(fs::read_to_string(&locks[0]).unwrap(), "content");
        assert!(!locks[1].exists());
        assert!(Output::create(&path("other"), &locks).is_ok());
    }

    #[test]
    fn an_error_names_the_file() {
        let mut full = Output::create(Path::new("/dev/full"), &[]).unwrap();
        let error = format!("{:#}", full.print("text").unwrap_err());
        assert!(
            error.starts_with("cannot write to `/dev/full`: No space left"),
            "{error}"
        );
    }
}
