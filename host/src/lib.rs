//! File locks that sandboxed WebAssembly components and native processes share.
//!
//! A lock belongs to a file. All programs that lock that file take turns. Threads, tasks and
//! guests of this process take turns in the order in which they arrive. Other processes take part
//! through the kernel, whether they use this crate, `flock(1)`, `cargo`, Java, or Python's `fcntl`.
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
//!     // No other holder until the guard is dropped.
//! }
//! let sum = lock.with_lock(None, || 4 + 3)?;
//! # assert_eq!(sum, 7);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Tasks wait with [`LockFile::acquire_async`], in any runtime. Guests of Wasmtime import
//! `locket:lock`, which the crate `locket-wasmtime` implements. The module `sandbox` decides which
//! files a guest may lock.
//!
//! # Features
//!
//! - `sandbox`: the module of that name, for hosts that run guests.
//! - `sqlite`: the protocol [`Protocol::Sqlite`], which compiles the SQLite library.
//!
//! Without them, this crate depends only on bindings to the operating system and on a map.
//!
//! # What it promises, and what it does not
//!
//! - Locks are advisory: they bind only programs that ask for them. They are not a security
//!   boundary.
//! - The kernel releases the kernel locks of a process that dies, however it dies. Existence locks
//!   remain, and are taken over as described below.
//! - A stopped process keeps what it holds. There is no fencing token.
//! - Removing, moving or replacing a lock file by hand breaks the lock. Waiters notice and move on
//!   to the new file; the holder gets an error from [`Guard::release`].
//! - Waiting uses no processor time, however many waiters there are, and any wait can be canceled.
//!   If the engine cannot wait in the kernel (no descriptor, timer or thread left, or no permission
//!   to reopen the file), its timer thread polls every 10 ms or less often. If not even that thread
//!   can be started, a wait fails with the error of the system; a try does not need it.
//! - Within a process, waiters are served in order of arrival. Between processes, the kernel keeps
//!   the order of its waiters, and each process has one place in that queue; before a process lets
//!   go, its next waiter is sent there. Between a release and the wake-up of the first waiter, some
//!   microseconds later, a newcomer can get ahead, because the kernel has no hand-off.
//!   If a process gives up its place, those behind it queue anew, and may change places.
//!   [`EngineBuilder::hand_off`] bounds how long one process keeps a lock to itself.
//! - So that newcomers do not get ahead for long, an engine that has held a lock for 5 ms leaves it
//!   alone for 0.3 ms after the release. Its own waiters queue after that
//!   ([`EngineBuilder::fairness_pause`]).
//! - The kernel lets readers pass a writer that waits in another process, until such a pause.
//! - A forked child shares the parent's descriptors, so a release there would release the parent's
//!   lock. Locket refuses; create a new [`Engine`] in the child. A child that executes another
//!   program inherits nothing.
//! - The first wait installs an empty handler for one signal: `SIGSTKFLT`, or, if that has a
//!   handler, the first free one from `SIGRTMIN + 8` on. [`EngineBuilder::wake_signal`] chooses
//!   another. The signal interrupts waits, and is only ever sent to the waiting thread. Do not
//!   reset the handler while a thread waits; each wait checks that it is in place, and reinstalls
//!   it if it is not.
//! - Everything runs on Linux. This crate is also complete on Windows, where its tests have run only
//!   under Wine, and compiles for macOS, where nothing has been run. Every change is checked for both.
//!
//! # Existence locks
//!
//! A process holds an existence lock for as long as a file, link, directory or row exists. The
//! protocols [`Link`](Protocol::Link), [`Symlink`](Protocol::Symlink),
//! [`Mkdir`](Protocol::Mkdir), [`PidFile`](Protocol::PidFile), [`Soft`](Protocol::Soft) and
//! [`Sqlite`](Protocol::Sqlite) are for sharing a lock with programs that use them. If the choice
//! is yours, prefer a kernel lock. What is different:
//!
//! - They are exclusive only. Acquiring one in shared mode is [unsupported](Error::is_unsupported).
//! - The lock remains when its holder dies. The next process that tries takes it over if that
//!   holder is proven dead. In `Link`, `Mkdir`, `PidFile` and `Soft`, the kernel proves it: while it
//!   holds the lock, a process also keeps a `flock` on its entry, and the entry says so. The death
//!   shows in every container and under every host name, after a reboot, and if the number of the
//!   process is in use again. A child that inherits the descriptor keeps the lock (see
//!   [`Guard`]), and a process that closes all of its descriptors gives it up, as with a kernel
//!   lock. On a network file system this counts within one host. In `PidFile` and `Soft` that file
//!   is the lock file itself, so programs that `flock` it wait for the holder, too.
//! - In the other protocols, and for entries of other programs, the record has to prove it: the
//!   holder ran on this host, in this process's PID namespace, and is gone, started before the last
//!   boot, or its number now belongs to a process with another start time. Any other lock counts as
//!   held for as long as it exists. [`LockFile::break_lock`] and [`Options::stale_after`] are for
//!   callers that know better. If several break one lock at once, one of them gets it.
//! - The holder of a broken lock learns of the loss from [`LockFile::state`] and
//!   [`LockFile::lost`] if the system reports changes of the directory, otherwise from the release.
//!   The release then removes only what is its own.
//! - For each awaited lock, one thread waits on behalf of all waiters here. It is notified when the
//!   entry changes or its holder ends, and then tries at once. Otherwise it tries every 5 to 7.5 s;
//!   every 0.2 to 0.3 s if other hosts, an age or something that is not reported can free the lock;
//!   and every 40 to 60 ms if the system cannot notify it, as for rows on macOS. Windows notifies an
//!   engine of at most 63 directories and processes at once. There is no queue between processes: the
//!   first to try gets the lock.
//! - Anyone who can read the directory, guests included, can read the holder's process number, and
//!   in most protocols the name of its host.
//! - While the engine gives back or breaks a lock, it holds a `flock` on the directory for some
//!   microseconds.
//! - `Link`, `Symlink` and `Mkdir` use the same name and so exclude each other, as do `PidFile` and
//!   `Soft`. Do not lock one path both in one of the latter two and in a kernel protocol: they take
//!   the file that a kernel lock leaves behind for a held lock.
//! - filelock's `SoftFileLock` discards what it cannot read after two seconds, and so evicts its
//!   holder, even a live one. That affects holders of `PidFile` and `Symlink`, and git. Never mix
//!   it with those.
//! - On Windows no file is kept locked to show that its holder lives. The number of a process and the
//!   time of its creation prove the death; `PidFile` has the number only. `Symlink` is unsupported
//!   unless the process may create symbolic links. The directory of a lock can be neither renamed nor
//!   removed while the lock is open here. The name of a lock is free for a moment while it is taken
//!   over. A program that has the entry open, and does not share its removal, delays a release or a
//!   takeover; after ten seconds the release fails, and is tried again.
//!
//! # Systems
//!
//! - **Linux**: `flock` and open-file-description locks, which do not see each other.
//! - **macOS**: all kinds of locks exclude each other, so one is enough. The kernel wakes all
//!   waiters of a lock at once, so it keeps no order between processes. The signal is `SIGEMT`, or
//!   `SIGINFO` if `SIGEMT` has a handler. While a thread waits in the kernel, the engine's timer
//!   thread runs too.
//! - **Windows**: `LockFileEx` on the range that Rust's `File::lock` and fs4 lock. It is not
//!   advisory: a locked file cannot be read or written through another handle, nor written at all
//!   while it is locked in shared mode. `OnRelease::Remove` needs a file system that can remove the
//!   name of an open file at once, as NTFS can since Windows 10; on others the file stays, and the
//!   release reports that it is unsupported. The locks of a process that died become free soon
//!   after, but not at once. Events interrupt the threads, so no signal is involved. Ranges are kept
//!   in pieces, and a waiter tries every 10 ms or less often; see [`Engine::open_ranges`].

