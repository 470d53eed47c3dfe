//! C, by Zig.

use anyhow::Result;
use std::fs;
use std::path::Path;

use super::Language;
use crate::toolchain::{ZIG, zig};
use crate::{bindings, component, root, run};

pub(super) const LANGUAGE: Language = Language {
    name: "c",
    sources: &["guest/c", "tests/polyglot/guests/c"],
    toolchains: &[&ZIG],
    build,
};

fn build(scratch: &Path) -> Result<Vec<u8>> {
    bindings::of_test_world(scratch)?;
    let locket = root().join("guest/c");
    let bindings = ["locket.c", "locket_wit.c", "locket_wit_component_type.o"];
    let test = ["test.c", "test_component_type.o"];
    let module = scratch.join("guest.wasm");
    run(zig("cc")?
        .args(["--target=wasm32-wasi", "-mexec-model=reactor", "-std=gnu23"])
        .args(["-Os", "-s", "-Wall", "-Wextra", "-Werror", "-I"])
        .arg(&locket)
        .arg("-I")
        .arg(scratch)
        .arg(root().join("tests/polyglot/guests/c/guest.c"))
        .args(bindings.map(|file| locket.join(file)))
        .args(test.map(|file| scratch.join(file)))
        .arg("-o")
        .arg(&module))?;
    component::new(&fs::read(module)?)
}
