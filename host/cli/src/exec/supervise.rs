//! Runs the command of `locket exec` to its end, and forwards signals to it.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use rustix::process::{Pid, kill_process};
use tokio::process::Command;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit;

/// Runs a command until it ends, whatever signals arrive in the meantime.
pub(super) async fn supervise(mut command: Command) -> io::Result<ExitStatus> {
    let ignored = ignored_signals();
    let catch = |kind: SignalKind| {
        // The command must keep ignoring the signals that our caller ignores (see `nohup`).
        let ignores = ignored >> (kind.as_raw_value() - 1) & 1 == 1;
        (!ignores).then(|| signal(kind)).transpose()
    };
    let mut terminate = catch(SignalKind::terminate())?;
    let mut hang_up = catch(SignalKind::hangup())?;
    let _keyboard = (catch(SignalKind::interrupt())?, catch(SignalKind::quit())?);

    let mut child = command.spawn()?;
    // The child keeps its process identifier until it is waited for, which only `wait` below does.
    let pid = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
    let pass_on = |signal| pid.map(|pid| kill_process(pid, signal));
    loop {
        tokio::select! {
            status = child.wait() => return status,
            () = arrival(&mut terminate) => pass_on(rustix::process::Signal::TERM),
            () = arrival(&mut hang_up) => pass_on(rustix::process::Signal::HUP),
        };
    }
}

async fn arrival(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

/// The signals that this process has ignored since it started, one bit each.
fn ignored_signals() -> u64 {
    procfs::process::Process::myself()
        .and_then(|process| process.status())
        .map_or(0, |status| status.sigign)
}

/// The exit code that a shell would report.
pub(super) fn exit_code(status: ExitStatus) -> u8 {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| code.try_into().ok())
        .unwrap_or(exit::FAILURE)
}
