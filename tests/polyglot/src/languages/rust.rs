//! Rust, as every component is built with it; see `build-guests`.

use build_guests::Toolchain as Rust;
use std::fs;

use super::Language;
use crate::root;
use crate::toolchain::Toolchain;

pub(super) const LANGUAGE: Language = Language {
    name: "rust",
    sources: &[
        "guest/Cargo.toml",
        "guest/src",
        "tests/guests/Cargo.lock",
        "tests/guests/Cargo.toml",
        "tests/guests/polyglot",
        "tests/guests/support",
    ],
    toolchains: &[&RUST],
    build: |_| {
        // Where the standard library may have been built already.
        let target = root().join("target/guests");
        let component = Rust::find()?.build(&build_guests::workspace(), "polyglot", &target)?;
        Ok(fs::read(component)?)
    },
};

/// Not of a registry, so it is only looked for.
pub(super) const RUST: Toolchain = Toolchain {
    name: "rust",
    packages: &[],
    install: |_, _| Rust::find().map(drop),
};
