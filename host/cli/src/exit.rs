//! Exit codes, and errors that determine one.
//!
//! The codes are those of `sysexits.h` and of shells.

use std::fmt;
use std::io;

use crate::output::shown_error;

pub(crate) const FAILURE: u8 = 1;
pub(crate) const USAGE: u8 = 64;
#[cfg(any(unix, feature = "run"))]
pub(crate) const DATA: u8 = 65;
pub(crate) const NO_INPUT: u8 = 66;
pub(crate) const UNAVAILABLE: u8 = 69;
pub(crate) const SYSTEM: u8 = 71;
/// The lock was lost before the command ended.
pub(crate) const LOST: u8 = 76;
pub(crate) const CANNOT_EXECUTE: u8 = 126;
pub(crate) const NOT_FOUND: u8 = 127;
/// The code of a process killed by `SIGABRT`, which is the closest equivalent of a trap.
#[cfg(feature = "run")]
pub(crate) const TRAP: u8 = 134;
#[cfg(feature = "run")]
pub(crate) const INTERRUPTED: u8 = 130;

/// An error that makes the tool exit with a code of its own.
#[derive(Debug)]
pub(crate) struct ExitError {
    code: u8,
    message: String,
}

impl ExitError {
    pub(crate) fn new(code: u8, message: impl fmt::Display) -> Self {
        Self {
            code,
            message: message.to_string(),
        }
    }

    /// Adds a hint on how to fix it to an error of the lock engine. If the path is not the cause,
    /// the tool exits with `otherwise`.
    pub(crate) fn from_lock(error: &locket::Error, otherwise: u8) -> Self {
        let away = error.is_unavailable() || error.is_unsupported();
        let code = if away || error.os_error().is_some_and(is_shortage) {
            UNAVAILABLE
        } else if error.is_denied() || error.is_not_found() || error.is_invalid_path() {
            NO_INPUT
        } else {
            otherwise
        };
        Self::new(code, format_args!("{}{}", shown_error(error), hint(error)))
    }
}

impl fmt::Display for ExitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ExitError {}

/// Whether the system has run out of a resource.
pub(crate) fn is_shortage(error: &io::Error) -> bool {
    /// Memory, and open files of the process and of the system.
    #[cfg(unix)]
    const SHORTAGES: &[i32] = &[12, 24, 23];
    /// Open files, memory, and what else the system has.
    #[cfg(windows)]
    const SHORTAGES: &[i32] = &[4, 8, 14, 1450, 1455];
    error
        .raw_os_error()
        .is_some_and(|number| SHORTAGES.contains(&number))
        || matches!(
            error.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        )
}

fn is_name_too_long(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidFilename
}

/// What the user can do about the error.
fn hint(error: &locket::Error) -> &'static str {
    if error.is_unsupported() {
        "; try another `--protocol`, which `locket check DIR` recommends, or a path on a local file \
         system"
    } else if error.is_denied() {
        "; check the permissions: an exclusive lock needs write access to the file, except with \
         `--protocol flock`; any other lock needs read access"
    } else if error.is_not_found() {
        "; create the directory first"
    } else if error.os_error().is_some_and(is_name_too_long) {
        "; choose a shorter name"
    } else if error.is_invalid_path() {
        "; choose the path of a regular file, or a path that does not exist yet"
    } else {
        ""
    }
}

/// The exit code for an error of any kind. One without a code of its own counts as a failure of the
/// system, unless the reader of the output has gone away.
pub(crate) fn code(error: &anyhow::Error) -> u8 {
    let own = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<ExitError>());
    match own {
        Some(error) => error.code,
        None if is_broken_pipe(error) => FAILURE,
        None => SYSTEM,
    }
}

/// Whether the error is that the reader of our output has gone away. It needs no message.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
}
