//! SQLite with the VFS in `guest/sqlite`, as a component and as a native program.

pub mod demo;
pub mod program;
pub mod sources;

use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::toolchain::zig;
use crate::{alone, component, folder, root, run};

/// How SQLite is built: it waits for locks instead of asking again and again.
const OPTIONS: [&str; 4] = [
    "-Os",
    "-DSQLITE_THREADSAFE=0",
    "-DSQLITE_OMIT_LOAD_EXTENSION",
    "-DSQLITE_ENABLE_SETLK_TIMEOUT=1",
];

/// The files of the VFS.
pub const VFS: [&str; 3] = ["lock.c", "vfs.c", "wal_index.c"];

/// The folder of `sqlite3.c`, which comes with the crate that links it.
///
/// # Errors
///
/// If cargo does not know the crate.
pub fn amalgamation() -> Result<PathBuf> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["metadata", "--offline", "--format-version", "1"]);
    let metadata = cargo.current_dir(root()).output()?;
    let metadata: serde_json::Value = serde_json::from_slice(&metadata.stdout)?;
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let manifest = packages
        .filter(|package| package["name"] == "libsqlite3-sys")
        .find_map(|package| package["manifest_path"].as_str())
        .context("no package libsqlite3-sys")?;
    Ok(Path::new(manifest).with_file_name("sqlite3"))
}

/// Compiles SQLite itself and downloads its test programs, before tests that are stopped if they take
/// long.
///
/// # Errors
///
/// If it does not compile.
pub fn prepare() -> Result<()> {
    let sqlite = amalgamation()?;
    for target in [Target::Native, Target::Component] {
        library(target, &sqlite)?;
    }
    // Without them, it says so.
    sources::sources();
    Ok(())
}

/// For which machine a program is built.
#[derive(Clone, Copy, Debug)]
pub enum Target {
    /// A component.
    Component,
    /// This machine.
    Native,
}

/// The folder of the programs of ours.
fn guests() -> PathBuf {
    root().join("tests/polyglot/guests/sqlite")
}

/// Builds the program `count.c` with the VFS, whose sources are in `vfs`.
///
/// # Errors
///
/// If it does not build.
pub fn build(target: Target, vfs: &Path, out: &Path) -> Result<()> {
    link(target, vfs, &[guests().join("count.c")], &[], out)
}

/// Builds a program with the VFS, whose sources are in `vfs`.
fn link(target: Target, vfs: &Path, sources: &[PathBuf], flags: &[&str], out: &Path) -> Result<()> {
    let locket = root().join("guest/c");
    let sqlite = amalgamation()?;
    let library = library(target, &sqlite)?;
    let mut cc = compiler(target)?;
    cc.args([
        "-std=gnu23",
        "-O1",
        "-Wall",
        "-Wextra",
        "-Werror",
        // Before that of the system, which may be older.
        "-I",
    ])
    .arg(&sqlite)
    .arg("-I")
    .arg(vfs)
    .arg("-I")
    .arg(root().join("guest/sqlite"))
    .arg("-I")
    .arg(&locket)
    .args(flags)
    .args(sources)
    .args(VFS.map(|file| vfs.join(file)))
    .arg(library);
    let module = out.with_extension("core.wasm");
    match target {
        Target::Native => {
            cc.arg(guests().join("ranges_of_linux.c"));
            run(cc.args(["-lm", "-o"]).arg(out))
        }
        Target::Component => {
            let bindings = [
                "locket.c",
                "locket_ranges.c",
                "locket_wit.c",
                "locket_wit_component_type.o",
            ];
            cc.args(bindings.map(|file| locket.join(file)));
            run(cc.arg("-o").arg(&module))?;
            fs::write(out, component::new(&fs::read(module)?)?)?;
            Ok(())
        }
    }
}

fn compiler(target: Target) -> Result<Command> {
    let mut cc = zig("cc")?;
    if let Target::Component = target {
        cc.arg("--target=wasm32-wasi");
    }
    Ok(cc)
}

/// SQLite itself, which takes long to compile.
fn library(target: Target, sqlite: &Path) -> Result<PathBuf> {
    let version = sqlite
        .parent()
        .and_then(Path::file_name)
        .unwrap_or_default();
    let name = format!("{}-{target:?}.o", version.display());
    let object = folder().join("built").join(name);
    alone("sqlite", || {
        if !object.exists() {
            fs::create_dir_all(object.with_file_name(""))?;
            let partial = object.with_extension("partial.o");
            run(compiler(target)?
                .args(OPTIONS)
                .arg("-c")
                .arg(sqlite.join("sqlite3.c"))
                .arg("-o")
                .arg(&partial))?;
            fs::rename(partial, &object)?;
        }
        Ok(object)
    })?
}
