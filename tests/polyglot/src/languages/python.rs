//! Python, by componentize-py.

use anyhow::Result;
use std::fs;
use std::path::Path;
use std::process::Command;

use super::Language;
use crate::toolchain::{self, Toolchain};
use crate::{component, root, run};

pub(super) const LANGUAGE: Language = Language {
    name: "python",
    sources: &["guest/python/locket", "tests/polyglot/guests/python"],
    toolchains: &[&COMPONENTIZE_PY],
    build: |scratch| {
        // Not the folder, in which the interfaces of `locket:lock` are as well: those come with the
        // package.
        let wit = component::wit().join("world.wit");
        let world = "locket:test/polyglot@0.1.0";
        componentize(
            &wit,
            world,
            "guest",
            &["tests/polyglot/guests/python"],
            scratch,
        )
    },
};

/// What makes components of Python, and the libraries that the package stands in for.
pub const COMPONENTIZE_PY: Toolchain = Toolchain {
    name: "componentize-py",
    packages: &[
        "componentize-py==0.25.1",
        "locket==1.0.0",
        "lockfile==0.12.2",
    ],
    install: toolchain::pip,
};

/// Makes a component of a module in one of some folders, of the repository unless absolute, with our
/// package beside them.
pub(super) fn componentize(
    wit: &Path,
    world: &str,
    module: &str,
    folders: &[impl AsRef<Path>],
    scratch: &Path,
) -> Result<Vec<u8>> {
    let component = scratch.join("guest.wasm");
    let tool = COMPONENTIZE_PY.folder()?.join("bin/componentize-py");
    let mut command = Command::new(tool);
    command.arg("-d").arg(wit).args(["-w", world]);
    command
        .arg("componentize")
        .arg(module)
        .arg("-o")
        .arg(&component);
    let ours = Path::new("guest/python");
    for folder in folders.iter().map(AsRef::as_ref).chain([ours]) {
        command.arg("-p").arg(root().join(folder));
    }
    // Otherwise it looks for packages there, where those are that ours stands in for.
    run(command.env_remove("VIRTUAL_ENV"))?;
    Ok(fs::read(component)?)
}

/// Where the guests are that wait in tasks.
pub(super) const TASKS: &str = "tests/polyglot/guests/python-asyncio";

/// Makes a component of the one of those in the world of this name.
pub(super) fn tasks(world: &str, scratch: &Path) -> Result<Vec<u8>> {
    let wit = root().join(TASKS).join("world.wit");
    let app = format!("{TASKS}/{world}");
    let world = format!("locket:asyncio/{world}@0.1.0");
    componentize(&wit, &world, "app", &[TASKS, &app], scratch)
}
