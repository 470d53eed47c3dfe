//! The bindings that are kept in the repository, and how they are generated.

use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use wit_bindgen_c::Opts;
use wit_bindgen_core::Files;
use wit_parser::{Resolve, WorldId};

use crate::component::{self, world};
use crate::root;

/// The command that generates them.
pub const GENERATE: &str = "cargo run -p polyglot -- bindings";

/// What is generated, and where it belongs.
///
/// # Errors
///
/// Where the interface does not parse.
pub fn generated() -> Result<Vec<(PathBuf, Vec<u8>)>> {
    let (resolve, world) = world(&root().join("wit"), "plugin")?;
    c(resolve, world, "locket_wit", &root().join("guest/c"))
}

/// Generates in C, into a folder, what the world `polyglot` has besides locks: `test.h`, `test.c` and
/// `test_component_type.o`.
///
/// # Errors
///
/// Where the folder cannot be written.
pub fn of_test_world(folder: &Path) -> Result<()> {
    let (mut resolve, world) = world(&component::wit(), "polyglot")?;
    // The guests have them from `guest/c`, which brings its own part of the component's type.
    let names: Vec<_> = resolve.worlds[world]
        .imports
        .keys()
        .filter(|key| resolve.name_world_key(key).starts_with("locket:lock/"))
        .cloned()
        .collect();
    for name in names {
        resolve.worlds[world].imports.shift_remove(&name);
    }
    for (path, content) in c(resolve, world, "test", folder)? {
        fs::write(&path, content).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

fn c(
    mut resolve: Resolve,
    world: WorldId,
    name: &str,
    folder: &Path,
) -> Result<Vec<(PathBuf, Vec<u8>)>> {
    let options = Opts {
        rename_world: Some(name.into()),
        ..Opts::default()
    };
    let mut files = Files::default();
    options.build().generate(&mut resolve, world, &mut files)?;
    let file = |(name, content): (&str, &[u8])| (folder.join(name), content.to_vec());
    Ok(files.iter().map(file).collect())
}
