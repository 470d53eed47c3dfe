//! Runs the command of `locket exec` on Windows, in a job that ends with this process.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io::PipeReader;
use std::os::windows::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitStatus};

use locket::Guard;

use super::Exec;
use super::failure::Failure;
use crate::exit::{self, ExitError};
use crate::sys::{self, Job};

/// What became of the command.
pub(super) struct Executed(Result<Option<ExitStatus>, ExitError>);

impl Executed {
    /// It was not started.
    pub(super) fn not() -> Self {
        Self(Ok(None))
    }

    /// Returns how the command ended; `None` if it was to end before it began.
    pub(super) fn finish(self) -> Result<Option<ExitStatus>, ExitError> {
        self.0
    }
}

impl Exec {
    /// Runs the command to its end.
    pub(super) fn execute(
        &self,
        guards: &[Guard],
        words: &[OsString],
        _: Option<&PipeReader>,
    ) -> Executed {
        Executed(self.run_command(guards, words).map(Some))
    }

    /// The locks belong to this process. So if it is terminated, the command is, too.
    fn run_command(&self, guards: &[Guard], words: &[OsString]) -> Result<ExitStatus, ExitError> {
        let system = |e| ExitError::new(exit::SYSTEM, format_args!("cannot make a job: {e}"));
        // An interruption ends the command, and this process when that has ended.
        sys::ignore_interruptions().map_err(system)?;
        let job = Job::enter().map_err(system)?;
        let run = || {
            let variables = Self::variables(guards);
            let mut child = self
                .command(words)
                .envs(variables)
                .spawn()
                .map_err(Failure::Start)?;
            child.wait().map_err(Failure::Wait)
        };
        let status = run().map_err(|failure| failure.into_error(&words[0]));
        // What the command leaves behind lives on.
        job.disband().map_err(system)?;
        status
    }

    fn command(&self, words: &[OsString]) -> Command {
        let mut command = Command::new(&words[0]);
        match &self.line {
            // It has rules of its own for quotes.
            Some(line) if is_cmd(&words[0]) => {
                let mut quoted = OsString::from("\"");
                quoted.push(line);
                quoted.push("\"");
                command.args(["/D", "/S", "/C"]).raw_arg(quoted);
            }
            _ => {
                command.args(&words[1..]);
            }
        }
        command
    }

    /// Windows has no descriptors that a command inherits by their number.
    pub(super) fn run_on_descriptor(&self) -> anyhow::Result<u8> {
        let why = "there is no COMMAND, as in `locket exec app.lock -- COMMAND`; to lock an open \
                   descriptor is not available on Windows, where programs do not inherit them by number";
        Err(ExitError::new(exit::UNAVAILABLE, why).into())
    }
}

/// The words by which the shell of this user runs a line: $SHELL, which a shell from Unix sets, or else
/// that of Windows.
pub(super) fn shell_words(line: &OsStr) -> Vec<OsString> {
    let set = |name| env::var_os(name).filter(|shell| !shell.is_empty());
    let shell = set("SHELL").or_else(|| set("COMSPEC"));
    let shell = shell.unwrap_or_else(|| "cmd.exe".into());
    let option = if is_cmd(&shell) { "/C" } else { "-c" };
    vec![shell, option.into(), line.to_owned()]
}

fn is_cmd(shell: &OsStr) -> bool {
    let name = Path::new(shell).file_stem();
    name.is_some_and(|name| name.eq_ignore_ascii_case("cmd"))
}

/// Whether the system would find a program of this name.
pub(super) fn is_program(name: &OsStr) -> bool {
    let is_file = |path: &Path| {
        let extensions = env::var_os("PATHEXT").unwrap_or_else(|| ".COM;.EXE;.BAT;.CMD".into());
        let extensions = extensions.to_string_lossy().into_owned();
        let with = |extension: &str| {
            let mut name = path.as_os_str().to_owned();
            name.push(extension);
            Path::new(&name).is_file()
        };
        path.extension().is_some() && path.is_file() || extensions.split(';').any(with)
    };
    if Path::new(name).components().count() > 1 {
        return is_file(Path::new(name));
    }
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|dir| is_file(&dir.join(name)))
}

/// The code of the command. One that does not fit into what is returned ends this process at once.
#[expect(
    clippy::disallowed_methods,
    reason = "what `main` returns is a byte; the locks are released"
)]
pub(super) fn end_like(status: ExitStatus) -> u8 {
    let code = status.code().unwrap_or(exit::FAILURE.into());
    code.try_into().unwrap_or_else(|_| std::process::exit(code))
}
