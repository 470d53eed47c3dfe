//! AssemblyScript.

use anyhow::Result;
use std::fs;
use std::path::Path;
use std::process::Command;

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
    let module = scratch.join("guest.wasm");
    let asc = ASSEMBLYSCRIPT.folder()?.join("node_modules/.bin/asc");
    run(Command::new(asc)
        // It takes no other paths than such below the folder it runs in.
        .current_dir(root())
        .arg("tests/polyglot/guests/assemblyscript/guest.ts")
        .args(["-O", "--runtime", "incremental", "--use", "abort=", "-o"])
        .arg(&module))?;
    let mut module = fs::read(module)?;
    let world = component::world(&component::wit(), "polyglot")?;
    component::embed(&mut module, &world, StringEncoding::UTF16)?;
    component::new(&module)
}
