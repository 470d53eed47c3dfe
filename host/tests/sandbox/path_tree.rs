//! A granted folder with links that seem to lead out of it, and what lies outside.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use locket::sandbox::{Rights, Sandbox};
use locket::{Engine, Error, LockFile, Mode, OnRelease, Protocol};

pub(crate) struct PathTree {
    dir: tempfile::TempDir,
    guest: Sandbox,
    /// The lock of the file outside, in another engine.
    outside: LockFile,
    /// The entries of each folder.
    names: Vec<(&'static str, BTreeSet<OsString>)>,
}

/// The result of opening a path.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Outcome {
    Locked,
    Refused,
}

impl PathTree {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder can be made");
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("granted/folder")).expect("a folder can be made");
        fs::create_dir(at("outside")).expect("a folder can be made");
        for file in ["granted/file", "granted/folder/file", "outside/file"] {
            fs::write(at(file), "").expect("a file can be written");
        }
        let links = [
            ("../outside", "out"),
            ("..", "up"),
            ("/", "root"),
            ("../outside/file", "file_out"),
            ("../outside/new", "new_out"),
            ("file", "in"),
            ("loop", "loop"),
            ("../granted/file", "around"),
        ];
        for (target, link) in links {
            symlink(target, at("granted").join(link)).expect("a link can be made");
        }
        let absolute = at("outside");
        symlink(absolute, at("granted/folder/absolute")).expect("a link can be made");
        let guest = Sandbox::builder(&Engine::new())
            .grant_dir(at("granted"), "/", Rights::READ_WRITE)
            .and_then(|guest| guest.grant_dir(at("granted/folder"), "/jobs", Rights::READ_WRITE));
        let guest = guest.expect("the folders can be granted").build();
        let outside = Engine::new()
            .open(at("outside/file"))
            .expect("the file can be opened");
        let folders = ["", "outside", "granted", "granted/folder"];
        let names = folders.map(|folder| (folder, names(&at(folder))));
        Self {
            guest,
            outside,
            names: names.into(),
            dir,
        }
    }

    /// Opens and acquires the file that a path leads to. Panics if that file is outside of what is granted,
    /// if anything is made outside, or if the error is not of a kind that a path can cause.
    pub(crate) fn go(&self, path: &str, protocol: Protocol) -> Outcome {
        let lock = self.guest.open(path, Some(protocol), OnRelease::Keep);
        let outcome = match lock {
            Err(e) => refused(&e, path),
            Ok(lock) => match lock.acquire(Mode::Exclusive, std::time::Duration::ZERO) {
                // An entry in the place of an existence lock that cannot be read is held.
                Err(e) if e.is_would_block() && protocol.is_existence_lock() => Outcome::Refused,
                Err(e) => refused(&e, path),
                Ok(_hold) => {
                    let outside = self.outside.try_acquire(Mode::Exclusive);
                    assert!(
                        outside.expect("the lock can be tried").is_some(),
                        "{path:?} leads outside"
                    );
                    Outcome::Locked
                }
            },
        };
        self.clear(path);
        outcome
    }

    /// Removes the files that were made in what is granted. There must be no others.
    fn clear(&self, path: &str) {
        for (folder, before) in &self.names {
            let place = self.dir.path().join(folder);
            for made in names(&place).difference(before) {
                let granted = folder.starts_with("granted");
                assert!(granted, "{path:?} made {made:?} in {folder:?}");
                fs::remove_file(place.join(made)).expect("the file can be removed");
            }
            assert_eq!(names(&place), *before, "{path:?} removed something");
        }
    }
}

fn names(folder: &Path) -> BTreeSet<OsString> {
    let names = fs::read_dir(folder).expect("the folder can be read");
    names
        .map(|name| name.expect("the folder can be read").file_name())
        .collect()
}

fn refused(error: &Error, path: &str) -> Outcome {
    assert_eq!(error.path(), Path::new(path));
    let known = error.is_invalid_path()
        || error.is_denied()
        || error.is_not_found()
        || error.is_unsupported();
    assert!(known, "{error:?}");
    Outcome::Refused
}
