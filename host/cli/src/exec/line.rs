//! What a command line names: the locks, and the command.
//!
//! `flock(1)` takes one path, and all that follows is the command. So several paths need the `--`
//! after them, and that alone would not tell `locket exec l git checkout -- file` from three paths:
//! it is flock(1)'s line if its first word after the path is an option or a program that can be
//! found. `--also` leaves no doubt.

use std::env;
#[cfg(unix)]
use std::ffi::OsStr;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use locket::Mode;

use super::Exec;
#[cfg(windows)]
use super::windows::{is_program, shell_words};

/// A lock that the command line names.
#[derive(Clone, Debug)]
pub(super) struct Named {
    pub(super) path: PathBuf,
    pub(super) mode: Mode,
}

impl Exec {
    /// The locks.
    pub(super) fn locks(&self) -> Vec<Named> {
        let further = self.split().map_or(&[][..], |(paths, _)| paths);
        let same = [&self.path].into_iter().chain(&self.also);
        let same = same
            .map(PathBuf::as_path)
            .chain(further.iter().map(Path::new));
        let named = |path: &Path, mode| Named {
            path: path.to_owned(),
            mode,
        };
        let same = same.map(|path| named(path, self.mode()));
        let shared = self.also_shared.iter();
        same.chain(shared.map(|path| named(path, Mode::Shared)))
            .collect()
    }

    /// The command. `None` if there is only a path.
    pub(super) fn words(&self) -> Option<Vec<OsString>> {
        if let Some(line) = &self.line {
            return Some(shell_words(line));
        }
        let words = self.split().map_or(&self.command[..], |(_, words)| words);
        (!words.is_empty()).then(|| words.to_vec())
    }

    /// The further paths, and the command after them, if this is not a line of `flock(1)`.
    fn split(&self) -> Option<(&[OsString], &[OsString])> {
        let dashes = self.command.iter().position(|word| word == "--")?;
        let (paths, words) = (&self.command[..dashes], &self.command[dashes + 1..]);
        let first = paths.first()?;
        let option = paths
            .iter()
            .any(|word| word.as_encoded_bytes().starts_with(b"-"));
        let is_command = option || self.follows_dashes() || is_program(first);
        (!is_command && !words.is_empty()).then_some((paths, words))
    }

    /// Whether dashes precede the command. The parser does not tell.
    fn follows_dashes(&self) -> bool {
        let line: Vec<_> = env::args_os().collect();
        let before = line.len().checked_sub(self.command.len() + 1);
        before.is_some_and(|before| line[before] == "--")
    }
}

/// The words by which the shell of this user runs a line.
#[cfg(unix)]
fn shell_words(line: &OsStr) -> Vec<OsString> {
    let shell = env::var_os("SHELL").filter(|shell| !shell.is_empty());
    let shell = shell.unwrap_or_else(|| "sh".into());
    vec![shell, "-c".into(), line.to_owned()]
}

/// Whether the system would find a program of this name.
#[cfg(unix)]
fn is_program(name: &OsStr) -> bool {
    use rustix::fs::{Access, access};
    const DEFAULT: &str = "/bin:/usr/bin";
    let is_executable = |path: &Path| {
        path.metadata().is_ok_and(|metadata| metadata.is_file())
            && access(path, Access::EXEC_OK).is_ok()
    };
    if name.as_encoded_bytes().contains(&b'/') {
        return is_executable(Path::new(name));
    }
    let path = env::var_os("PATH").unwrap_or_else(|| DEFAULT.into());
    env::split_paths(&path).any(|dir| is_executable(&dir.join(name)))
}
