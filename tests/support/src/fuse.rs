//! A file system that stops answering and comes back, at the command of a test.
//!
//! A [daemon] in a process of its own serves it through FUSE, so that the system can end the test
//! whatever hangs in it. Its files are in memory. While the file system is stopped, every call that
//! asks the daemon hangs; what those are is up to the kernel, which here keeps nothing of what it is
//! told: names, attributes, and the end of each descriptor.
//!
//! The mount does not outlive the test: the daemon removes it when its input ends, and when it has
//! been stopped for longer than any test takes.
#![cfg(target_os = "linux")]

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;
use std::{env, fmt, fs};

use crate::files::Dir;
use crate::not_tested;
use crate::process::Process;
use crate::waits::eventually;

pub mod daemon;
mod files;
mod locks;
mod tree;
mod wire;

/// What the daemon does about locks.
#[derive(Clone, Copy, Debug)]
pub struct Switches {
    /// How it answers a process that asks for one.
    pub locks: Locks,
    /// Whether it ends a wait for a lock when the kernel says that the waiter was interrupted.
    /// Many do not.
    pub honours_interrupts: bool,
}

/// Locks of a file system.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Locks {
    /// The kernel keeps them, without asking it.
    OfKernel,
    /// It keeps them.
    Kept,
    /// It has none.
    Refused,
    /// It grants all.
    Granted,
    /// It does not answer.
    Unanswered,
}

impl Locks {
    const ALL: [Self; 5] = [
        Self::OfKernel,
        Self::Kept,
        Self::Refused,
        Self::Granted,
        Self::Unanswered,
    ];
}

impl Switches {
    /// Those of a file system on which locks work.
    pub const ALL: [Self; 3] = [
        Self {
            locks: Locks::OfKernel,
            honours_interrupts: true,
        },
        Self {
            locks: Locks::Kept,
            honours_interrupts: true,
        },
        Self {
            locks: Locks::Kept,
            honours_interrupts: false,
        },
    ];
}

/// A mounted file system with one directory. Unmounted when dropped.
#[derive(Debug)]
pub struct FileSystem {
    dir: Dir,
    daemon: Option<Process>,
}

impl FileSystem {
    /// Mounts one. The daemon is this program, in which the ignored test `name` calls
    /// [`daemon::serve`]. Reports it, and returns none, if this system or its user cannot.
    ///
    /// # Panics
    ///
    /// If the daemon cannot be started.
    pub fn of_test(name: &str, switches: Switches) -> Option<Self> {
        let program = env::current_exe().expect("this test has a path");
        let mut command = Command::new(program);
        command.args([name, "--exact", "--ignored", "--nocapture"]);
        let mounted = Self::mount(&mut command, switches);
        let must = env::var_os("CI").is_some() && Path::new("/dev/fuse").exists();
        mounted
            .inspect_err(|reason| {
                assert!(!must, "CI must be able to mount FUSE: {reason}");
                not_tested(format_args!("no file system: {reason}"));
            })
            .ok()
    }

    /// Mounts one. `command` starts a program that calls [`daemon::serve`].
    ///
    /// # Errors
    ///
    /// Why this system or its user cannot.
    ///
    /// # Panics
    ///
    /// If the daemon cannot be started.
    pub fn mount(command: &mut Command, switches: Switches) -> Result<Self, String> {
        let dir = Dir::new();
        command
            .env(daemon::DIR, dir.0.path())
            .env(daemon::SWITCHES, switches.to_string())
            // A signal to the process group of the test must not end it before it unmounts.
            .process_group(0);
        let mut mounted = Self {
            dir,
            daemon: Some(Process::spawn(command)),
        };
        match mounted.answer() {
            answer if answer == daemon::DONE => Ok(mounted),
            reason => Err(reason),
        }
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        self.dir.0.path()
    }

    /// The path of a file in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path(name)
    }

    /// From now on it answers nothing.
    ///
    /// # Panics
    ///
    /// If the daemon has ended.
    pub fn stop(&mut self) {
        self.tell("stop");
    }

    /// Answers again, first what it was asked meanwhile.
    ///
    /// # Panics
    ///
    /// If the daemon has ended.
    pub fn resume(&mut self) {
        self.tell("resume");
    }

    fn tell(&mut self, command: &str) {
        let daemon = self.daemon.as_mut().expect("the daemon runs");
        daemon.send(command);
        assert_eq!(self.answer(), daemon::DONE, "{command}");
    }

    fn answer(&mut self) -> String {
        let daemon = self.daemon.as_mut().expect("the daemon runs");
        loop {
            // A test writes lines of its own.
            if let Some(answer) = daemon.answer().strip_prefix(daemon::ANSWER) {
                return answer.to_owned();
            }
        }
    }
}

impl Drop for FileSystem {
    fn drop(&mut self) {
        // It resumes, unmounts and ends when its input ends.
        self.daemon.take().map(Process::finish);
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        if self.dir().to_str().is_some_and(|dir| mounts.contains(dir)) {
            daemon::unmount(self.dir());
        }
    }
}

/// The kernel's function in which a thread waits for an answer.
const UNANSWERED: &str = "request_wait_answer";

/// The name of each thread of this process, and the function of the kernel in which it sleeps.
fn threads() -> impl Iterator<Item = (String, String)> {
    let tasks = fs::read_dir("/proc/self/task").expect("the system lists the threads");
    let read = |path: PathBuf| fs::read_to_string(path).unwrap_or_default();
    tasks.flatten().map(move |task| {
        (
            read(task.path().join("comm")),
            read(task.path().join("wchan")),
        )
    })
}

/// How many threads of this process hang in a file system of FUSE.
///
/// # Panics
///
/// If the system does not list the threads.
pub fn hanging() -> usize {
    threads().filter(|(_, place)| place == UNANSWERED).count()
}

/// How many helper threads of engines wait for a lock, of the kernel or of the file system.
///
/// # Panics
///
/// If the system does not list the threads.
pub fn waiting_helpers() -> usize {
    threads()
        .filter(|(name, _)| name.starts_with("locket-waiter"))
        .filter(|(_, place)| place == UNANSWERED || place.contains("lock"))
        .count()
}

/// Waits until that many threads of this process hang in a file system of FUSE.
///
/// # Panics
///
/// If they do not.
#[track_caller]
pub fn hang(threads: usize) {
    eventually("threads hang in the file system", || hanging() == threads);
}

impl fmt::Display for Switches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.locks, self.honours_interrupts)
    }
}

impl FromStr for Switches {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (locks, honours_interrupts) = text.split_once(' ').unwrap_or_default();
        let mut all = Locks::ALL.into_iter();
        let locks = all.find(|one| format!("{one:?}") == locks);
        let honours_interrupts = honours_interrupts.parse();
        Ok(Self {
            locks: locks.ok_or_else(|| format!("no such locks: {text}"))?,
            honours_interrupts: honours_interrupts.map_err(|e| format!("{text}: {e}"))?,
        })
    }
}
