//! SQLite in a WebAssembly component, on a live database that native programs use at the same time.
//!
//! One line before the first connection, and `rusqlite` locks as SQLite on Unix does, with a rollback
//! journal and with a write-ahead log:
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = std::env::temp_dir().join(format!("locket-sqlite-{}", std::process::id()));
//! # std::fs::create_dir_all(&folder)?;
//! # let path = folder.join("app.db");
//! # {
//! locket_sqlite::register()?;
//!
//! let db = rusqlite::Connection::open(path)?;
//! db.pragma_update(None, "journal_mode", "wal")?;
//! db.execute("create table if not exists visits (day, page)", ())?;
//! db.execute("insert into visits values (date(), ?1)", ["/index"])?;
//! # }
//! # std::fs::remove_dir_all(folder)?;
//! # Ok(())
//! # }
//! ```
//!
//! What that guarantees, what it costs and how it is built is in the
//! [README](https://github.com/locket-lock/locket/tree/main/guest/sqlite).
//!
//! # Where it runs
//!
//! In components for WASI, on a host with the interface `ranges` of `locket:lock`, such as `locket run`.
//! In native programs, SQLite's own VFS has these locks: there, `locket` is another name for it, so
//! that the same code runs in both and can be tested natively.

#[cfg(all(target_family = "wasm", not(target_os = "wasi")))]
compile_error!("a component with SQLite needs WASI: build it for wasm32-wasip2, for example");

#[cfg(target_os = "wasi")]
#[allow(unsafe_code, reason = "calls of C")]
mod component;
#[cfg(target_os = "wasi")]
use component as target;
#[cfg(not(target_os = "wasi"))]
#[allow(unsafe_code, reason = "calls of C")]
mod native;
#[cfg(not(target_os = "wasi"))]
use native as target;

use libsqlite3_sys as sqlite;
use std::ffi::c_int;
use std::fmt;

/// The name of the VFS, for `rusqlite::Connection::open_with_flags_and_vfs` and `?vfs=` in a URI.
pub const VFS: &str = "locket";

/// Registers the VFS and makes it the default, for all connections that are opened from now on.
///
/// # Errors
///
/// If SQLite was built without the VFS for Unix that this one is made of, or is out of memory.
pub fn register() -> Result<(), Error> {
    Error::of(target::register(true))
}

/// Registers the VFS without making it the default: connections ask for it by its [name](VFS).
///
/// # Errors
///
/// Those of [`register`].
pub fn register_by_name() -> Result<(), Error> {
    Error::of(target::register(false))
}

/// Why the VFS was not registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error {
    code: c_int,
}

impl Error {
    fn of(code: c_int) -> Result<(), Self> {
        match code {
            sqlite::SQLITE_OK => Ok(()),
            code => Err(Self { code }),
        }
    }

    /// The result code of SQLite.
    pub fn code(&self) -> c_int {
        self.code
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            sqlite::SQLITE_NOTFOUND => write!(
                f,
                "this SQLite has no VFS to make `{VFS}` of: build it without SQLITE_OS_OTHER"
            ),
            code => write!(
                f,
                "SQLite did not register the VFS `{VFS}`: {}",
                sqlite::code_to_str(code)
            ),
        }
    }
}

impl std::error::Error for Error {}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
