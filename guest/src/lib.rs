//! File locks for WebAssembly components, shared with every other guest and
//! native process of the host.
//!
//! A component that runs in a sandbox cannot call `flock`. It asks its host
//! instead, through the interface `locket:lock`, of which this crate is the
//! Rust side. A lock excludes the other components of the host, its other
//! processes, and native programs such as `flock(1)` that lock the same file.
//!
//! ```no_run
//! use locket_guest::LockFile;
//! use std::time::Duration;
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let lock = LockFile::open("/jobs/app.lock")?;
//!
//!     // Waits for up to 30 seconds, then fails.
//!     let guard = lock.acquire_timeout(Duration::from_secs(30))?;
//!     let jobs: u64 = std::fs::read_to_string("/jobs/count")?.trim().parse()?;
//!     std::fs::write("/jobs/count", (jobs + 1).to_string())?;
//!     drop(guard);
//!
//!     // Does not wait: a lock that is held by another is not an error here.
//!     match lock.try_acquire()? {
//!         Some(_guard) => println!("nobody else is about"),
//!         None => println!("somebody else was faster"),
//!     }
//!
//!     // The same in one call.
//!     locket_guest::with_lock("/jobs/app.lock", Duration::from_secs(30), || {
//!         println!("alone");
//!     })?;
//!     Ok(())
//! }
//! ```
//!
//! # Timeouts
//!
//! A timeout is a [`Duration`] of the host's monotonic clock, rounded up to
//! whole milliseconds and cut at [`u32::MAX`] of them (about 49 days). Zero
//! means one try, no timeout means to wait for ever.
//!
//! # Waiting
//!
//! While a plain acquire waits, nothing else runs in this instance. The
//! features of the crate lift that, each for one generation of WASI:
//!
//! - `async`: `LockFile::acquire_async` and `lost_async` for components of WASI
//!   0.3. Imports `locket:lock/api-async`.
//! - `poll`: `LockFile::start` and `lost` for components of WASI 0.2, which wait
//!   for several things in one `wasi:io/poll`. Imports `locket:lock/poll`.
//!
//! Without them a component imports `locket:lock/api` and nothing else. The
//! crate itself needs neither WASI nor the standard library.
//!
//! # Where it runs
//!
//! In components alone. On other targets the crate compiles, so that the code
//! that uses it can be checked and documented there, and panics when called.
//!
//! [`Duration`]: core::time::Duration

#![no_std]

extern crate alloc;

pub mod bindings;
mod error;
mod guard;
mod lock;
#[cfg(feature = "poll")]
mod poll;
mod time;

pub use bindings::api::{Holder, IoKind, LostReason, Mode, OnRelease, Options, Protocol, Scope};
pub use error::{Error, ErrorKind, Result};
pub use guard::Guard;
#[cfg(any(feature = "async", feature = "poll"))]
pub use guard::OwnedGuard;
pub use lock::{Grant, Guarantee, LockFile, State, with_lock};
#[cfg(feature = "poll")]
pub use poll::Pending;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
