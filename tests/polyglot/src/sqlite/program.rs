//! A program that uses SQLite, on the VFS of a component and on SQLite's own.

use anyhow::Result;
use locket_tests::process::tool;
use sha2::{Digest as _, Sha256};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Target, guests, link};
use crate::{Language, alone, folder, root};

/// Where a program runs, and what locks for it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Side {
    /// A component, on the VFS `locket`.
    Component,
    /// A native process, on SQLite's VFS `unix`.
    Native,
}

/// A program in both forms.
#[derive(Debug)]
pub struct Program {
    component: PathBuf,
    native: PathBuf,
}

impl Program {
    /// Builds one of ours, if that was not done yet. None where there is no compiler.
    ///
    /// # Errors
    ///
    /// If it does not build.
    pub fn of_ours(name: &str) -> Result<Option<Self>> {
        Self::built(&[guests().join(name)], |_| &[])
    }

    /// Builds one of SQLite's own as it is, if that was not done yet. The component has the VFS
    /// `locket` as its default.
    ///
    /// # Errors
    ///
    /// If it does not build.
    pub fn of_sqlite(source: &Path) -> Result<Option<Self>> {
        let default = guests().join("default.c");
        // The warnings are not ours.
        Self::built(&[source.to_owned(), default], |target| match target {
            Target::Component => &["-w", "-Dmain=sqlite_main"],
            Target::Native => &["-w"],
        })
    }

    fn built(
        sources: &[PathBuf],
        flags: impl Fn(Target) -> &'static [&'static str],
    ) -> Result<Option<Self>> {
        if !Language::named("c").is_some_and(Language::is_ready) {
            return Ok(None);
        }
        let name = sources[0].file_stem().unwrap_or_default();
        let stem = format!("{}-{}", name.display(), digest(sources)?);
        let native = folder().join("built").join(stem);
        let component = native.with_added_extension("wasm");
        let vfs = root().join("guest/sqlite");
        alone("sqlite-programs", || {
            // Last, so that it says that the build is complete.
            for (target, out) in [(Target::Component, &component), (Target::Native, &native)] {
                if !native.exists() {
                    link(target, &vfs, sources, flags(target), out)?;
                }
            }
            Ok(Some(Self { component, native }))
        })?
    }

    /// The component.
    pub fn component(&self) -> &Path {
        &self.component
    }

    /// The native program, without arguments.
    pub fn native(&self) -> Command {
        Command::new(&self.native)
    }

    /// The component, which has the folder `data` as `/data`; `options` are those of the tool.
    pub fn guest<S: AsRef<OsStr>>(&self, data: &Path, options: &[S]) -> Command {
        let mut run = Command::new(tool());
        run.arg("run").args(options).arg("--dir");
        run.arg(format!("{}::/data", data.display()));
        run.arg(&self.component);
        run
    }
}

impl Side {
    /// The program of this side, without arguments.
    pub fn command(self, program: &Program, data: &Path) -> Command {
        match self {
            // Native programs have a folder for temporary files.
            Self::Component => program.guest(data, &["--env", "SQLITE_TMPDIR=/data"]),
            Self::Native => program.native(),
        }
    }

    /// The VFS by its name.
    pub fn vfs(self) -> &'static str {
        match self {
            Self::Component => "locket",
            Self::Native => "unix",
        }
    }

    /// The folder, as the program sees it.
    pub fn folder(self, data: &Path) -> String {
        match self {
            Self::Component => "/data".to_owned(),
            Self::Native => data.display().to_string(),
        }
    }
}

/// What tells a program from one of other sources.
fn digest(sources: &[PathBuf]) -> Result<String> {
    let ours = [
        "Cargo.lock",
        "guest/c",
        "guest/sqlite",
        "tests/polyglot/src/sqlite",
        "tests/polyglot/src/sqlite.rs",
    ];
    let mut digest = Sha256::new();
    digest.update(build_guests::digest_of(&ours, |_| true)?);
    for source in sources {
        digest.update(fs::read(source)?);
    }
    let digest = digest.finalize();
    Ok(digest[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}
