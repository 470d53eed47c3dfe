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
    packages: &["assemblyscript@0.28.20", "@assemblyscript/wasi-shim@0.1.0"],
    install: npm,
};

fn build(scratch: &Path) -> Result<Vec<u8>> {
    let source = "tests/polyglot/guests/assemblyscript/guest.ts";
    let world = component::world(&component::wit(), "polyglot")?;
    let options = ["--runtime", "incremental", "--use", "abort="];
    compile(root(), source, &options, &world, scratch)
}

/// Builds the example, a command component.
///
/// # Errors
///
/// If it does not build.
pub fn example(scratch: &Path) -> Result<Vec<u8>> {
    let package = root().join("guest/assemblyscript");
    let world = component::example_world(&package.join("examples/job.wit"), "job")?;
    // It imports the package from its own folder.
    for file in ["locket.ts", "examples/job.ts"] {
        let name = Path::new(file).file_name().expect("a file has a name");
        fs::copy(package.join(file), scratch.join(name))?;
    }
    let modules = ASSEMBLYSCRIPT.folder()?.join("node_modules");
    // The compiler looks for the library of a configuration below the folder in which it runs.
    std::os::unix::fs::symlink(modules, scratch.join("node_modules"))?;
    let options = [
        "--config",
        "node_modules/@assemblyscript/wasi-shim/asconfig.json",
    ];
    compile(scratch, "job.ts", &options, &world, scratch)
}

/// Compiles a file below a folder: the compiler takes no other paths.
fn compile(
    folder: &Path,
    source: &str,
    options: &[&str],
    world: &(Resolve, WorldId),
    scratch: &Path,
) -> Result<Vec<u8>> {
    let module = scratch.join("guest.wasm");
    let asc = ASSEMBLYSCRIPT.folder()?.join("node_modules/.bin/asc");
    run(Command::new(asc)
        .current_dir(folder)
        .args([source, "-O"])
        .args(options)
        .arg("-o")
        .arg(&module))?;
    let mut module = fs::read(module)?;
    component::embed(&mut module, world, StringEncoding::UTF16)?;
    component::new(&module)
}
