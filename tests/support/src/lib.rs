//! What the tests of every crate share. Nothing here needs Wasmtime.
//!
//! - [`waits`]: how long is too long, and waiting for a condition or a future.
//! - [`files`]: directories that are removed again, and what a file system can do.
//! - [`fuse`](mod@fuse): a file system that stops answering.
//! - [`proc_locks`]: what `/proc` shows of locks, threads and descriptors.
//! - [`process`]: programs that answer line by line, ours and those of others.
//! - [`dialogue`]: the language in which a test commands a holder of locks.
//! - [`subject`] and [`stands`]: the holders, which are threads, processes or guests.
//! - [`mod@promises`]: what every holder must be able to rely on, and the tests of that.
//! - [`protocols`]: the protocols that exist on this system, in this build.
//! - [`servers`]: lock servers, and connections to them that fail.

pub mod dialogue;
pub mod files;
pub mod fuse;
pub mod proc_locks;
pub mod process;
pub mod promises;
pub mod protocols;
#[cfg(target_os = "linux")]
pub mod servers;
pub mod stands;
pub mod subject;
pub mod waits;

use std::fmt::Arguments;
use std::io::Write as _;

#[doc(hidden)]
pub use locket::Protocol;

/// Reports what this system cannot show. It writes to standard error itself, because the test
/// runner hides what a passing test prints.
pub fn not_tested(what: Arguments<'_>) {
    let test = std::thread::current();
    let test = test.name().unwrap_or("a thread");
    let _ = writeln!(std::io::stderr(), "NOT TESTED in {test}: {what}");
}
