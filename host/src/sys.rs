//! What differs from one operating system to the next, and with it all `unsafe` of this crate.
//!
//! There is a file for each system, with the same interface:
//! - which file an open one is ([`Identity`]), and a second open file description of it
//!   ([`reopen`]), since that is what owns a lock;
//! - the lock of the system that belongs to an open file description: [`try_lock`], [`wait`],
//!   [`unlock`], [`holder`];
//! - how the wait of a thread ends at a deadline ([`TimedWait`]) and how it is called back
//!   ([`Interrupter`]), without losing the call;
//! - what makes a name in a directory a lock that can be relied on, and what tells one process from
//!   another (on POSIX systems);
//! - giving a description up ([`detach`]), noticing a fork ([`Process`]), and threads
//!   that are none of the program's business ([`keep_signals_away`]).

#![expect(unsafe_code, reason = "these system calls have no safe binding")]

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "macos")]
mod macos;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

/// The process that this is, as long as it is not forked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Process(u32);

impl Process {
    pub(crate) fn current() -> Self {
        Self(fork_generation())
    }

    /// Whether it is a parent of the process in which this is called: whatever belongs to it is not
    /// to be touched here, and its mutexes may be locked by threads that do not exist here.
    pub(crate) fn is_parent(self) -> bool {
        self.0 != fork_generation()
    }
}

#[cfg(target_os = "linux")]
use linux as system;
#[cfg(target_os = "macos")]
use macos as system;
use system::fork_generation;
#[cfg(windows)]
use windows as system;

#[cfg(not(any(target_os = "linux", target_os = "macos", windows)))]
compile_error!("locket knows the locks of Linux, macOS and Windows");

#[cfg(all(unix, any(feature = "sandbox", feature = "sqlite")))]
pub(crate) use system::path_of;
#[cfg(unix)]
pub(crate) use system::{
    INITIAL_PID_NAMESPACE, boot_id, exchange, give_name, has_inner_pid, is_zombie, leads_nowhere,
    nameless_file, pid_namespace, pin, rename_new, start_ticks,
};
pub(crate) use system::{
    Identity, Interrupter, Interruption, NO_LINK, OPEN_FLAGS, OpenOptionsExt, Signal, Thread,
    TimedWait, detach, has_name, holder, keep_signals_away, kind_of, open_dir, remove, reopen,
    try_lock, unlock, wait,
};
#[cfg(feature = "sandbox")]
pub(crate) use system::{read_dir, remove_empty};
