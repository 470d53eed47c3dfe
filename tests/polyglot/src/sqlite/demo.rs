//! The component of `locket demo --sqlite`, which is kept in the repository.

use anyhow::Result;
use std::fs;
use std::path::PathBuf;

use super::{Target, guests, link};
use crate::root;

/// The component that is kept.
pub fn kept() -> PathBuf {
    root().join("host/cli/src/sqlite.wasm")
}

/// The digest of what the component that is kept was built from.
pub fn kept_digest() -> PathBuf {
    guests().join("demo.digest")
}

/// The digest of what it is built from, apart from SQLite.
///
/// # Errors
///
/// If a source cannot be read.
pub fn digest() -> Result<String> {
    let sources = [
        "guest/c/locket.c",
        "guest/c/locket.h",
        "guest/c/locket_ranges.c",
        "guest/c/locket_ranges.h",
        "guest/c/locket_wit.c",
        "guest/c/locket_wit.h",
        "guest/c/locket_wit_component_type.o",
        "guest/sqlite/internal.h",
        "guest/sqlite/lock.c",
        "guest/sqlite/locket_sqlite.h",
        "guest/sqlite/vfs.c",
        "guest/sqlite/wal_index.c",
        "tests/polyglot/guests/sqlite/demo.c",
    ];
    Ok(build_guests::digest_of(&sources, |_| true)?)
}

/// Builds it, where it is kept.
///
/// # Errors
///
/// If it does not build.
pub fn build() -> Result<()> {
    let out = tempfile::tempdir()?;
    let built = out.path().join("demo.wasm");
    let vfs = root().join("guest/sqlite");
    let sources = [guests().join("demo.c")];
    link(Target::Component, &vfs, &sources, &["-Os", "-s"], &built)?;
    fs::copy(built, kept())?;
    fs::write(kept_digest(), format!("{}\n", digest()?))?;
    Ok(())
}
