//! Why the command of `locket exec` or `locket trace` did not run to its end.

use std::ffi::OsStr;
use std::io;

use crate::exit::{self, ExitError};
use crate::output::shell_word;

/// What goes wrong with a command.
pub(crate) enum Failure {
    /// It could not be started.
    Start(io::Error),
    /// It was started, and how it ends cannot be known.
    Wait(io::Error),
}

impl Failure {
    /// The error for the user.
    pub(crate) fn into_error(self, program: &OsStr) -> ExitError {
        match self {
            Self::Start(e) => start_error(&e, program),
            Self::Wait(e) => {
                let name = shell_word(program);
                let message = format_args!("cannot tell how `{name}` ended: {e}");
                ExitError::new(exit::SYSTEM, message)
            }
        }
    }
}

/// The error for a command that could not be started.
pub(super) fn start_error(error: &io::Error, program: &OsStr) -> ExitError {
    let name = shell_word(program);
    if exit::is_shortage(error) || error.kind() == io::ErrorKind::WouldBlock {
        let message = format_args!("cannot start `{name}`: {error}");
        return ExitError::new(exit::SYSTEM, message);
    }
    let (code, message, mut hint) = if error.kind() == io::ErrorKind::NotFound {
        let hint = "check the spelling, PATH and, for a script, its interpreter";
        (exit::NOT_FOUND, format!("`{name}` was not found"), hint)
    } else {
        let hint = "is it a program, with permission to execute?";
        let message = format!("cannot execute `{name}`: {error}");
        (exit::CANNOT_EXECUTE, message, hint)
    };
    if name.contains(' ') {
        hint = "to run a line of the shell, use `-c`";
    }
    ExitError::new(code, format_args!("{message}; {hint}"))
}
