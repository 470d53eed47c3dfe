//! What this system tells of a process.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;

use procfs::process::{ProcState, Stat};

use super::report::Process;
use crate::output::shell_word;

impl Process {
    /// The process of this number, which may be gone.
    pub(super) fn of(pid: Option<i32>) -> Self {
        let stat = pid.and_then(|pid| procfs::process::Process::new(pid).ok()?.stat().ok());
        let stopped = |stat: &Stat| {
            let state = stat.state();
            state.is_ok_and(|state| matches!(state, ProcState::Stopped | ProcState::Tracing))
        };
        Self {
            pid,
            command: stat.as_ref().and_then(command_of),
            stopped: stat.as_ref().map(stopped),
            started: stat.as_ref().and_then(start_of),
        }
    }
}

/// Its command line, or only the name of its program if it has none.
pub(crate) fn command_of(stat: &Stat) -> Option<String> {
    let line = fs::read(format!("/proc/{}/cmdline", stat.pid)).ok()?;
    let line = line.strip_suffix(&[0]).unwrap_or(&line);
    if line.is_empty() {
        return Some(shell_word(OsStr::new(&stat.comm)).into_owned());
    }
    let words = line.split(|byte| *byte == 0);
    let words: Vec<_> = words
        .map(|word| shell_word(OsStr::from_bytes(word)))
        .collect();
    Some(words.join(" "))
}

fn start_of(stat: &Stat) -> Option<u64> {
    let since_boot = stat.starttime / procfs::ticks_per_second();
    Some(procfs::boot_time_secs().ok()? + since_boot)
}
