//! No language: the component that gives guests of every language locks where the host has none.

use build_guests::Toolchain as Rust;
use std::fs;

use super::Language;
use super::rust::RUST;
use crate::root;

/// How it is built, as a guest is.
pub const PROVIDER: Language = Language {
    name: "provider",
    sources: &[
        "guest/provider/Cargo.lock",
        "guest/provider/Cargo.toml",
        "guest/provider/src",
        "guest/provider/wit",
        "tests/guests/freestanding",
    ],
    toolchains: &[&RUST],
    build: |_| {
        // Where the standard library may have been built already.
        let target = root().join("target/guests");
        let component = Rust::find()?.build(&root().join("guest/provider"), "provider", &target)?;
        Ok(fs::read(component)?)
    },
};
