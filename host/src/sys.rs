//! What differs between operating systems, and all `unsafe` code of this crate.
//!
//! Each system has a file with the same interface:
//! - the identity of an open file ([`Identity`]), and a second open file description of it
//!   ([`reopen`]), since a description owns the lock;
//! - the lock of the system that belongs to an open file description: [`try_lock`], [`wait`],
//!   [`unlock`], [`holder`];
//! - how the wait of a thread ends at a deadline ([`TimedWait`]), and how it is interrupted
//!   ([`Interrupter`]) without losing the interruption;
//! - the locks on ranges of a file ([`RangeLocks`]);
//! - the entries of an open directory ([`entry_at`] and others), and what identifies a process;
//! - closing a description ([`detach`]), noticing a fork ([`Process`]), and threads that receive no
//!   signals of the program ([`spawn`]).

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
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use crate::range::Span;
use crate::sync::thread;

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
    pub(crate) fn is_network(self, file: &File) -> bool {
        self.backing(file) == Backing::Network
    }
}

/// What a directory has under a name, as it was at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EntryFacts {
    pub(crate) identity: Identity,
    pub(crate) kind: EntryKind,
    /// In bytes.
    pub(crate) size: u64,
    /// How many names it has.
    pub(crate) links: u64,
    /// When the content was last changed, in seconds and nanoseconds since 1970.
    pub(crate) modified: (i64, u32),
    /// When anything of it was last changed.
    pub(crate) changed: (i64, u32),
}

/// What an entry of a directory is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum EntryKind {
    File,
    Directory,
    Symlink,
    Other,
}

/// What became of a change of what is locked in a range.
#[derive(Debug)]
pub(crate) enum RangeChange {
    Made,
    /// Another owner is in the way. Nothing has changed.
    Conflict,
    /// The system had to let go of what the owner held, and another process has these parts by now.
    /// The rest is as it was or, if that was the only thing in the way, as it should be.
    #[cfg_attr(unix, expect(dead_code, reason = "the kernel changes in one step"))]
    Lost(Vec<Span>),
}

/// The stack of a thread that calls nothing but this crate and the system, in bytes.
pub(crate) const SMALL_STACK: usize = 256 << 10;

/// Starts a thread that receives no signals of the program, except those of faults: their handlers
/// are not made for a small stack, and would cost a wait its place in the kernel's queue.
///
/// The thread is born with them blocked. If it blocked them itself, it could be late: a signal that
/// the program blocks, in order to read it from a descriptor, would go to the thread, and the program
/// would never see it.
pub(crate) fn spawn(
    name: &str,
    stack: usize,
    run: impl FnOnce() + Send + 'static,
) -> io::Result<()> {
    // A model runs all its threads on one system thread.
    let _blocked = (!cfg!(any(loom, shuttle))).then(system::without_signals);
    let thread = thread::Builder::new().name(name.into()).stack_size(stack);
    thread.spawn(run).map(drop)
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

pub(crate) use system::{
    INITIAL_PID_NAMESPACE, boot_id, create_dir, create_file, each_name, entry_at, entry_of,
    has_inner_pid, host_name, is_reaped, is_zombie, leads_nowhere, link, open_file, open_subdir,
    os_string, pid_namespace, pin, read_link, remove_dir, rename, rename_new, start_ticks, symlink,
    unlink,
};
pub(crate) use system::{
    Identity, Interrupter, Interruption, NO_LINK, OPEN_FLAGS, OpenOptionsExt, RangeLocks, Signal,
    Thread, TimedWait, WAITS_FOR_RANGES, adopt, detach, holder, kind_of, open_dir, path_of, remove,
    reopen, try_lock, unlock, wait, wait_for_range,
};
#[cfg(target_os = "macos")]
pub(crate) use system::{Kqueue, Notice, open_for_notices};
#[cfg(windows)]
pub(crate) use system::{MOST_NOTICES, Notice};
#[cfg(unix)]
pub(crate) use system::{
    OF_THIS_BOOT, attribute, exchange, flock_domain, give_name, nameless_file, set_attribute,
};
#[cfg(feature = "sandbox")]
pub(crate) use system::{read_dir, remove_empty};
