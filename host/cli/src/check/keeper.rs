//! The process that makes the scratch directory and removes it, whatever becomes of the others.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};

use super::actor::PATIENCE;
use super::mount::Place;
use crate::exit::{self, ExitError};
use crate::helper::Helper;
use crate::output::shown_path;

/// What it has made, and where that is.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Scratch {
    /// The name in the directory.
    name: String,
    pub(super) place: Place,
}

/// Makes a scratch directory, tells its name, and removes it at the end of the input.
pub(super) fn keep(dir: &Path) -> anyhow::Result<u8> {
    let made = make(dir);
    let answer = made.as_ref().map_err(|e| e.to_string());
    // The caller may have gone away, having waited for this for too long.
    let _ = writeln!(io::stdout(), "{}", serde_json::to_string(&answer)?);
    if let Ok(scratch) = &made {
        io::stdin().read_to_end(&mut Vec::new())?;
        let removed = remove(&dir.join(&scratch.name)).map_err(|e| e.to_string());
        let _ = writeln!(io::stdout(), "{}", serde_json::to_string(&removed)?);
    }
    Ok(0)
}

fn make(dir: &Path) -> io::Result<Scratch> {
    let place = Place::of(dir)?;
    let made = tempfile::Builder::new()
        .prefix(".locket-check-")
        .tempdir_in(dir)
        .map_err(without_name)?;
    let made = made.keep();
    let name = made.file_name().expect("it has a name");
    Ok(Scratch {
        name: name.to_string_lossy().into_owned(),
        place,
    })
}

/// The error of the system beneath, without the name that the user does not know.
fn without_name(error: io::Error) -> io::Error {
    let beneath = error.get_ref().and_then(std::error::Error::source);
    let beneath = beneath.and_then(|e| e.downcast_ref::<io::Error>());
    let number = beneath.and_then(io::Error::raw_os_error);
    number.map_or_else(|| error.kind().into(), io::Error::from_raw_os_error)
}

/// Another process may be about to create its last file.
fn remove(scratch: &Path) -> io::Result<()> {
    const TRIES: usize = 100;
    for _ in 1..TRIES {
        match fs::remove_dir_all(scratch) {
            Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty => {}
            removed => return removed,
        }
    }
    fs::remove_dir_all(scratch)
}

#[cfg(unix)]
fn set_apart(command: &mut Command) {
    use std::os::unix::process::CommandExt;
    command.process_group(0);
}

#[cfg(windows)]
fn set_apart(command: &mut Command) {
    use std::os::windows::process::CommandExt;
    const CREATE_NEW_PROCESS_GROUP: u32 = 0x200;
    command.creation_flags(CREATE_NEW_PROCESS_GROUP);
}

/// The process. If this is dropped, it still removes what it has made.
pub(super) struct Keeper {
    helper: Helper,
    path: PathBuf,
}

impl Keeper {
    /// Starts it. `None` if the directory does not answer.
    pub(super) fn start(dir: &Path) -> anyhow::Result<Option<(Self, Scratch)>> {
        let mut helper = Helper::start(|command| {
            command.arg("check-worker").args(["--keep", "--"]).arg(dir);
            // An interruption from the terminal must not keep it from its work.
            set_apart(command);
        })?;
        let Some(made) = helper.answer::<Result<Scratch, String>>(PATIENCE)? else {
            return Ok(None);
        };
        let scratch = made.map_err(|e| {
            let dir = shown_path(dir);
            let message = "give the path of a directory in which this user may create files";
            let message = format_args!("cannot try out `{dir}`: {e}; {message}");
            ExitError::new(exit::NO_INPUT, message)
        })?;
        let path = dir.join(&scratch.name);
        Ok(Some((Self { helper, path }, scratch)))
    }

    /// The scratch directory.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Has it removed. Returns its path, and why it is still there, if it is.
    pub(super) fn end(mut self) -> Option<(PathBuf, String)> {
        self.helper.close_input();
        let why = match self.helper.answer::<Result<(), String>>(PATIENCE) {
            Ok(Some(Ok(()))) => return None,
            Ok(Some(Err(why))) => why,
            Ok(None) => "no answer in time".to_owned(),
            Err(e) => e.to_string(),
        };
        Some((self.path, why))
    }
}
