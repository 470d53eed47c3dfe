//! Other processes, driven line by line.
//!
//! All that lock speak one language, whether they are this program in another role or an
//! interpreter:
//!
//! - `acquire`: answers `asking`, acquires, and answers the time of the grant;
//! - `release`: notes the time, releases, and answers the time;
//! - `batch N`, for interpreters: takes so many turns, and answers how many nanoseconds they took.
//!
//! Times are of `CLOCK_MONOTONIC`, which all processes of a machine share.

use std::ffi::OsStr;
use std::fmt::Display;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::str::FromStr;
use std::thread;
use std::time::Duration;

use clap::ValueEnum;
use rustix::process::getpid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::measure::{now, spin};
use crate::methods::Turn;

pub(crate) struct Process {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Process {
    pub(crate) fn spawn(command: &mut Command) -> std::io::Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Ok(Self {
            child,
            input,
            output: BufReader::new(output),
        })
    }

    /// This program, in one of the roles that `main` knows.
    pub(crate) fn role(role: &str, words: &[&OsStr]) -> Self {
        let program = std::env::current_exe().unwrap();
        Self::spawn(Command::new(program).arg("--role").arg(role).args(words)).unwrap()
    }

    pub(crate) fn tell(&mut self, line: &str) {
        writeln!(self.input, "{line}").unwrap();
    }

    /// What it says next; nothing if it has ended.
    pub(crate) fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = self.output.read_line(&mut line).unwrap();
        (read > 0).then(|| line.trim_end().to_owned())
    }

    pub(crate) fn answer<T: FromStr>(&mut self) -> T {
        let line = self.line().expect("the process answers each command");
        line.parse()
            .unwrap_or_else(|_| panic!("an answer, and not {line}"))
    }

    pub(crate) fn ask<T: FromStr>(&mut self, line: &str) -> T {
        self.tell(line);
        self.answer()
    }

    /// Has it ask for a lock that is free.
    pub(crate) fn hold(&mut self) {
        assert_eq!(self.ask::<String>("acquire"), "asking");
        self.answer::<u64>();
    }

    /// Has it ask for a lock that is held, and returns when it sleeps: in the kernel's queue for
    /// the file of that inode, or, without one, in its own way.
    pub(crate) fn wait(&mut self, inode: Option<u64>) {
        assert_eq!(self.ask::<String>("acquire"), "asking");
        if let Some(inode) = inode {
            let end = format!(":{inode} ");
            let waits = |line: &str| line.contains("->") && line.contains(&end);
            let locks = || std::fs::read_to_string("/proc/locks").unwrap();
            while !locks().lines().any(waits) {
                thread::yield_now();
            }
        }
        self.sleeps();
    }

    /// Returns when all its threads sleep.
    pub(crate) fn sleeps(&self) {
        while !asleep(self.child.id(), None) {
            thread::yield_now();
        }
    }

    /// `SIGKILL`; answers the time just before.
    pub(crate) fn kill(&mut self) -> u64 {
        let time = now();
        self.child.kill().unwrap();
        time
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// From the release by one, once the other sleeps and a time has passed, to the moment at which
/// the other has the lock, in nanoseconds. `inode` is as for [`Process::wait`].
pub(crate) fn hand_off(
    holder: &mut Process,
    waiter: &mut Process,
    inode: Option<u64>,
    pause: Duration,
) -> f64 {
    holder.hold();
    waiter.wait(inode);
    thread::sleep(pause);
    holder.tell("release");
    let granted: u64 = waiter.answer();
    let released: u64 = holder.answer();
    waiter.ask::<u64>("release");
    granted.saturating_sub(released) as f64
}

pub(crate) fn inode(path: &Path) -> u64 {
    path.metadata().unwrap().ino()
}

/// Whether all threads of a process sleep, or this one.
pub(crate) fn asleep(process: u32, thread: Option<i32>) -> bool {
    let tasks = format!("/proc/{process}/task");
    let sleeps = |name: &OsStr| {
        let stat = std::fs::read_to_string(Path::new(&tasks).join(name).join("stat"));
        // The state follows the name, which is in brackets.
        let stat = stat.unwrap_or_default();
        let state = stat.rsplit_once(") ").map(|(_, rest)| &rest[..1]);
        matches!(state, None | Some("S" | "D"))
    };
    match thread {
        Some(thread) => sleeps(thread.to_string().as_ref()),
        None => std::fs::read_dir(&tasks)
            .unwrap()
            .all(|task| sleeps(&task.unwrap().file_name())),
    }
}

/// Answers a line.
pub(crate) fn say(answer: impl Display) {
    let mut output = std::io::stdout().lock();
    writeln!(output, "{answer}").unwrap();
    output.flush().unwrap();
}

/// What this process is told next; nothing when it is to end.
pub(crate) fn told() -> Option<String> {
    let line = std::io::stdin().lines().next();
    line.map(Result::unwrap)
}

/// For how long a holder keeps working once the waiter sleeps: programs release a lock in the midst
/// of their work.
pub(crate) const WORK: Duration = Duration::from_micros(50);

/// Where a process or thread may run: on one processor, or on all others, where there are several.
/// Left to the scheduler, some waiters would wake on the holder's processor and others on one
/// that is idle, which differs more than the methods of locking do.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Place {
    First,
    Others,
}

impl Place {
    /// Puts the calling thread there, and those that it starts.
    pub(crate) fn take(self) {
        // Those of the first thread, which are the program's.
        let all = sched_getaffinity(Some(getpid())).unwrap();
        let first = (0..CpuSet::MAX_CPU).find(|cpu| all.is_set(*cpu));
        let first = first.expect("one at least");
        let mut processors = all;
        match self {
            Self::First => {
                processors.clear();
                processors.set(first);
            }
            Self::Others if all.count() > 1 => processors.unset(first),
            Self::Others => {}
        }
        sched_setaffinity(None, &processors).unwrap();
    }
}

/// The role of one that locks, in the language above.
pub(crate) fn contend(mut turn: Turn<'_>) {
    while let Some(line) = told() {
        assert_eq!(line, "acquire");
        say("asking");
        let mut released = 0;
        turn(&mut || {
            say(now());
            told();
            spin(WORK);
            released = now();
        });
        say(released);
    }
}
