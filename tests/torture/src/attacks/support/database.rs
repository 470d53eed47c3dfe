//! Hostile databases, made by another program with another copy of SQLite.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};

/// The kinds that `database.py` makes. The first one is harmless.
pub const KINDS: [&str; 24] = [
    "plain table",
    "endless view",
    "view with huge rows",
    "endless triggers",
    "virtual table",
    "virtual table of no module",
    "huge generated column",
    "slow generated column",
    "slow check",
    "slow index",
    "slow partial index",
    "a million rows of others",
    "a million rows of the lock",
    "a long row",
    "a large schema",
    "a long definition",
    "a journal left behind",
    "a log left behind",
    "no database",
    "a page that is its own parent",
    "a link to a database",
    "a link to nothing",
    "a pipe",
    "a directory",
];

/// Makes one. `key` is the key of the lock in the table.
///
/// # Errors
///
/// A failure of Python.
pub fn make(kind: &str, path: &Path, key: &Path) -> Result<()> {
    let python = Command::new("python3")
        .args(["-I", "-S", "-c", include_str!("database.py"), kind])
        .args([path, key])
        .output()?;
    let errors = String::from_utf8_lossy(&python.stderr);
    ensure!(python.status.success(), "no database, {kind}: {errors}");
    Ok(())
}
