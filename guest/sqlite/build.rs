//! Compiles the VFS for components. Elsewhere there is nothing to compile.

use std::env;
use std::process::exit;

const SOURCES: [&str; 4] = ["layout.c", "lock.c", "vfs.c", "wal_index.c"];
const HEADERS: [&str; 4] = [
    "c/locket.h",
    "c/locket_ranges.h",
    "internal.h",
    "locket_sqlite.h",
];

fn main() {
    for file in SOURCES.iter().chain(&HEADERS).chain(&["build.rs"]) {
        println!("cargo::rerun-if-changed={file}");
    }
    if env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os != "wasi") {
        return;
    }
    // Where libsqlite3-sys has the header of the SQLite that it builds.
    let Some(sqlite) = env::var_os("DEP_SQLITE3_INCLUDE") else {
        println!(
            "cargo::error=a component has no SQLite of the system: enable the feature `bundled` of rusqlite or libsqlite3-sys"
        );
        exit(1);
    };
    cc::Build::new()
        .std("gnu11")
        .warnings(false)
        .include(sqlite)
        .include("c")
        .files(SOURCES)
        .compile("locket_sqlite");
}
