//! The languages, and how a guest is built in each.

pub mod assemblyscript;
pub mod c;
mod cpp;
pub mod go;
mod javascript;
mod provider;
pub mod python;
pub mod python_contract;
pub mod python_packages;
pub mod python_polls;
pub mod python_tasks;
mod rust;
pub mod sqlite_c;
pub mod sqlite_rust;
mod starlingmonkey;
mod typescript;
pub mod zig;

pub use javascript::JCO;
pub use provider::PROVIDER;

use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{env, fs};

use crate::toolchain::Toolchain;
use crate::{alone, component, folder};

/// Every language, one file each.
#[rustfmt::skip]
pub const LANGUAGES: &[Language] = &[
    assemblyscript::LANGUAGE,
    c::LANGUAGE,
    cpp::LANGUAGE,
    go::LANGUAGE,
    javascript::LANGUAGE,
    python::LANGUAGE,
    rust::LANGUAGE,
    starlingmonkey::LANGUAGE,
    typescript::LANGUAGE,
    zig::LANGUAGE,
];

/// The test guests in other worlds than `polyglot`, and examples that take long to build, one file each.
pub const OTHERS: &[Language] = &[
    python_contract::LANGUAGE,
    python_packages::LANGUAGE,
    python_polls::LANGUAGE,
    python_tasks::LANGUAGE,
    sqlite_c::LANGUAGE,
    sqlite_rust::LANGUAGE,
];

/// A language with bindings, and the test guest in it.
#[derive(Debug)]
pub struct Language {
    /// Its name, which is that of the file in `languages` as well.
    pub name: &'static str,
    /// What the guest is built from, besides that file and the interface: files and folders of the
    /// repository.
    pub sources: &'static [&'static str],
    /// What has to be installed.
    pub toolchains: &'static [&'static Toolchain],
    /// Builds the component of the guest, with an empty folder for what comes in between.
    pub build: fn(scratch: &Path) -> Result<Vec<u8>>,
}

/// A built guest.
#[derive(Clone, Debug)]
pub struct Built {
    /// Where the component is.
    pub path: PathBuf,
    /// How long it was built.
    pub time: Duration,
}

impl Language {
    /// The language of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        LANGUAGES.iter().find(|language| language.name == name)
    }

    /// Installs what is missing. Without it, says so, and returns false; in CI nothing may be
    /// missing.
    ///
    /// # Panics
    ///
    /// In CI, where something cannot be installed.
    pub fn is_ready(&self) -> bool {
        let missing = self.toolchains.iter().find_map(|t| t.folder().err());
        if let Some(missing) = missing {
            let name = self.name;
            assert!(
                env::var_os("CI").is_none(),
                "CI must have {name}: {missing:#}"
            );
            println!("NOT RUN without {name}: {missing:#}");
            return false;
        }
        true
    }

    /// The component of the guest; builds it where that was not done yet.
    ///
    /// # Errors
    ///
    /// Where it does not build.
    pub fn built(&self) -> Result<Built> {
        let name = self.name;
        let path = folder()
            .join("built")
            .join(format!("{name}-{}.wasm", self.digest()?));
        let seconds = path.with_extension("seconds");
        alone(&format!("build-{name}"), || {
            if !seconds.exists() {
                let scratch = folder().join("scratch").join(name);
                // It may not be there.
                let _ = fs::remove_dir_all(&scratch);
                fs::create_dir_all(&scratch)?;
                fs::create_dir_all(path.with_file_name(""))?;
                let start = Instant::now();
                let component =
                    (self.build)(&scratch).with_context(|| format!("building {name}"))?;
                let time = start.elapsed().as_secs_f64();
                fs::write(&path, component)?;
                // Last, since it says that the build is complete.
                fs::write(&seconds, time.to_string())?;
            }
            let time = fs::read_to_string(&seconds)?.parse()?;
            let time = Duration::from_secs_f64(time);
            Ok(Built { path, time })
        })?
    }

    /// The guest with the provider plugged in.
    ///
    /// # Errors
    ///
    /// Where one of them does not build.
    pub fn plugged(&self) -> Result<Vec<u8>> {
        let built = |language: &Self| Ok::<_, anyhow::Error>(fs::read(language.built()?.path)?);
        component::plug(built(self)?, built(&PROVIDER)?)
    }

    /// What tells this guest from those of other sources, or built by other versions.
    fn digest(&self) -> Result<String> {
        let recipe = format!("tests/polyglot/src/languages/{}.rs", self.name);
        let common = [
            recipe.as_str(),
            "Cargo.lock",
            "tests/polyglot/src/component.rs",
            "tests/polyglot/src/toolchain.rs",
            "tests/polyglot/wit",
        ];
        let sources = [&common, self.sources].concat();
        let is_source = |path: &Path| {
            let made = ["node_modules", "__pycache__"];
            let mut folders = path.components();
            !folders.any(|folder| made.iter().any(|made| folder.as_os_str() == *made))
        };
        let mut digest = build_guests::digest_of(&sources, is_source)
            .with_context(|| format!("the sources of {}", self.name))?;
        digest.truncate(16);
        Ok(digest)
    }
}
