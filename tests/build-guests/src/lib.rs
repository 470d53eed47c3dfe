//! The guest programs: where they are, and what they are built from.

mod toolchain;

pub use toolchain::{TARGET, Toolchain};

use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// Every guest program. `guests/NAME` has the sources of each.
pub const NAMES: [&str; 9] = [
    "bare", "bench", "counter", "lent", "plugin", "poll", "ranges", "remote", "tasks",
];

/// The command that builds them.
pub const BUILD: &str = "cargo run -p build-guests";

/// What ends the name of a file that a guest is built from.
const SOURCES: [&str; 4] = ["lock", "rs", "toml", "wit"];

/// The built component of the guest `name`: in the folder that the environment
/// variable `LOCKET_GUESTS` names, otherwise the one kept in the repository.
pub fn path(name: &str) -> PathBuf {
    env::var_os("LOCKET_GUESTS")
        .map_or_else(built, PathBuf::from)
        .join(name)
        .with_extension("wasm")
}

/// The folder of the components that are kept in the repository, and of the
/// file `DIGEST`, which has the [`digest`] of what they were built from.
pub fn built() -> PathBuf {
    workspace().join("built")
}

/// The folder of the workspace of the guests.
pub fn workspace() -> PathBuf {
    root().join("tests/guests")
}

/// The folder of the repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .expect("this is two folders below the repository")
}

/// The [`digest_of`] all that the guests are built from: their workspace, the crate
/// `locket-guest` and the interface.
///
/// # Errors
///
/// Where one of the files cannot be read.
pub fn digest() -> io::Result<String> {
    let is_source = |path: &Path| {
        let is = |end: &str| path.extension().is_some_and(|found| found == end);
        SOURCES.into_iter().any(is)
    };
    let paths = ["guest/Cargo.toml", "guest/src", "tests/guests", "wit"];
    digest_of(&paths, is_source)
}

/// The SHA-256, in hexadecimal digits, of the paths and contents of files. `paths`, below the
/// repository, are files, and folders of which those are taken that `is_source` says.
///
/// # Errors
///
/// Where one of the files cannot be read.
pub fn digest_of(paths: &[&str], is_source: impl Fn(&Path) -> bool) -> io::Result<String> {
    let root = root();
    let mut files = Vec::new();
    for path in paths {
        let path = root.join(path);
        match path.is_dir() {
            true => collect(&path, &is_source, &mut files)?,
            false => files.push(path),
        }
    }
    let mut files: Vec<_> = files
        .into_iter()
        .map(|file| (name(root, &file), file))
        .collect();
    files.sort();

    let mut hash = Sha256::new();
    for (name, file) in files {
        let content = fs::read(file)?;
        hash.update(format!("{name}\0{}\0", content.len()));
        hash.update(content);
    }
    let mut digest = String::new();
    for byte in hash.finalize() {
        write!(digest, "{byte:02x}").expect("a string takes all that is written");
    }
    Ok(digest)
}

fn collect(
    folder: &Path,
    is_source: &impl Fn(&Path) -> bool,
    files: &mut Vec<PathBuf>,
) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            if !path.ends_with("target") {
                collect(&path, is_source, files)?;
            }
        } else if is_source(&path) {
            files.push(path);
        }
    }
    Ok(())
}

/// The path below `root`, the same on every system.
fn name(root: &Path, file: &Path) -> String {
    let below = file.strip_prefix(root).unwrap_or(file);
    let names: Vec<_> = below.iter().map(|part| part.to_string_lossy()).collect();
    names.join("/")
}
