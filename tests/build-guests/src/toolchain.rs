//! Rust for WebAssembly components.

use anyhow::{Context, Result, bail, ensure};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use crate::root;

/// The target that is built for.
pub const TARGET: &str = "wasm32-wasip2";

/// Where Debian has its compiler, the sources of the standard library and the C
/// library that the standard library is linked to.
const RUSTC: &str = "/usr/bin/rustc";
const STD: &str = "/usr/lib/rustlib/src/rust";
const LIBC: &str = "/usr/lib/wasm32-wasi";

/// How the workspace of the guests is built, and so what else is: the standard library is built once.
const PROFILE: [(&str, &str); 5] = [
    ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1"),
    ("CARGO_PROFILE_RELEASE_LTO", "true"),
    ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "s"),
    ("CARGO_PROFILE_RELEASE_PANIC", "abort"),
    ("CARGO_PROFILE_RELEASE_STRIP", "true"),
];

/// The oldest Rust that compiles the guests, 1.88: the `rust-version` of locket-guest.
const MINOR: u32 = 88;

/// What compiles and links the guests.
#[derive(Debug)]
pub enum Toolchain {
    /// A toolchain that has the target.
    Complete,
    /// Debian's compiler and libraries, which make up for the lack of the target.
    FromSource {
        /// The folder of `wasm-component-ld`.
        linkers: PathBuf,
    },
}

impl Toolchain {
    /// Finds one, or says what to install.
    ///
    /// # Errors
    ///
    /// Where there is none.
    pub fn find() -> Result<Self> {
        let targets = targets_of_toolchain()?;
        if targets.join(TARGET).exists() {
            return Ok(Self::Complete);
        }
        let linkers = targets.join(host()?).join("bin");
        let missing: Vec<_> = [
            ("rustc-web", Path::new(RUSTC)),
            ("rust-web-src", Path::new(STD)),
            ("wasi-libc", Path::new(LIBC)),
            ("wasm-component-ld", &linkers.join("wasm-component-ld")),
        ]
        .into_iter()
        .filter_map(|(name, path)| (!path.exists()).then_some(name))
        .collect();
        ensure!(
            missing.is_empty(),
            "no Rust for {TARGET}: either run `rustup target add {TARGET}`, or, on Debian, \
             `apt-get install --no-install-recommends rustc-web rust-web-src wasi-libc` beside a \
             toolchain of rustup (missing for that: {})",
            missing.join(", ")
        );
        let version = version(RUSTC)?;
        ensure!(
            version >= (1, MINOR),
            "{RUSTC} is Rust {}.{}, and guests need 1.{MINOR}: upgrade rustc-web, which is in the security \
             updates of Debian (`deb http://security.debian.org/debian-security bookworm-security main`), or \
             run `rustup target add {TARGET}`",
            version.0,
            version.1
        );
        Ok(Self::FromSource { linkers })
    }

    /// What it is, in a few words.
    pub fn describe(&self) -> &'static str {
        match self {
            Self::Complete => "the toolchain's own wasm32-wasip2",
            Self::FromSource { .. } => "Debian's compiler; the standard library comes first",
        }
    }

    /// Builds the package `name` of a workspace, whose folder there has the same
    /// name, into the folder `target`. Returns the path of its component.
    ///
    /// # Errors
    ///
    /// Where it does not build.
    pub fn build(&self, workspace: &Path, name: &str, target: &Path) -> Result<PathBuf> {
        let is_command = workspace.join(name).join("src/main.rs").exists();
        let cargo = self.cargo(workspace, &["--package", name], is_command, target)?;
        finish(cargo, name)?;
        let component = target.join(TARGET).join("release").join(name);
        Ok(component.with_extension("wasm"))
    }

    /// Builds an example, which is a command, of a package in the main workspace. `variables`
    /// of the environment say how its C is compiled.
    ///
    /// # Errors
    ///
    /// Where it does not build.
    pub fn build_example(
        &self,
        package: &str,
        example: &str,
        variables: &[(String, String)],
        target: &Path,
    ) -> Result<PathBuf> {
        let options = ["--package", package, "--example", example];
        let mut cargo = self.cargo(root(), &options, true, target)?;
        cargo.envs(PROFILE).envs(variables.iter().cloned());
        finish(cargo, example)?;
        let component = target.join(TARGET).join("release/examples").join(example);
        Ok(component.with_extension("wasm"))
    }

    /// The command that builds something of a workspace.
    fn cargo(
        &self,
        workspace: &Path,
        options: &[&str],
        is_command: bool,
        target: &Path,
    ) -> Result<Command> {
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo
            .args(["rustc", "--quiet", "--release"])
            .args(options)
            .args(["--target", TARGET, "--target-dir"])
            .arg(target)
            .arg("--manifest-path")
            .arg(workspace.join("Cargo.toml"))
            .env("CARGO_ENCODED_RUSTFLAGS", remapped_paths()?.join("\x1f"))
            // It has the libraries of the compiler that built this program.
            .env_remove("LD_LIBRARY_PATH");
        let path = env::var_os("PATH").unwrap_or_default();
        let path = env::split_paths(&path);
        let path = env::join_paths(self.programs().into_iter().chain(path))?;
        cargo.env("PATH", path).envs(self.environment());
        cargo.arg("--").args(self.linking(is_command));
        Ok(cargo)
    }
}

