//! The bindings that are kept in the repository, and how they are generated.

use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use wit_bindgen_core::{Files, WorldGenerator};
use wit_parser::{Resolve, WorldId};

use crate::component::{self, world};
use crate::root;

/// The command that generates them.
pub const GENERATE: &str = "cargo polyglot bindings";

/// What is generated, and where it belongs.
///
/// # Errors
///
/// Where the interface does not parse.
pub fn generated() -> Result<Generated> {
    let of = |name| world(&root().join("wit"), name);
    let mut files = c(of("plugin-ranges")?, "locket_wit", &root().join("guest/c"))?;
    // Of `descriptors` only what says that it is imported: its bindings have all files of WASI.
    let descriptors = c(of("posix")?, "locket_descriptors", &root().join("guest/c"))?;
    let is_type = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "o");
    files.extend(descriptors.into_iter().filter(|(path, _)| is_type(path)));
    let internal = format!("{GO_MODULE}/internal");
    let go = go(
        of("plugin-ranges")?,
        Some(internal),
        &root().join("guest/go/internal"),
    )?;
    // A package of imports exports nothing.
    let exports = Path::new("wit_exports/wit_exports.go");
    files.extend(go.into_iter().filter(|(path, _)| !path.ends_with(exports)));
    Ok(files)
}

/// The name of the module in `guest/go`.
pub const GO_MODULE: &str = "github.com/locket-lock/locket/guest/go";

/// Generates in C, into a folder, what the world `polyglot` has besides locks: `test.h`, `test.c` and
/// `test_component_type.o`.
///
/// # Errors
///
/// Where the folder cannot be written.
pub fn of_test_world(folder: &Path) -> Result<()> {
    write(c(test_world()?, "test", folder)?)
}

/// Generates the same in Go: the package `main` and what it is made of.
///
/// # Errors
///
/// Where the folder cannot be written.
pub fn of_test_world_in_go(folder: &Path) -> Result<()> {
    write(go(test_world()?, None, folder)?)
}

/// The world `polyglot` without the locks: the guests have them from the bindings of their language.
fn test_world() -> Result<(Resolve, WorldId)> {
    let (mut resolve, world) = world(&component::wit(), "polyglot")?;
    let names: Vec<_> = resolve.worlds[world]
        .imports
        .keys()
        .filter(|key| resolve.name_world_key(key).starts_with("locket:lock/"))
        .cloned()
        .collect();
    for name in names {
        resolve.worlds[world].imports.shift_remove(&name);
    }
    Ok((resolve, world))
}

/// Files and their contents.
pub type Generated = Vec<(PathBuf, Vec<u8>)>;

fn c(world: (Resolve, WorldId), name: &str, folder: &Path) -> Result<Generated> {
    let options = wit_bindgen_c::Opts {
        rename_world: Some(name.into()),
        ..Default::default()
    };
    generate(options.build(), world, folder)
}

fn go(world: (Resolve, WorldId), package: Option<String>, folder: &Path) -> Result<Generated> {
    let options = wit_bindgen_go::Opts {
        // That would be by whatever `gofmt` there is.
        format: wit_bindgen_go::Format::False,
        pkg_name: package,
        ..Default::default()
    };
    generate(options.build(), world, folder)
}

fn generate(
    mut generator: Box<dyn WorldGenerator>,
    (mut resolve, world): (Resolve, WorldId),
    folder: &Path,
) -> Result<Generated> {
    let mut files = Files::default();
    generator.generate(&mut resolve, world, &mut files)?;
    let file = |(name, content): (&str, &[u8])| (folder.join(name), content.to_vec());
    Ok(files.iter().map(file).collect())
}

/// Writes generated files.
///
/// # Errors
///
/// Where one cannot be written.
pub fn write(files: Generated) -> Result<()> {
    for (path, content) in files {
        let written =
            fs::create_dir_all(path.with_file_name("")).and_then(|()| fs::write(&path, content));
        written.with_context(|| path.display().to_string())?;
    }
    Ok(())
}
