//! AssemblyScript.

use anyhow::Result;
use std::fs;
use std::path::Path;
use std::process::Command;
use wit_parser::{Resolve, WorldId};

use super::Language;
use crate::component::{self, StringEncoding};
use crate::toolchain::{Toolchain, npm};
use crate::{root, run};

pub(super) const LANGUAGE: Language = Language {
    name: "assemblyscript",
    sources: &[
        "guest/assemblyscript",
        "tests/polyglot/guests/assemblyscript",
    ],
    toolchains: &[&ASSEMBLYSCRIPT],
    build,
};

const ASSEMBLYSCRIPT: Toolchain = Toolchain {
    name: "assemblyscript-compiler",
    packages: &["assemblyscript@0.28.20"],
    install: npm,
};

fn build(scratch: &Path) -> Result<Vec<u8>> {
    let source = "tests/polyglot/guests/assemblyscript/guest.ts";
    let world = component::world(&component::wit(), "polyglot")?;
    compile(scratch, source, &world)
}

/// Builds the example, which exports `run`.
///
/// # Errors
///
/// If it does not build.
pub fn example(scratch: &Path) -> Result<Vec<u8>> {
    let wit = root().join("guest/assemblyscript/examples/job.wit");
    let world = component::example_world(&wit, "job")?;
    compile(scratch, "guest/assemblyscript/examples/job.ts", &world)
}

fn compile(scratch: &Path, source: &str, world: &(Resolve, WorldId)) -> Result<Vec<u8>> {
    let module = scratch.join("guest.wasm");
    let asc = ASSEMBLYSCRIPT.folder()?.join("node_modules/.bin/asc");
    run(Command::new(asc)
        // It takes only paths below the folder in which it runs.
        .current_dir(root())
        .arg(source)
        .args(["-O", "--runtime", "incremental", "--use", "abort=", "-o"])
        .arg(&module))?;
    let mut module = fs::read(module)?;
    component::embed(&mut module, world, StringEncoding::UTF16)?;
    component::new(&module)
}
