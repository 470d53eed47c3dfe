//! Machines on which a page is followed: what a reader has installed, and what the shell knows of it.

use anyhow::Result;
use build_guests::Toolchain as Rust;
use locket_tests::process::tool;
use std::ffi::OsString;
use std::path::PathBuf;
use std::{env, fs};

use crate::folder;
use crate::page::Session;
use crate::toolchain::{GO, Toolchain, ZIG};

/// A machine with the tool `locket`, and with what its constructor names.
#[derive(Debug)]
pub struct Machine {
    /// What its shell does first, which no reader sees.
    prelude: String,
    programs: Vec<PathBuf>,
    environment: Vec<(&'static str, OsString)>,
}

impl Machine {
    /// A machine with nothing else than what this one has.
    pub fn plain() -> Self {
        Self {
            prelude: String::new(),
            programs: vec![tool().with_file_name("")],
            environment: Vec::new(),
        }
    }

    /// Sets variables of the environment.
    #[must_use]
    pub fn with<N: Into<OsString>>(
        mut self,
        environment: impl IntoIterator<Item = (&'static str, N)>,
    ) -> Self {
        let environment = environment.into_iter();
        self.environment
            .extend(environment.map(|(name, value)| (name, value.into())));
        self
    }

    /// A machine with Node, and with what the other tests have installed in npm's cache.
    pub fn node() -> Self {
        Self::plain().with([
            ("npm_config_prefer_offline", "true"),
            ("npm_config_audit", "false"),
            ("npm_config_fund", "false"),
        ])
    }

    /// A machine with Zig. Pip says that it is there, unless the page names another version.
    ///
    /// # Errors
    ///
    /// If Zig cannot be installed.
    pub fn zig() -> Result<Self> {
        let cache = folder().join("zig-cache");
        let caches = ["ZIG_GLOBAL_CACHE_DIR", "ZIG_LOCAL_CACHE_DIR"];
        Self::plain()
            .with(caches.map(|variable| (variable, &cache)))
            .with_pip(&ZIG)
    }

    fn with_pip(mut self, toolchain: &Toolchain) -> Result<Self> {
        let toolchain = toolchain.folder()?;
        self.programs.push(toolchain.join("bin"));
        let libraries = fs::read_dir(toolchain.join("lib"))?;
        let packages = libraries.map(|library| Ok(library?.path().join("site-packages")));
        let packages = packages.collect::<std::io::Result<Vec<_>>>()?;
        let packages = env::join_paths(packages)?;
        Ok(self
            .with([("PYTHONPATH", packages)])
            .with([("PIP_NO_INDEX", "1")]))
    }

    /// A machine with Go, which downloads nothing.
    ///
    /// # Errors
    ///
    /// If Go cannot be installed.
    pub fn go() -> Result<Self> {
        let mut machine = Self::plain()
            .with([
                ("GOCACHE", folder().join("go-cache")),
                ("GOPATH", folder().join("go-path")),
            ])
            .with([("GOPROXY", "off"), ("GOTOOLCHAIN", "local")]);
        machine.programs.push(GO.folder()?.join("bin"));
        Ok(machine)
    }

    /// A machine with a Rust that compiles components.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub fn rust() -> Result<Self> {
        let toolchain = Rust::find()?;
        let mut machine = Self::plain().with(toolchain.environment());
        // Where the standard library may have been built already.
        let target = folder().join("pages-rust");
        fs::create_dir_all(&target)?;
        machine.prelude = format!("ln -s '{}' target\n", target.display());
        machine.programs.extend(toolchain.programs());
        if let Rust::FromSource { .. } = &toolchain {
            let flags = toolchain.linking(true).join("\x1f");
            machine = machine.with([("CARGO_ENCODED_RUSTFLAGS", flags)]);
            machine.prelude += "rustup() { :; }\n";
            println!(
                "NOT RUN: `rustup target add wasm32-wasip2`: Debian's compiler takes its place"
            );
        }
        Ok(machine)
    }

    /// Does what a session says, in an empty folder.
    ///
    /// # Errors
    ///
    /// If a command fails, or prints something else than the page shows.
    pub fn follow(mut self, session: &Session) -> Result<()> {
        let path = env::var_os("PATH").unwrap_or_default();
        self.programs.extend(env::split_paths(&path));
        let path = env::join_paths(self.programs)?;
        self.environment.push(("PATH", path));
        session.run(&self.prelude, &self.environment)
    }
}
