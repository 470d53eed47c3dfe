//! Starts the command of `locket exec`.

use std::env;
use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::process::Command;

use nix::errno::Errno;
use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, PosixSpawnFlags, posix_spawnp};
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::Pid;

use crate::sys;

/// Starts a command with `variables` beside ours, with the signal mask `mask`, and with `SIGPIPE` as our caller handles it.
///
/// This process is not copied for it, as it would be to run code of ours in the child: all that the
/// loader has changed in it would have to be copied.
pub(super) fn start(
    words: &[OsString],
    variables: &[(&str, String)],
    mask: &SigSet,
) -> io::Result<Pid> {
    let string = |word: &OsStr| CString::new(word.as_bytes()).map_err(io::Error::from);
    let args: Vec<_> = words
        .iter()
        .map(|word| string(word))
        .collect::<Result<_, _>>()?;
    let variable = |(name, value): (OsString, OsString)| {
        let variable = [name.into_vec(), value.into_vec()].join(&b'=');
        CString::new(variable).map_err(io::Error::from)
    };
    let ours = env::vars_os().filter(|(name, _)| variables.iter().all(|(other, _)| name != other));
    let theirs = variables.iter();
    let theirs = theirs.map(|(name, value)| (OsString::from(name), OsString::from(value)));
    let all: Vec<_> = ours.chain(theirs).map(variable).collect::<Result<_, _>>()?;
    let mut attributes = PosixSpawnAttr::init()?;
    attributes.set_sigmask(mask)?;
    attributes.set_flags(
        PosixSpawnFlags::POSIX_SPAWN_SETSIGMASK | PosixSpawnFlags::POSIX_SPAWN_SETSIGDEF,
    )?;
    // Rust's runtime ignores it.
    let default = match sys::ignored_sigpipe() {
        true => SigSet::empty(),
        false => SigSet::from(Signal::SIGPIPE),
    };
    attributes.set_sigdefault(&default)?;
    let nothing = PosixSpawnFileActions::init()?;
    match posix_spawnp(&args[0], &nothing, &attributes, &args, &all) {
        // A script that does not say of which shell: the other way to start it knows.
        Err(Errno::ENOEXEC) => {
            let variables = variables.iter().map(|(name, value)| (name, value));
            let child = command(words, *mask).envs(variables).spawn()?;
            Ok(Pid::from_raw(child.id().cast_signed()))
        }
        started => Ok(started?),
    }
}

/// The same, to be started in another way.
pub(super) fn command(words: &[OsString], mask: SigSet) -> Command {
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    sys::prepare(&mut command, mask);
    command
}
