//! The record of the process that created an existence lock, and the proof that it is dead.
//!
//! Four things identify a process: its host, the boot of the host, the PID namespace of its number,
//! and its start time. If one is missing or cannot be compared, nothing is proven and the holder
//! counts as alive. Unless the kernel gives [proof](super::promise), the record is the only evidence,
//! and any program can write it.

mod names;

use std::ffi::OsString;
use std::fs::File;
use std::process;
// Constant, so the model checker need not see it.
use std::sync::Mutex;

pub(in crate::backend) use self::names::parse_pid;
use crate::sys::{self, Identity, host_name};
use crate::types::{ForeignHolder, Mode};

/// What a lock records of the process that created it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::backend) struct OwnerRecord {
    /// The number of the process in its namespace.
    pub(in crate::backend) pid: u32,
    pub(in crate::backend) host: Host,
    /// When it started, if recorded.
    pub(in crate::backend) start: Option<Start>,
    /// The domain of the `flock` by which it promises to show that it lives, if it does.
    pub(in crate::backend) promise: Option<u64>,
}

/// Where a process runs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::backend) enum Host {
    /// On the host whose file system this is, in any namespace.
    Local,
    /// On the host of this name, in that namespace if recorded.
    Named(OsString, Option<u64>),
    /// Nowhere any more: it recorded that it has released the lock.
    Nowhere,
}

/// The start of a process.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::backend) struct Start {
    /// The boot identifier; 0 if unknown.
    pub(in crate::backend) boot: u128,
    /// Clock ticks since then.
    pub(in crate::backend) ticks: u64,
}

impl Start {
    fn is(self, other: Self) -> bool {
        let known = self.boot != 0 && other.boot != 0;
        self.ticks == other.ticks && (self.boot == other.boot || !known)
    }
}

impl OwnerRecord {
    /// The record of this process.
    pub(in crate::backend) fn mine() -> Self {
        static MINE: Mutex<Option<OwnerRecord>> = Mutex::new(None);
        let pid = process::id();
        // In a forked child, a thread that does not exist there may hold it indefinitely.
        let mut mine = MINE.try_lock().ok();
        // A child process has another number.
        if let Some(Some(mine)) = mine.as_deref()
            && mine.pid == pid
        {
            return mine.clone();
        }
        let claim = Self {
            pid,
            host: Host::Named(host_name(), Some(sys::pid_namespace())),
            start: start_of(pid),
            promise: None,
        };
        if let Some(mine) = &mut mine {
            **mine = Some(claim.clone());
        }
        claim
    }

    /// The holder, as far as this process can tell who that is.
    pub(in crate::backend) fn holder(&self) -> ForeignHolder {
        let (host, away) = match &self.host {
            Host::Named(host, _) => (Some(host), *host != host_name()),
            Host::Local | Host::Nowhere => (None, false),
        };
        let elsewhere = host.is_some() && !self.is_here();
        // Here, another process may have the number: in this namespace or, if the lock was passed
        // on, after this one.
        let unclear = elsewhere || self.promise.is_some() && self.is_gone();
        ForeignHolder {
            host: host.map(|host| host.to_string_lossy().into_owned()),
            pid: (away || !unclear).then_some(self.pid),
            elsewhere,
            ..ForeignHolder::new(Mode::Exclusive)
        }
    }

    /// The process of this namespace whose end frees the lock.
    pub(in crate::backend) fn watchable_pid(&self) -> Option<u32> {
        let passed_on = || self.promise.is_some() && self.is_gone();
        (self.is_here() && !passed_on()).then_some(self.pid)
    }

    /// Whether the number belongs, or belonged, to a process of this namespace.
    pub(in crate::backend) fn is_here(&self) -> bool {
        let namespace = match &self.host {
            Host::Named(host, namespace) if *host == host_name() => *namespace,
            Host::Local => None,
            Host::Named(..) | Host::Nowhere => return false,
        };
        namespace.unwrap_or(sys::INITIAL_PID_NAMESPACE) == sys::pid_namespace()
    }

    /// Whether the process that left this record in `dir` is certainly gone.
    pub(in crate::backend) fn is_dead(&self, dir: &File) -> bool {
        self.is_dead_unless(dir, sys::has_inner_pid)
    }

    /// The same. `has_inner_pid` tells whether a process in a namespace below has the number. That
    /// takes long, so it is asked last.
    pub(super) fn is_dead_unless(
        &self,
        dir: &File,
        has_inner_pid: impl FnOnce(u32) -> bool,
    ) -> bool {
        let namespace = match &self.host {
            Host::Nowhere => return true,
            Host::Named(host, namespace) if *host == host_name() => *namespace,
            Host::Local => None,
            Host::Named(..) => return false,
        };
        let boot = sys::boot_id();
        let then = self.start.map_or(0, |start| start.boot);
        let known = boot != 0 && then != 0;
        // Hosts that share a directory can have the same name. Only the boot identifier then tells
        // whether it is this host.
        if is_shared(dir) && !(known && then == boot) {
            return false;
        }
        if known && then != boot {
            return true;
        }
        // One that promised to show that it lives may have passed the lock on.
        if self.promise.is_some() || !(self.is_here() && self.is_gone()) {
            return false;
        }
        // Without a namespace, the number may be that of a process in a container.
        namespace.is_some() || !has_inner_pid(self.pid)
    }

