//! What differs between operating systems, and all `unsafe` code of this crate.
//!
//! Each system has a file with the same interface:
//! - the identity of an open file ([`Identity`]), and a second open file description of it
//!   ([`reopen`]), since a description owns the lock;
//! - the lock of the system that belongs to an open file description: [`try_lock`], [`wait`],
//!   [`unlock`], [`holder`];
//! - how the wait of a thread ends at a deadline ([`TimedWait`]), and how it is interrupted
//!   ([`Interrupter`]) without losing the interruption;
//! - what makes a directory entry a reliable lock, and what identifies a process (on POSIX
//!   systems);
//! - closing a description ([`detach`]), noticing a fork ([`Process`]), and threads that receive no
//!   signals of the program ([`keep_signals_away`]).

#![expect(unsafe_code, reason = "these system calls have no safe binding")]

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "macos")]
mod macos;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

use std::fmt;
#[cfg(unix)]
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

/// Identifies this process, and tells it from its forked children.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Process(u32);

impl Process {
    pub(crate) fn current() -> Self {
        Self(fork_generation())
    }

    /// Whether it is a parent of the calling process. If so, nothing that belongs to it may be
    /// touched here, and threads that do not exist here may have its mutexes locked.
    pub(crate) fn is_parent(self) -> bool {
        self.0 != fork_generation()
    }
}

/// Wakes at given times, for a system that cannot signal a thread at a given time by itself.
pub(crate) trait Alarm: fmt::Debug + Send + Sync {
    /// Wakes `waker` at `at`, once, unless the result is dropped before.
    #[cfg_attr(not(target_os = "macos"), expect(dead_code, reason = "for macOS"))]
    fn wake_at(self: Arc<Self>, at: Instant, waker: Waker) -> io::Result<Pending>;
}

/// On what the answers of a file system depend.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Backing {
    /// On the kernel alone: it is one of those known to be so.
    Kernel,
    /// On a server.
    Network,
    /// On a server or a program, perhaps, which may not answer for long.
    #[cfg_attr(
        not(target_os = "linux"),
        expect(dead_code, reason = "not told elsewhere")
    )]
    Unknown,
}

impl Identity {
    /// Whether `file`, whose identity this is, lies on a network file system.
    #[cfg(unix)]
    pub(crate) fn is_network(self, file: &File) -> bool {
        self.backing(file) == Backing::Network
    }
}

/// A wake-up to come. Dropping it cancels it.
pub(crate) type Pending = Box<dyn fmt::Debug + Send + Sync>;

#[cfg(target_os = "linux")]
use linux as system;
#[cfg(target_os = "macos")]
use macos as system;
use system::fork_generation;
#[cfg(windows)]
use windows as system;

#[cfg(not(any(target_os = "linux", target_os = "macos", windows)))]
compile_error!("locket supports the locks of Linux, macOS and Windows");

#[cfg(unix)]
pub(crate) use system::{
    INITIAL_PID_NAMESPACE, OF_THIS_BOOT, boot_id, exchange, flock_domain, give_name, has_inner_pid,
    is_zombie, leads_nowhere, nameless_file, pid_namespace, pin, query_range, rename_new,
    start_ticks, try_range, wait_for_range,
};
pub(crate) use system::{
    Identity, Interrupter, Interruption, NO_LINK, OPEN_FLAGS, OpenOptionsExt, Signal, Thread,
    TimedWait, adopt, detach, holder, keep_signals_away, kind_of, open_dir, path_of, remove,
    reopen, try_lock, unlock, wait,
};
#[cfg(target_os = "macos")]
pub(crate) use system::{Kqueue, Notice, open_for_notices};
#[cfg(feature = "sandbox")]
pub(crate) use system::{read_dir, remove_empty};
