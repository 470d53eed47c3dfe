//! Keeps the directories of guests and the databases of the host apart.
//!
//! A guest that can lock, fill or replace a database can block the programs that use it, and make
//! the host run what is in it. So a database is refused beneath a granted directory, and a
//! directory above a database cannot be granted. Directories are compared by identity, whatever
//! their paths.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use crate::lock_path::Identity;
use crate::sync::{Mutex, lock};

/// The directories of the guests of one engine, and its databases.
#[derive(Debug, Default)]
pub(crate) struct Territories(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// How often each directory is granted.
    granted: HashMap<Identity, usize>,
    /// Each database that was ever named, with the directories above it.
    databases: HashMap<PathBuf, Vec<Identity>>,
}

impl Territories {
    /// Records that a directory is granted. Fails if a database lies in it, or below it.
    pub(crate) fn claim(&self, dir: Identity) -> io::Result<()> {
        let mut state = lock(&self.0);
        *state.granted.entry(dir).or_default() += 1;
        let suspects = state.databases.iter();
        let suspects = suspects.filter(|(_, dirs)| dirs.contains(&dir));
        let suspects: Vec<_> = suspects.map(|(database, _)| database.clone()).collect();
        drop(state);
        // A directory that is gone may have left its number to this one, so look again.
        let beneath = |database: &PathBuf| above(database).is_ok_and(|dirs| dirs.contains(&dir));
        match suspects.into_iter().find(beneath) {
            Some(database) => {
                self.leave(dir);
                Err(refused(&database))
            }
            None => Ok(()),
        }
    }

    /// Takes one grant of the directory back.
    pub(crate) fn leave(&self, dir: Identity) {
        let mut state = lock(&self.0);
        if let Some(count) = state.granted.get_mut(&dir) {
            *count -= 1;
            if *count == 0 {
                state.granted.remove(&dir);
            }
        }
    }

    /// Records a database of the host. Fails if it lies in a granted directory, or below one.
    pub(crate) fn keep_out(&self, database: &Path) -> io::Result<()> {
        // Looked up each time, since directories can be moved, and not under the mutex.
        let dirs = above(database)?;
        let mut state = lock(&self.0);
        if dirs.iter().any(|dir| state.granted.contains_key(dir)) {
            return Err(refused(database));
        }
        state.databases.insert(database.to_owned(), dirs);
        Ok(())
    }
}

/// The directories above a file.
fn above(file: &Path) -> io::Result<Vec<Identity>> {
    let file = std::path::absolute(file)?;
    let parent = file.parent().unwrap_or(&file).canonicalize();
    let parent = parent.map_err(|e| about(e.kind(), &e, &file))?;
    let mut dirs = Vec::new();
    for dir in parent.ancestors() {
        dirs.extend(Identity::at(dir, true)?);
    }
    Ok(dirs)
}

fn refused(database: &Path) -> io::Error {
    let why = "a guest may lock files in its directory; keep the database elsewhere";
    about(io::ErrorKind::PermissionDenied, &why, database)
}

fn about(kind: io::ErrorKind, what: &dyn std::fmt::Display, database: &Path) -> io::Error {
    io::Error::new(kind, format!("{}: {what}", database.display()))
}