    /// Whether the process no longer exists in this namespace.
    fn is_gone(&self) -> bool {
        let is_reaped = || sys::is_reaped(self.pid);
        if is_reaped() || sys::is_zombie(self.pid) {
            return true;
        }
        match (self.start, start_of(self.pid)) {
            (Some(then), Some(now)) => !then.is(now),
            (None, Some(_)) => false,
            // Its parent learns of its end at the same time as the waiters for its lock, and may
            // have reaped it in between.
            (_, None) => is_reaped(),
        }
    }
}

/// Whether other hosts may use the directory too.
fn is_shared(dir: &File) -> bool {
    let identity = dir.metadata().and_then(|data| Identity::of(dir, &data));
    identity.map_or(true, |identity| identity.is_network(dir))
}

/// The start of a living process.
fn start_of(pid: u32) -> Option<Start> {
    let ticks = sys::start_ticks(pid)?;
    let boot = sys::boot_id();
    Some(Start { boot, ticks })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir() -> File {
        sys::open_dir(&std::env::temp_dir()).expect("the directory can be opened")
    }

    #[test]
    fn a_living_process_is_not_dead() {
        let mine = OwnerRecord::mine();
        assert!(!mine.is_dead(&dir()));
        let read = OwnerRecord::of_name(&mine.unique_name()).expect("the name can be parsed");
        assert_eq!(read, mine);
        assert_ne!(mine.unique_name(), mine.unique_name());
        let promise = Some(u64::MAX);
        let promising = OwnerRecord { promise, ..mine };
        let read = OwnerRecord::of_own_name(&promising.unique_name());
        assert_eq!(read, Some(promising));
    }

    /// A waiter for its lock checks just when it has ended, which is when its parent reaps it.
    #[test]
    #[cfg(target_os = "linux")]
    fn a_process_that_has_ended_is_dead_while_it_is_being_reaped() {
        use rustix::event::{PollFd, PollFlags, poll};
        use rustix::process::{Pid, PidfdFlags, pidfd_open};

        for round in 0..500 {
            let mut child = process::Command::new("cat")
                .stdin(process::Stdio::piped())
                .spawn()
                .expect("the process exists");
            let claim = OwnerRecord {
                pid: child.id(),
                start: start_of(child.id()),
                ..OwnerRecord::mine()
            };
            let end = pidfd_open(Pid::from_child(&child), PidfdFlags::empty())
                .expect("the process exists");
            let waiter = std::thread::spawn(move || {
                poll(&mut [PollFd::new(&end, PollFlags::IN)], None).expect("the process ends");
                claim.is_dead(&dir())
            });
            child.wait().expect("the process ends");
            assert!(
                waiter.join().expect("the waiter does not panic"),
                "round {round}"
            );
        }
    }

    #[test]
    fn another_process_of_the_same_number_is() {
        let mut claim = OwnerRecord::mine();
        let start = claim.start.expect("the start is known");
        let ticks = start.ticks + 1;
        claim.start = Some(Start { ticks, ..start });
        assert!(claim.is_dead(&dir()));
        // So is one of an earlier boot, where boots can be told apart.
        if start.boot == 0 {
            return;
        }
        let boot = start.boot ^ 1;
        claim.start = Some(Start { boot, ..start });
        assert!(claim.is_dead(&dir()));
    }

    #[test]
    fn one_that_cannot_be_judged_lives() {
        let gone = OwnerRecord {
            pid: i32::MAX.unsigned_abs(),
            ..OwnerRecord::mine()
        };
        assert!(gone.is_dead(&dir()));
        let elsewhere = Host::Named("elsewhere".into(), None);
        let container = Host::Named(host_name(), Some(1));
        for host in [elsewhere, container] {
            let claim = OwnerRecord {
                host,
                start: None,
                ..gone.clone()
            };
            assert!(!claim.is_dead(&dir()), "{claim:?}");
        }
        // Without a namespace, the number may be that of a process below.
        let local = OwnerRecord {
            host: Host::Local,
            start: None,
            ..gone.clone()
        };
        assert!(!local.is_dead_unless(&dir(), |_| true));
        // Even if the number would be of this namespace.
        let elsewhere = OwnerRecord {
            host: Host::Named("elsewhere".into(), Some(sys::pid_namespace())),
            ..gone.clone()
        };
        assert!(!elsewhere.is_dead(&dir()));
        // No process of any namespace survives a boot.
        if sys::boot_id() == 0 {
            return;
        }
        let start = gone.start.expect("the start is known");
        let boot = start.boot ^ 1;
        let before = OwnerRecord {
            host: Host::Named(host_name(), Some(1)),
            start: Some(Start { boot, ..start }),
            ..gone
        };
        assert!(before.is_dead(&dir()));
    }
}
