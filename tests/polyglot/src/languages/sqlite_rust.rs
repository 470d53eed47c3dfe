//! The example of the VFS for SQLite in Rust, which is a command and so none of
//! [`LANGUAGES`](super::LANGUAGES).

use build_guests::Toolchain as Rust;
use std::fs;

use super::Language;
use super::rust::RUST;
use crate::root;
use crate::toolchain::{ZIG, zig_for_rust};

/// The example.
pub const LANGUAGE: Language = Language {
    name: "sqlite_rust",
    sources: &["guest/Cargo.toml", "guest/c", "guest/sqlite", "guest/src"],
    toolchains: &[&RUST, &ZIG],
    build: |_| {
        let mut variables = zig_for_rust()?;
        // It waits for locks instead of asking again and again.
        variables.push(("LIBSQLITE3_FLAGS", "SQLITE_ENABLE_SETLK_TIMEOUT".into()));
        // Where the standard library may have been built already.
        let target = root().join("target/guests");
        let example =
            Rust::find()?.build_example("locket-sqlite", "append", &variables, &target)?;
        Ok(fs::read(example)?)
    },
};
