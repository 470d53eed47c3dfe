//! What macOS and Windows tell of a process.

use sysinfo::{Pid, ProcessRefreshKind, ProcessStatus, ProcessesToUpdate, System, UpdateKind};

use super::report::Process;
use crate::output::{one_line, shell_word};

impl Process {
    /// The process of this number, which may be gone.
    pub(super) fn of(pid: Option<i32>) -> Self {
        let number = pid.and_then(|pid| usize::try_from(pid).ok()).map(Pid::from);
        let mut system = System::new();
        if let Some(number) = number {
            let what = ProcessRefreshKind::nothing()
                .with_cmd(UpdateKind::Always)
                .with_exe(UpdateKind::Always);
            system.refresh_processes_specifics(ProcessesToUpdate::Some(&[number]), true, what);
        }
        let process = number.and_then(|number| system.process(number));
        let command = |process: &sysinfo::Process| match (process.cmd(), process.exe()) {
            ([], Some(program)) => shell_word(program.as_os_str()).into_owned(),
            ([], None) => shell_word(process.name()).into_owned(),
            (words, _) => one_line(words),
        };
        // Windows does not stop processes.
        let stopped = |process: &sysinfo::Process| process.status() == ProcessStatus::Stop;
        Self {
            pid,
            command: process.map(command),
            stopped: process.map(stopped),
            started: process.map(sysinfo::Process::start_time),
        }
    }
}