fn finish(mut cargo: Command, name: &str) -> Result<()> {
    let status = cargo.status().context("cannot run cargo")?;
    ensure!(status.success(), "cannot build the guest {name}");
    Ok(())
}

/// What cargo needs besides `--target wasm32-wasip2`.
impl Toolchain {
    /// A folder of programs.
    pub fn programs(&self) -> Option<PathBuf> {
        match self {
            Self::Complete => None,
            Self::FromSource { linkers } => Some(linkers.join("gcc-ld")),
        }
    }

    /// Variables of its environment.
    pub fn environment(&self) -> Vec<(&'static str, OsString)> {
        let Self::FromSource { linkers } = self else {
            return Vec::new();
        };
        let linker = linkers.join("wasm-component-ld");
        vec![
            ("RUSTC", RUSTC.into()),
            // For the unstable option that follows.
            ("RUSTC_BOOTSTRAP", "1".into()),
            ("CARGO_UNSTABLE_BUILD_STD", "std,panic_abort".into()),
            ("CARGO_TARGET_WASM32_WASIP2_LINKER", linker.into()),
        ]
    }

    /// Arguments of the compiler when it links a component, which is a command or a library.
    pub fn linking(&self, is_command: bool) -> Vec<String> {
        let mut args = Vec::new();
        if let Self::FromSource { .. } = self {
            args.push("-Clink-self-contained=no".into());
            args.push(format!("-Clink-arg=-L{LIBC}"));
            if is_command {
                // Not `crt1-command.o`: in that old library it leaves the
                // constructors to each export, `cabi_realloc` among them, in
                // which a component must not call its imports.
                args.push(format!("-Clink-arg={LIBC}/crt1.o"));
            }
        }
        args
    }
}

/// The folder of the targets of the toolchain in use.
fn targets_of_toolchain() -> Result<PathBuf> {
    let sysroot = rustc(&["--print", "sysroot"])?;
    Ok(Path::new(sysroot.trim()).join("lib/rustlib"))
}

/// The target triple of this machine.
fn host() -> Result<String> {
    let version = rustc(&["--version", "--verbose"])?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc does not tell its host")?.to_owned())
}

/// The version of a compiler, as `rustc 1.96.0 (…)` tells it.
fn version(rustc: &str) -> Result<(u32, u32)> {
    let output = Command::new(rustc).arg("--version").output();
    let output = output.with_context(|| format!("cannot run {rustc}"))?;
    let text = String::from_utf8(output.stdout)?;
    let numbers = text.split([' ', '.']).skip(1).map(str::parse);
    match numbers.take(2).collect::<Result<Vec<_>, _>>().as_deref() {
        Ok(&[major, minor]) => Ok((major, minor)),
        _ => bail!("{rustc} tells no version: {text}"),
    }
}

fn rustc(args: &[&str]) -> Result<String> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc)
        .args(args)
        .output()
        .context("cannot run rustc")?;
    ensure!(output.status.success(), "rustc {} failed", args.join(" "));
    Ok(String::from_utf8(output.stdout)?)
}

/// Flags that keep the paths of this machine out of what panics report.
fn remapped_paths() -> Result<Vec<String>> {
    let home = match env::var_os("CARGO_HOME") {
        Some(home) => home.into(),
        None => env::home_dir().context("no home folder")?.join(".cargo"),
    };
    let mut prefixes = vec![(root().to_owned(), ""), (STD.into(), "/rustc")];
    // Missing where the dependencies are vendored.
    if let Ok(registries) = fs::read_dir(home.join("registry/src")) {
        for registry in registries {
            prefixes.push((registry?.path(), ""));
        }
    }
    let flag = |(from, to): (PathBuf, &str)| {
        let from = from.display();
        format!("--remap-path-prefix={from}={to}")
    };
    Ok(prefixes.into_iter().map(flag).collect())
}
