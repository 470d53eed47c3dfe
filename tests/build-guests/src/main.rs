//! Builds the guest programs of the tests as WebAssembly components.
//!
//! Takes the first of these that is there:
//!
//! 1. a Rust toolchain with the target `wasm32-wasip2`
//!    (`rustup target add wasm32-wasip2`);
//! 2. Debian's compiler and the sources of the standard library, which is then
//!    built first (`apt-get install --no-install-recommends rustc-web
//!    rust-web-src wasi-libc`), with the linker of the toolchain in use.

use anyhow::{Context, Result, ensure};
use build_guests as guests;
use clap::Parser;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;
use std::{env, fs};

const TARGET: &str = "wasm32-wasip2";

/// Where Debian has its compiler, the sources of the standard library and the C
/// library that the standard library is linked to.
const RUSTC: &str = "/usr/bin/rustc";
const STD: &str = "/usr/lib/rustlib/src/rust";
const LIBC: &str = "/usr/lib/wasm32-wasi";

/// Builds the guest programs of the tests as WebAssembly components.
#[derive(Parser)]
struct Args {
    /// Where the components go [default: where the repository keeps them]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

fn main() -> Result<()> {
    let out = Args::parse().out.unwrap_or_else(guests::built);
    fs::create_dir_all(&out).with_context(|| format!("cannot create {}", out.display()))?;

    let toolchain = Toolchain::find()?;
    progress("Using", toolchain.describe());
    let digest = guests::digest()?;
    let mut rows = Vec::new();
    for name in guests::NAMES {
        progress("Building", name);
        let start = Instant::now();
        let built = toolchain.build(name)?;
        let component = out.join(name).with_extension("wasm");
        let bytes = fs::copy(&built, &component)
            .with_context(|| format!("cannot write {}", component.display()))?;
        rows.push((name, bytes, start.elapsed()));
    }
    ensure!(
        guests::digest()? == digest,
        "the sources changed during the build: run it again"
    );
    fs::write(out.join("DIGEST"), format!("{digest}\n"))?;

    println!("name     target            bytes  seconds");
    for (name, bytes, time) in rows {
        println!("{name:<8} {TARGET} {bytes:>9} {:>8.1}", time.as_secs_f64());
    }
    Ok(())
}

/// What compiles and links the guests.
enum Toolchain {
    /// A toolchain that has the target.
    Complete,
    /// Debian's compiler and libraries, which make up for the lack of the target.
    FromSource {
        /// The folder of `wasm-component-ld`.
        linkers: PathBuf,
    },
}

impl Toolchain {
    fn find() -> Result<Self> {
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
        Ok(Self::FromSource { linkers })
    }

    fn describe(&self) -> &'static str {
        match self {
            Self::Complete => "the toolchain's own wasm32-wasip2",
            Self::FromSource { .. } => "Debian's compiler; the standard library comes first",
        }
    }

    /// Builds one guest and returns the path of its component.
    fn build(&self, name: &str) -> Result<PathBuf> {
        let workspace = guests::workspace();
        let target = guests::root().join("target/guests");
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo
            .args(["rustc", "--quiet", "--release", "--package", name])
            .args(["--target", TARGET, "--target-dir"])
            .arg(&target)
            .arg("--manifest-path")
            .arg(workspace.join("Cargo.toml"))
            .env("CARGO_ENCODED_RUSTFLAGS", remapped_paths()?.join("\x1f"))
            // It has the libraries of the compiler that built this program.
            .env_remove("LD_LIBRARY_PATH");
        if let Self::FromSource { linkers } = self {
            let path = env::var_os("PATH").unwrap_or_default();
            let path = env::split_paths(&path);
            let path = env::join_paths([linkers.join("gcc-ld")].into_iter().chain(path))?;
            cargo
                .env("PATH", path)
                .env("RUSTC", RUSTC)
                // For the `-Z` below.
                .env("RUSTC_BOOTSTRAP", "1")
                .env(
                    "CARGO_TARGET_WASM32_WASIP2_LINKER",
                    linkers.join("wasm-component-ld"),
                )
                .args(["-Zbuild-std=std,panic_abort", "--"])
                .arg("-Clink-self-contained=no")
                .arg(format!("-Clink-arg=-L{LIBC}"));
            let is_command = workspace.join(name).join("src/main.rs").exists();
            if is_command {
                // Not `crt1-command.o`: in that old library it leaves the
                // constructors to each export, `cabi_realloc` among them, in
                // which a component must not call its imports.
                cargo.arg(format!("-Clink-arg={LIBC}/crt1.o"));
            }
        }
        let status = cargo.status().context("cannot run cargo")?;
        ensure!(status.success(), "cannot build the guest {name}");
        let component = target.join(TARGET).join("release").join(name);
        Ok(component.with_extension("wasm"))
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
    let mut prefixes = vec![(guests::root().to_owned(), ""), (STD.into(), "/rustc")];
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

/// Says what happens, as cargo does.
fn progress(verb: &str, what: &str) {
    if io::stderr().is_terminal() {
        eprintln!("\x1b[1;32m{verb:>12}\x1b[0m {what}");
    } else {
        eprintln!("{verb:>12} {what}");
    }
}
