//! Whether a process that runs this command holds the lock that it waits for.
//!
//! `locket exec l -- make` may run `locket exec l` again, somewhere below. The kernel sees two
//! independent holders, and the inner one waits forever, if the outer one waits for it. Whether that is
//! so cannot be known of most programs. It is certain of a `locket exec` that acquired the lock
//! and has one child, which is this process or such a `locket exec` in its turn: it keeps the lock
//! until that child ends.

use std::fmt;
use std::fs;
use std::thread;
use std::time::Duration;

use locket::{Mode, Protocol};
use procfs::process::{ProcState, Process, Stat};

use super::open::Opened;
use crate::output::shown_path;
use crate::status::{FileNumber, KernelLock, command_of};

/// A process that runs this command, directly or not, and holds a lock that this one waits for.
pub(super) struct Ancestor {
    /// The lock, and the process, as text.
    path: String,
    process: String,
    waits_for_us: bool,
}

impl fmt::Display for Ancestor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, process, .. } = self;
        write!(f, "`{path}` is locked by {process}")
    }
}

impl Ancestor {
    /// Whether it certainly keeps the lock until this process ends.
    pub(super) fn waits_for_us(&self) -> bool {
        self.waits_for_us
    }

    /// The one that holds a lock of `opened`. If there are several, one that certainly waits for this
    /// process decides.
    pub(super) fn of_any(opened: &[Opened]) -> Option<Self> {
        let all = opened.iter().filter_map(Self::holding);
        all.min_by_key(|ancestor| !ancestor.waits_for_us)
    }

    /// The farthest one that holds the lock of `opened`, since processes that it runs may have
    /// inherited its descriptor.
    fn holding(opened: &Opened) -> Option<Self> {
        if opened.protocol == Protocol::Remote {
            return None;
        }
        let (named, file) = if opened.protocol.is_existence_lock() {
            let holder = opened.lock.holder().ok().flatten();
            // In another container, it may be the number of another process.
            let here = holder.filter(|holder| !holder.elsewhere);
            (
                here.and_then(|holder| i32::try_from(holder.pid?).ok()),
                None,
            )
        } else {
            (None, FileNumber::of(&opened.named.path).ok().flatten())
        };
        let me = i32::try_from(std::process::id()).ok()?;
        let (mut found, mut waits_for_us) = (None, true);
        let (mut child, mut pid) = (me, me);
        while let Ok(stat) = Process::new(pid).and_then(|process| process.stat()) {
            if pid != me {
                waits_for_us = waits_for_us && is_exec_of(pid, child);
            }
            let locks = file.and_then(|file| file.locks_of(pid)).unwrap_or_default();
            let mut own = locks
                .iter()
                .filter(|lock| excludes(opened, lock))
                .peekable();
            if own.peek().is_some() || named == Some(pid) {
                let acquired = own.any(|lock| lock.acquirer == Some(pid));
                found = Some(Self {
                    path: shown_path(&opened.named.path).into_owned(),
                    process: describe(&stat, pid == me),
                    waits_for_us: waits_for_us && acquired && pid != me,
                });
                if waits_for_us && acquired && pid != me {
                    break;
                }
            }
            (child, pid) = (pid, stat.ppid);
        }
        found
    }
}

/// Whether a lock that a process holds excludes the one that is wanted.
fn excludes(wanted: &Opened, held: &KernelLock) -> bool {
    let mode = wanted.named.mode;
    let one_family = wanted.protocol == held.protocol
        || wanted.protocol == Protocol::Native
        || held.protocol == Protocol::Native;
    one_family && (mode == Mode::Exclusive || held.is_exclusive())
}

/// Whether a process is `locket exec` and waits for its one child, which is its command.
fn is_exec_of(pid: i32, child: i32) -> bool {
    let of = |pid: &str, file: &str| format!("/proc/{pid}/{file}");
    let number = pid.to_string();
    let program = |pid| fs::read_link(of(pid, "exe")).ok();
    let line = fs::read(of(&number, "cmdline")).unwrap_or_default();
    let is_exec = line.split(|byte| *byte == 0).nth(1) == Some(b"exec");
    if !is_exec || program("self").is_none() || program("self") != program(&number) {
        return false;
    }
    // Adopted processes are children, too. While it sleeps, its command has not ended.
    sleeps(pid)
        && fs::read_to_string(of(&number, &format!("task/{number}/children")))
            .is_ok_and(|children| children.trim() == child.to_string())
}

/// Whether a process sleeps, or is about to: it may just have started its command.
#[expect(
    clippy::disallowed_methods,
    reason = "the system does not report that another process falls asleep"
)]
fn sleeps(pid: i32) -> bool {
    const TRIES: usize = 1000;
    const PAUSE: Duration = Duration::from_millis(1);
    for _ in 0..TRIES {
        let stat = Process::new(pid).and_then(|process| process.stat());
        match stat.and_then(|stat| stat.state()) {
            Ok(ProcState::Sleeping) => return true,
            Ok(ProcState::Running | ProcState::Waiting) => thread::sleep(PAUSE),
            _ => return false,
        }
    }
    false
}

fn describe(stat: &Stat, is_this: bool) -> String {
    match command_of(stat) {
        _ if is_this => "this process, through a descriptor that it inherited".to_owned(),
        Some(command) => format!("process {}, {command}, which runs this command", stat.pid),
        None => format!("process {}, which runs this command", stat.pid),
    }
}
