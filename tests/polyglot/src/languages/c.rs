//! C, by Zig.

use anyhow::Result;
use std::fs;
use std::path::Path;
use std::process::Command;

use super::Language;
use crate::toolchain::{ZIG, zig};
use crate::{bindings, component, root, run};

pub(super) const LANGUAGE: Language = Language {
    name: "c",
    sources: &["guest/c", "tests/polyglot/guests/c"],
    toolchains: &[&ZIG],
    build,
};

/// What a program is linked with.
const BINDINGS: [&str; 3] = ["locket.c", "locket_wit.c", "locket_wit_component_type.o"];

/// What has flock() learn of every file that is opened.
const WRAP: &str = "-Wl,--wrap=__wasi_path_open,--wrap=__wasi_fd_close,--wrap=__wasi_fd_renumber";

fn build(scratch: &Path) -> Result<Vec<u8>> {
    bindings::of_test_world(scratch)?;
    let module = scratch.join("guest.wasm");
    run(cc()?
        .arg("-mexec-model=reactor")
        .arg("-I")
        .arg(scratch)
        .arg(root().join("tests/polyglot/guests/c/guest.c"))
        .args(["test.c", "test_component_type.o"].map(|file| scratch.join(file)))
        .arg("-o")
        .arg(&module))?;
    component::new(&fs::read(module)?)
}

/// The compiler, with the bindings.
fn cc() -> Result<Command> {
    let locket = root().join("guest/c");
    let mut cc = zig("cc")?;
    cc.args(["--target=wasm32-wasi", "-std=gnu23", "-Os", "-s"])
        .args(["-Wall", "-Wextra", "-Werror", "-I"])
        .arg(&locket)
        .args(BINDINGS.map(|file| locket.join(file)));
    Ok(cc)
}

/// Builds the component of a program for Unix that calls flock().
///
/// # Errors
///
/// Where it does not build.
pub fn program(source: &Path, component: &Path) -> Result<()> {
    let locket = root().join("guest/c");
    let module = component.with_extension("core.wasm");
    run(cc()?
        .arg("-I")
        .arg(locket.join("posix"))
        .args([source, &locket.join("flock.c")])
        .args([WRAP, "-o"])
        .arg(&module))?;
    fs::write(component, component::new(&fs::read(module)?)?)?;
    Ok(())
}

/// Builds the same program for this machine.
///
/// # Errors
///
/// Where it does not build.
pub fn native_program(source: &Path, program: &Path) -> Result<()> {
    run(zig("cc")?.arg(source).arg("-o").arg(program))
}
