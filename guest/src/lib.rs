//! File locks for WebAssembly components, shared with other guests and native
//! processes on the host.
//!
//! A sandboxed component cannot call `flock`. This crate asks the host instead,
//! through the interface `locket:lock`. A lock excludes other components and
//! other processes on the host, including native programs that lock the same
//! file, such as `flock(1)`.
//!
//! ```no_run
//! use locket_guest::{LockFile, Mode};
//! use std::time::Duration;
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let lock = LockFile::open("/jobs/app.lock")?;
//!
//!     // Wait for at most 30 seconds.
//!     let guard = lock.acquire(Mode::Exclusive, Duration::from_secs(30))?;
//!     let jobs: u64 = std::fs::read_to_string("/jobs/count")?.trim().parse()?;
//!     std::fs::write("/jobs/count", (jobs + 1).to_string())?;
//!     drop(guard);
//!
//!     // Do not wait. Here it is not an error if another owner holds the lock.
//!     match lock.try_acquire(Mode::Exclusive)? {
//!         Some(_guard) => println!("acquired the lock"),
//!         None => println!("the lock is held"),
//!     }
//!
//!     // Open, acquire and release in one call.
//!     locket_guest::with_lock("/jobs/app.lock", Duration::from_secs(30), || {
//!         println!("holding the lock");
//!     })?;
//!     Ok(())
//! }
//! ```
//!
//! # Timeouts
//!
//! A timeout is a [`Duration`] of the host's monotonic clock, rounded up to
//! whole milliseconds and limited to [`u32::MAX`] of them (about 49 days). Zero
//! tries once. Without a timeout, an acquire waits indefinitely.
//!
//! # Waiting
//!
//! While a plain acquire waits, nothing else runs in this instance. The
//! features of the crate remove that restriction, each for one version of WASI:
//!
//! - `async`: `LockFile::acquire_async` and `lost_async` for components of WASI
//!   0.3. Imports `locket:lock/api-async`.
//! - `poll`: `LockFile::start` and `lost` for components of WASI 0.2, which wait
//!   for several things in one `wasi:io/poll`. Imports `locket:lock/poll`.
//!
//! Three more are for other locks:
//!
//! - `ranges`: `RangeFile`, for ranges of bytes. Imports `locket:lock/ranges`, and
//!   with the features above `ranges-async` and `ranges-poll`.
//! - `descriptors`: `LockFile::of` and `RangeFile::of`, for files that are open in
//!   WASI 0.2. Imports `locket:lock/descriptors`.
//! - `descriptors-p3`: the same for files that are open in WASI 0.3. Imports
//!   `locket:lock-p3/descriptors`.
//!
//! And `std` is for code that locks [`std::fs::File`]: `File` has the same methods.
//!
//! Without these features, a component imports only `locket:lock/api`. The
//! crate itself needs neither WASI nor the standard library.
//!
//! # Where it runs
//!
//! The crate works only in components. It compiles on other targets, so that
//! code that uses it can be checked and documented there, but panics when called.
//!
//! [`Duration`]: core::time::Duration

#![no_std]
#![cfg_attr(not(test), warn(clippy::disallowed_methods))]

extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

pub mod bindings;
#[cfg(any(feature = "descriptors", feature = "descriptors-p3"))]
mod descriptors;
mod error;
#[cfg(feature = "std")]
mod file;
mod guard;
mod lock;
#[cfg(feature = "poll")]
mod poll;
#[cfg(feature = "ranges")]
mod ranges;
#[cfg(feature = "async")]
mod tasks;
mod time;
mod types;

pub use bindings::api::{Holder, IoKind, LostReason, Mode, OnRelease, Options, Protocol, Scope};
#[cfg(any(feature = "descriptors", feature = "descriptors-p3"))]
pub use descriptors::Descriptor;
pub use error::{Error, ErrorKind, Result};
#[cfg(feature = "std")]
pub use file::{File, OpenOptions, TryLockError};
pub use guard::Guard;
#[cfg(any(feature = "async", feature = "poll"))]
pub use guard::OwnedGuard;
pub use lock::{LockFile, with_lock};
#[cfg(feature = "poll")]
pub use poll::Pending;
#[cfg(all(feature = "poll", feature = "ranges"))]
pub use ranges::PendingRange;
#[cfg(feature = "ranges")]
pub use ranges::{Conflict, Range, RangeFile};
pub use types::{Grant, Guarantee, State};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
