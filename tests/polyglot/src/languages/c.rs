//! C, by Zig.

use anyhow::Result;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Language;
use crate::toolchain::{ZIG, zig};
use crate::{alone, bindings, component, folder, root, run};

pub(super) const LANGUAGE: Language = Language {
    name: "c",
    sources: &["guest/c", "tests/polyglot/guests/c"],
    toolchains: &[&ZIG],
    build,
};

fn build(scratch: &Path) -> Result<Vec<u8>> {
    let objects = objects(scratch)?;
    let module = scratch.join("guest.wasm");
    run(cc("cc")?
        .args(["-std=gnu23", "-mexec-model=reactor", "-I"])
        .arg(scratch)
        .arg(root().join("tests/polyglot/guests/c/guest.c"))
        .args(objects)
        .arg("-o")
        .arg(&module))?;
    component::new(&fs::read(module)?)
}

/// A compiler of C or C++ for components.
pub(super) fn cc(compiler: &str) -> Result<Command> {
    let mut cc = zig(compiler)?;
    cc.args(["--target=wasm32-wasi", "-Os", "-s"])
        .args(["-Wall", "-Wextra", "-Werror", "-I"])
        .arg(root().join("guest/c"));
    Ok(cc)
}

/// Compiles the bindings, and generates and compiles those of the test world with its header, into
/// the scratch folder. What a guest is linked with.
pub(super) fn objects(scratch: &Path) -> Result<Vec<PathBuf>> {
    bindings::of_test_world(scratch)?;
    let mut objects = own_objects(scratch)?;
    objects.push(scratch.join("test_component_type.o"));
    objects.extend(compile(scratch, &[scratch.join("test.c")])?);
    Ok(objects)
}

/// Compiles the bindings into the scratch folder. What a component without a world of its own is linked
/// with.
pub(super) fn own_objects(scratch: &Path) -> Result<Vec<PathBuf>> {
    let locket = root().join("guest/c");
    let sources = ["locket.c", "locket_wit.c"].map(|file| locket.join(file));
    let mut objects = vec![locket.join("locket_wit_component_type.o")];
    objects.extend(compile(scratch, &sources)?);
    Ok(objects)
}

fn compile(scratch: &Path, sources: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut objects = Vec::new();
    for source in sources {
        let name = source.file_name().expect("a source is a file");
        let object = scratch.join(name).with_extension("o");
        run(cc("cc")?
            .args(["-std=gnu23", "-c"])
            .arg(source)
            .arg("-o")
            .arg(&object))?;
        objects.push(object);
    }
    Ok(objects)
}

/// Builds the component of a program for Unix that locks, with the library for such programs.
///
/// # Errors
///
/// Where it does not build.
pub fn program(source: &Path, component: &Path, flags: &[&str]) -> Result<()> {
    let library = posix_library()?;
    let module = component.with_extension("core.wasm");
    run(cc("cc")?
        .arg("-I")
        .arg(root().join("guest/c/posix"))
        .args(flags)
        // The linker of Zig has its own C library before the program's files.
        .arg("-Wl,--whole-archive")
        .arg(library)
        .arg("-Wl,--no-whole-archive")
        .arg(source)
        .arg("-o")
        .arg(&module))?;
    fs::write(component, component::new(&fs::read(module)?)?)?;
    Ok(())
}

/// The library, as its makefile builds it.
fn posix_library() -> Result<PathBuf> {
    let folder = folder().join("posix");
    let zig = zig("cc")?;
    let program = zig.get_program().to_string_lossy();
    alone("build-posix", || {
        run(Command::new("make")
            .arg("-C")
            .arg(root().join("guest/c"))
            .arg(format!("BUILD={}", folder.display()))
            .arg(format!("CC={program} -m ziglang cc --target=wasm32-wasi"))
            .arg("CFLAGS=-Os -Wall -Wextra -Werror")
            .envs(
                zig.get_envs()
                    .filter_map(|(name, value)| Some((name, value?))),
            ))
    })??;
    Ok(folder.join("liblocket-posix.a"))
}

/// Builds the same program for this machine.
///
/// # Errors
///
/// Where it does not build.
pub fn native_program(source: &Path, program: &Path) -> Result<()> {
    run(zig("cc")?.arg(source).arg("-o").arg(program))
}
