//! Zig.

use anyhow::Result;
use std::fs;
use std::path::Path;

use super::{Language, c};
use crate::toolchain::{ZIG, zig};
use crate::{component, root, run};

pub(super) const LANGUAGE: Language = Language {
    name: "zig",
    sources: &["guest/c", "guest/zig", "tests/polyglot/guests/zig"],
    toolchains: &[&ZIG],
    build,
};

fn build(scratch: &Path) -> Result<Vec<u8>> {
    let objects = c::objects(scratch)?;
    let module = scratch.join("guest.wasm");
    let path = |file| root().join(file).display().to_string();
    run(zig("build-exe")?
        .args(["-target", "wasm32-wasi", "-O", "ReleaseSmall", "-lc"])
        .args(["-fno-entry", "-rdynamic", "-mexec-model=reactor"])
        .args(objects)
        .args(["--dep", "locket"])
        .arg(format!(
            "-Mroot={}",
            path("tests/polyglot/guests/zig/guest.zig")
        ))
        .arg(format!("-Mlocket={}", path("guest/zig/locket.zig")))
        .arg(format!("-femit-bin={}", module.display())))?;
    component::new(&fs::read(module)?)
}

/// Builds the example, a command component.
///
/// # Errors
///
/// If it does not build.
pub fn example(scratch: &Path) -> Result<Vec<u8>> {
    let module = scratch.join("job.core.wasm");
    let path = |file| root().join(file).display().to_string();
    run(zig("build-exe")?
        .args(["-target", "wasm32-wasi", "-O", "ReleaseSmall", "-lc"])
        .args(c::own_objects(scratch)?)
        .args(["--dep", "locket"])
        .arg(format!("-Mroot={}", path("guest/zig/examples/job.zig")))
        .arg(format!("-Mlocket={}", path("guest/zig/locket.zig")))
        .arg(format!("-femit-bin={}", module.display())))?;
    component::new(&fs::read(module)?)
}
