//! A granted folder with ways that seem to lead out of it, and what lies outside.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use locket::sandbox::{Rights, Sandbox};
use locket::{Engine, Error, LockFile, Mode, OnRelease, Protocol};

pub(crate) struct Maze {
    dir: tempfile::TempDir,
    guest: Sandbox,
    /// Of another engine, that of the file outside.
    outside: LockFile,
    /// What is in each folder.
    names: Vec<(&'static str, BTreeSet<OsString>)>,
}

/// What came of a path.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Came {
    Locked,
    Refused,
}

impl Maze {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("granted/folder")).expect("a folder");
        fs::create_dir(at("outside")).expect("a folder");
        for file in ["granted/file", "granted/folder/file", "outside/file"] {
            fs::write(at(file), "").expect("a file");
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
            symlink(target, at("granted").join(link)).expect("a link");
        }
        let absolute = at("outside");
        symlink(absolute, at("granted/folder/absolute")).expect("a link");
        let guest = Sandbox::builder(&Engine::new())
            .grant_dir(at("granted"), "/", Rights::READ_WRITE)
            .and_then(|guest| guest.grant_dir(at("granted/folder"), "/jobs", Rights::READ_WRITE));
        let guest = guest.expect("directories").build();
        let outside = Engine::new().open(at("outside/file")).expect("a lock");
        let folders = ["", "outside", "granted", "granted/folder"];
        let names = folders.map(|folder| (folder, names(&at(folder))));
        Self {
            guest,
            outside,
            names: names.into(),
            dir,
        }
    }

    /// Opens and acquires what a path leads to. Panics if that is, or makes anything, outside of what
    /// is granted, or if the error is not of a kind that a path can cause.
    pub(crate) fn go(&self, path: &str, protocol: Protocol) -> Came {
        let lock = self.guest.open(path, Some(protocol), OnRelease::Keep);
        let came = match lock {
            Err(e) => refused(&e, path),
            Ok(lock) => match lock.acquire(Mode::Exclusive, std::time::Duration::ZERO) {
                // What has the name of such a lock and cannot be read is held.
                Err(e) if e.is_would_block() && protocol.is_existence_lock() => Came::Refused,
                Err(e) => refused(&e, path),
                Ok(_hold) => {
                    let outside = self.outside.try_acquire(Mode::Exclusive);
                    assert!(outside.expect("a try").is_some(), "{path:?} leads outside");
                    Came::Locked
                }
            },
        };
        self.clear(path);
        came
    }

    /// Removes what was made where that is granted. There is nothing else to remove.
    fn clear(&self, path: &str) {
        for (folder, before) in &self.names {
            let place = self.dir.path().join(folder);
            for made in names(&place).difference(before) {
                let granted = folder.starts_with("granted");
                assert!(granted, "{path:?} made {made:?} in {folder:?}");
                fs::remove_file(place.join(made)).expect("a file");
            }
            assert_eq!(names(&place), *before, "{path:?} removed something");
        }
    }
}

fn names(folder: &Path) -> BTreeSet<OsString> {
    let names = fs::read_dir(folder).expect("a folder");
    names
        .map(|name| name.expect("a name").file_name())
        .collect()
}

fn refused(error: &Error, path: &str) -> Came {
    assert_eq!(error.path(), Path::new(path));
    let known = error.is_invalid_path()
        || error.is_denied()
        || error.is_not_found()
        || error.is_unsupported();
    assert!(known, "{error:?}");
    Came::Refused
}
