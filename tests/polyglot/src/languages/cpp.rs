//! C++, by Zig.

use anyhow::Result;
use std::fs;
use std::path::Path;

use super::{Language, c};
use crate::toolchain::ZIG;
use crate::{component, root, run};

pub(super) const LANGUAGE: Language = Language {
    name: "cpp",
    sources: &["guest/c", "tests/polyglot/guests/cpp"],
    toolchains: &[&ZIG],
    build,
};

fn build(scratch: &Path) -> Result<Vec<u8>> {
    let objects = c::objects(scratch)?;
    let module = scratch.join("guest.wasm");
    run(c::cc("c++")?
        .args([
            "-std=c++23",
            "-fno-exceptions",
            "-mexec-model=reactor",
            "-I",
        ])
        .arg(scratch)
        .arg(root().join("tests/polyglot/guests/cpp/guest.cpp"))
        .args(objects)
        .arg("-o")
        .arg(&module))?;
    component::new(&fs::read(module)?)
}
