//! Locks in every language: builds a test guest in each as a component, and hosts it.
//!
//! The guests, in `guests/`, implement the world `polyglot` on the bindings of their language, which
//! are in `guest/` at the root of the repository. Toolchains are installed at fixed versions into the
//! folder `polyglot` of cargo's target folder, as are the components; what was installed, built or
//! compiled once is used again until something of it changes.

pub mod bindings;
pub mod component;
pub mod host;
pub mod languages;
pub mod machine;
pub mod page;
mod peer;
pub mod program;
pub mod sqlite;
pub mod toolchain;

pub use build_guests::root;
pub use languages::{LANGUAGES, Language, PROVIDER};

use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::{env, fs, io};

/// The folder of all that is installed and built, beside the folder of the build's profile: in cargo's
/// target folder, unless the build is for another system.
pub fn folder() -> &'static PathBuf {
    static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
        let program = env::current_exe().expect("the path of this program is known");
        let parent = program.parent().expect("a program is in a folder");
        // Tests are in `deps`, programs beside it.
        let profile = match parent.file_name() {
            Some(name) if name == "deps" => parent.parent(),
            _ => Some(parent),
        };
        profile
            .and_then(Path::parent)
            .expect("cargo builds into a folder of its own")
            .join("polyglot")
    });
    &FOLDER
}

/// Runs `f` alone, of all processes of this machine that do `what`.
pub(crate) fn alone<R>(what: &str, f: impl FnOnce() -> R) -> anyhow::Result<R> {
    fs::create_dir_all(folder())?;
    let lock = locket::Engine::new().open(folder().join(what).with_extension("lock"))?;
    let _guard = lock.acquire(locket::Mode::Exclusive, None)?;
    Ok(f())
}

/// Runs a command, and fails where it does.
///
/// # Errors
///
/// Where it cannot be started or fails; with its output.
pub fn run(command: &mut std::process::Command) -> anyhow::Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => anyhow::anyhow!("{program} is not installed"),
        _ => anyhow::anyhow!("{program}: {error}"),
    })?;
    anyhow::ensure!(
        output.status.success(),
        "{program} failed:\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
