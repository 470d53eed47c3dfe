//! The example of the VFS for SQLite in C, which is a command and so none of
//! [`LANGUAGES`](super::LANGUAGES).

use std::fs;

use super::Language;
use crate::root;
use crate::sqlite::{Target, build_program};
use crate::toolchain::ZIG;

/// The example.
pub const LANGUAGE: Language = Language {
    name: "sqlite_c",
    sources: &["guest/c", "guest/sqlite", "tests/polyglot/src/sqlite.rs"],
    toolchains: &[&ZIG],
    build: |scratch| {
        let vfs = root().join("guest/sqlite");
        let component = scratch.join("append.wasm");
        let program = vfs.join("examples/append.c");
        build_program(Target::Component, &program, &vfs, &component)?;
        Ok(fs::read(component)?)
    },
};
