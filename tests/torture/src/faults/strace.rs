//! `strace`, attached to a process to count its system calls, to make one fail, or to kill it at one.
//! It counts the calls of each thread separately.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};

use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Signal, kill_process};

/// What happens at a system call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Event {
    /// The call is not executed and fails with this error.
    Error(&'static str),
    /// The process is killed before the call is executed.
    Kill,
}

/// At which calls it happens.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum When {
    /// The n-th.
    Once(u32),
    /// The n-th and all that follow.
    From(u32),
}

/// What to do to a process.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Injection {
    /// The name of the system call.
    pub call: String,
    /// When.
    pub when: When,
    /// What.
    pub event: Event,
}

impl std::fmt::Display for Injection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "inject={}:", self.call)?;
        match self.event {
            Event::Error(error) => write!(f, "error={error}"),
            Event::Kill => write!(f, "signal=KILL"),
        }?;
        match self.when {
            When::Once(n) => write!(f, ":when={n}"),
            When::From(n) => write!(f, ":when={n}+"),
        }
    }
}

/// A process that is traced, until this ends.
#[derive(Debug)]
pub struct Strace {
    tracer: Child,
    /// Kept open, because it writes to it.
    _messages: BufReader<ChildStderr>,
}

impl Strace {
    /// Whether it is installed.
    pub fn is_there() -> bool {
        let version = Command::new("strace").arg("--version").output();
        version.is_ok_and(|output| output.status.success())
    }

    /// Traces all present and future threads of a process; writes its calls to `log`.
    pub fn attach(pid: u32, injection: Option<&Injection>, log: &Path) -> anyhow::Result<Self> {
        let mut command = Command::new("strace");
        command.args(["-f", "-p"]).arg(pid.to_string());
        command.arg("-o").arg(log);
        if let Some(injection) = injection {
            command.args(["-e", &injection.to_string()]);
        }
        // Keeps away signals for all processes of a terminal, on which it would detach too early.
        command.process_group(0).stdout(Stdio::null());
        let mut tracer = command.stderr(Stdio::piped()).spawn()?;
        let mut messages = BufReader::new(tracer.stderr.take().context("it is piped")?);
        let mut line = String::new();
        messages.read_line(&mut line)?;
        let strace = Self {
            tracer,
            _messages: messages,
        };
        ensure!(line.contains(" attached"), "strace: {}", line.trim_end());
        Ok(strace)
    }

    /// Detaches from the process, which must be alive.
    pub fn detach(mut self) -> anyhow::Result<()> {
        let pid = i32::try_from(self.tracer.id())?;
        kill_process(Pid::from_raw(pid).context("a process")?, Signal::TERM)?;
        self.tracer.wait()?;
        Ok(())
    }

    /// Waits for its end, which follows that of the process. Asked to detach from a dying process, it
    /// could hang.
    pub fn end(mut self) -> anyhow::Result<()> {
        self.tracer.wait()?;
        Ok(())
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        let _ = self.tracer.kill();
        let _ = self.tracer.wait();
    }
}

/// How often each system call occurs in a log, in the thread that makes most of them.
pub fn count(log: &str) -> BTreeMap<String, u32> {
    let mut threads: BTreeMap<(&str, &str), u32> = BTreeMap::new();
    for line in log.lines() {
        if let Some(call) = call(line) {
            *threads.entry(call).or_default() += 1;
        }
    }
    let mut calls = BTreeMap::new();
    for ((_, call), count) in threads {
        let most: &mut u32 = calls.entry(call.to_owned()).or_default();
        *most = count.max(*most);
    }
    calls
}

/// The thread and the system call of a line; none for the second line of an interrupted call, for
/// signals and for exits.
fn call(line: &str) -> Option<(&str, &str)> {
    let (thread, rest) = line.split_once(' ')?;
    let (call, _) = rest.trim_start().split_once('(')?;
    let is_name_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    (!call.is_empty() && call.chars().all(is_name_part)).then_some((thread, call))
}

/// The lines from the first injection on, or the last ones.
pub fn tail(log: &str) -> String {
    const LINES: usize = 24;
    let lines: Vec<_> = log.lines().collect();
    let injected = lines.iter().position(|line| line.contains("(INJECTED)"));
    let start = injected.unwrap_or(lines.len().saturating_sub(LINES));
    let end = lines.len().min(start + LINES);
    lines[start..end].join("\n    ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_by_thread() {
        let log = "\
            1  recvfrom(0, \"null\", 65536, 0, NULL, NULL) = 4\n\
            1  openat(AT_FDCWD, \"/a\", O_RDWR) = 3\n\
            1  futex(0x7f, FUTEX_WAIT <unfinished ...>\n\
            2  openat(AT_FDCWD, \"/b\", O_RDWR) = -1 EIO (Input/output error) (INJECTED)\n\
            2  openat(AT_FDCWD, \"/c\", O_RDWR) = 4\n\
            2  --- SIGSTKFLT {si_signo=SIGSTKFLT} ---\n\
            1  <... futex resumed>) = 0\n\
            2  +++ exited with 0 +++\n";
        let calls = [("futex", 1), ("openat", 2), ("recvfrom", 1)];
        let calls = calls.map(|(call, count)| (call.to_owned(), count));
        assert_eq!(count(log), BTreeMap::from(calls));
        assert!(tail(log).starts_with("2  openat(AT_FDCWD, \"/b\""));
    }

    #[test]
    fn an_injection_has_the_syntax_of_strace() {
        let injection = Injection {
            call: "flock".into(),
            when: When::From(2),
            event: Event::Error("EIO"),
        };
        assert_eq!(injection.to_string(), "inject=flock:error=EIO:when=2+");
        let kill = Injection {
            when: When::Once(1),
            event: Event::Kill,
            ..injection
        };
        assert_eq!(kill.to_string(), "inject=flock:signal=KILL:when=1");
    }
}
