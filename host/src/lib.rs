//! File locks that sandboxed WebAssembly components and native processes share.
//!
//! A lock belongs to a file. Whoever locks that file takes turns: threads, tasks and guests of
//! this process in the order in which they came; other processes by way of the kernel, whether
//! they use this crate, `flock(1)`, `cargo`, Java, or Python's `fcntl`.
//!
//! ```
//! use locket::{Engine, Mode};
//! use std::time::Duration;
//!
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("app.lock");
//! let lock = Engine::new().open(path)?;
//! {
//!     let _guard = lock.acquire(Mode::Exclusive, Duration::from_secs(30))?;
//!     // Nobody else is here.
//! }
//! let sum = lock.with_lock(None, || 4 + 3)?;
//! # assert_eq!(sum, 7);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Tasks wait with [`LockFile::acquire_async`], in whatever runtime. Guests of Wasmtime import
//! `locket:lock`, which the crate `locket-wasmtime` implements; what they may lock is up to the module
//! `sandbox`.
//!
//! # Features
//!
//! - `sandbox`: the module of that name, for hosts that run guests.
//! - `sqlite`: the protocol [`Protocol::Sqlite`], which compiles the SQLite library.
//!
//! Without them this crate depends on bindings to the operating system and a map, nothing else.
//!
//! # What it promises, and what it does not
//!
//! - Locks are advisory: they bind those who ask. They are no security boundary.
//! - A process that dies, however it dies, holds none of the kernel's locks afterwards: the kernel
//!   sees to it. Locks that are a name are taken over, as said below.
//! - A process that is stopped keeps what it holds. There is no fencing token.
//! - Whoever removes or replaces a lock file by hand breaks the lock. Waiters notice and move on
//!   to the new file; the holder learns it from [`Guard::release`].
//! - Waiting takes no processor time, whatever the number of waiters, and can be given up at any
//!   point. Where a wait cannot be had (no descriptor, timer or thread left; the file may not be
//!   opened again) tries are made instead, every 10 ms or more seldom.
//! - Within the process the order of arrival is kept. Between processes the kernel keeps it among
//!   those who wait, with one place in its queue for each process; a process has its next waiter
//!   in line before it lets go. In the microseconds between a release and the wake-up of the
//!   first in line somebody who just asks can get ahead: the kernel has no hand-off.
//!   [`EngineBuilder::hand_off`] bounds how long one process keeps a lock to itself, and
//!   [`EngineBuilder::gap`] makes room for those who poll.
//! - The kernel lets readers pass a writer who waits in another process.
//! - A forked child inherits the descriptors and must not use the locks: releasing there would
//!   release the parent's. It is refused, and makes an [`Engine`] of its own. A child that executes
//!   another program inherits nothing.
//! - The first wait installs an empty handler for one signal: `SIGSTKFLT`, or the first from
//!   `SIGRTMIN + 8` on if that has one; [`EngineBuilder::wake_signal`] chooses another. It
//!   interrupts waits, and never any thread but the waiting. Do not reset that handler while
//!   a thread waits; each wait looks whether it is there, and installs it again.
//! - Linux runs everything. The engine compiles for macOS and Windows, which is checked with
//!   every change; its tests were run for Windows only under Wine, and never on a Mac.
//!
//! # Locks that are a name
//!
//! The protocols [`Link`](Protocol::Link), [`Symlink`](Protocol::Symlink),
//! [`Mkdir`](Protocol::Mkdir), [`PidFile`](Protocol::PidFile), [`Soft`](Protocol::Soft) and
//! [`Sqlite`](Protocol::Sqlite) are for sharing a lock with programs that use them. Prefer the
//! kernel's where the choice is yours. What is different:
//!
//! - They are exclusive only. Acquiring one in shared mode is [unsupported](Error::is_unsupported).
//! - The lock stays when its holder dies. The next who tries takes it over if the lock says who made
//!   it and that is proven dead: on this host, in this process's namespace of process numbers, and
//!   gone, or started at another time, or before the last boot. Whatever else is there is held, for
//!   as long as it is there: [`LockFile::break_lock`] and [`Options::stale_after`] are for those who
//!   know better. Of several who break one lock at once, one gets it.
//! - The holder learns that it was broken: from [`LockFile::state`] and [`LockFile::lost`] where the
//!   system tells of changes in the directory, otherwise from the release, which then removes
//!   nothing that is not its own.
//! - Waiters are woken when the name changes, and look for themselves every 0.2 to 0.3 s, to find
//!   out who has died; where the system does not tell, as on macOS, every 40 to 60 ms. Between
//!   processes, whoever comes first gets it: they have no queue there. On network file systems only
//!   the looking finds what other hosts do.
//! - The holder's process number, and in most of them its host's name, are there to read for
//!   whoever may read the directory, guests included.
//! - While a lock is given back or broken, for some microseconds, the engine has a `flock` on its
//!   directory.
//! - `Link`, `Symlink` and `Mkdir` take one name and so exclude each other, as do `PidFile` and
//!   `Soft`. Do not lock one path in a protocol of the latter two and in one of the kernel: there,
//!   the file that the kernel's lock leaves behind means that it is held.
//! - filelock's `SoftFileLock` takes what it cannot read for garbage after two seconds and evicts
//!   its holder, even one who lives: the holders of `PidFile` and `Symlink`, and git. Never mix it
//!   with those.
//! - They exist on Linux and macOS, and were only ever run on Linux.
//!
//! # Systems
//!
//! - **Linux**: `flock` and open-file-description locks, which do not see each other.
//! - **macOS**: all sorts of locks exclude each other there, so one is enough. The kernel wakes all
//!   who wait for one at a time, so between processes it keeps no order. The signal is `SIGEMT`,
//!   or `SIGINFO` if that has a handler. While somebody waits in the kernel, an engine has the
//!   thread of its clock too.
//! - **Windows**: `LockFileEx` on the range that Rust's `File::lock` and fs4 lock. Not advisory: a
//!   locked file cannot be read or written through another handle, nor written at all while it is
//!   locked in shared mode. `OnRelease::Remove` needs a file system that can remove the name of an
//!   open file at once, as NTFS since Windows 10; elsewhere the file stays, and the release says
//!   that it is unsupported. What a process held that died is free soon after, and not at once.
//!   Threads are called back by events, so no signal is involved. Features beyond the engine do
//!   not exist there.

#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(all(feature = "sandbox", windows))]
compile_error!("on Windows there is the engine alone: build without the feature `sandbox`");

mod deadline;
mod engine;
mod error;
mod fairness;
mod protocol;
mod queue;
mod registry;
#[cfg(feature = "sandbox")]
#[cfg_attr(docsrs, doc(cfg(feature = "sandbox")))]
pub mod sandbox;
#[cfg(feature = "sandbox")]
#[cfg_attr(docsrs, doc(cfg(feature = "sandbox")))]
#[doc = include_str!("security.md")]
pub mod security {}
mod lock_path;
mod object;
mod sync;
mod sys;
#[cfg(feature = "sandbox")]
mod territory;
mod types;
mod waiter;
mod watch;

pub use engine::{Acquire, Engine, EngineBuilder, Guard, LockFile, Options};
pub use error::{Error, ErrorKind, Result};
pub use protocol::{Protocol, UnknownProtocol};
pub use types::{Guarantee, Holder, LostReason, Mode, OnRelease, Scope, State};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
