//! Compiles the VFS for components. Elsewhere there is nothing to compile.

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

fn main() -> Result<(), Box<dyn Error>> {
    for path in [".", "c/locket.h", "c/locket_ranges.h"] {
        println!("cargo::rerun-if-changed={path}");
    }
    if env::var("CARGO_CFG_TARGET_OS")? != "wasi" {
        return Ok(());
    }
    // Where libsqlite3-sys has the header of the SQLite that it builds.
    let sqlite = env::var_os("DEP_SQLITE3_INCLUDE")
        .ok_or("a component has no SQLite to link: enable the feature `bundled`")?;
    cc::Build::new()
        .include(sqlite)
        .include("c")
        .file("src/layout.c")
        .files(sources()?)
        .compile("locket_sqlite");
    Ok(())
}

/// The files of the VFS, which are beside this one.
fn sources() -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let files: Result<Vec<_>, _> = fs::read_dir(".")?.collect();
    let mut sources: Vec<_> = files?.iter().map(fs::DirEntry::path).collect();
    sources.retain(|path| path.extension().is_some_and(|extension| extension == "c"));
    sources.sort();
    Ok(sources)
}