#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(not(test), warn(clippy::disallowed_methods))]

mod acquire;
mod acquire_all;
mod backend;
mod deadline;
mod deadlock;
mod engine;
mod error;
mod fairness;
mod fencing;
mod guard;
mod handle;
mod lock_file;
mod lock_path;
mod object;
mod options;
mod owner;
mod protocol;
mod queue;
mod range;
mod ranged;
mod ranges;
mod registry;
#[cfg(feature = "remote")]
mod remote;
#[cfg(feature = "sandbox")]
#[cfg_attr(docsrs, doc(cfg(feature = "sandbox")))]
pub mod sandbox;
#[cfg(feature = "sandbox")]
#[cfg_attr(docsrs, doc(cfg(feature = "sandbox")))]
#[doc = include_str!("security.md")]
pub mod security {}
#[cfg(feature = "etcd")]
#[cfg_attr(docsrs, doc(cfg(feature = "etcd")))]
#[doc = include_str!("remote/etcd.md")]
pub mod etcd {}
#[cfg(feature = "postgres")]
#[cfg_attr(docsrs, doc(cfg(feature = "postgres")))]
#[doc = include_str!("remote/postgres.md")]
pub mod postgres {}
#[cfg(feature = "serde")]
mod serialize;
mod services;
mod snapshot;
mod sync;
mod sys;
mod table;
#[cfg(feature = "sandbox")]
mod territory;
mod timer;
mod types;
mod waiter;
mod watch;

pub use acquire::Acquire;
pub use acquire_all::AcquireAll;
pub use engine::{Engine, EngineBuilder};
pub use error::{Error, ErrorKind, Result};
pub use guard::Guard;
pub use lock_file::LockFile;
pub use options::Options;
pub use protocol::{Protocol, UnknownProtocol};
pub use range::Range;
pub use ranges::{HeldRange, LockRange, RangeFile};
#[cfg(feature = "remote")]
#[cfg_attr(docsrs, doc(cfg(any(feature = "etcd", feature = "postgres"))))]
pub use remote::{Remote, RemoteBuilder};
pub use snapshot::RangesSnapshot;
pub use snapshot::{ClientSnapshot, LockSnapshot, Snapshot};
pub use types::{Guarantee, Holder, LostReason, Mode, OnRelease, Owner, Scope, State, Totals};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
