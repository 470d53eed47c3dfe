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
use build_guests::{self as guests, TARGET, Toolchain};
use clap::Parser;
use std::fs;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::time::Instant;

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
    let target = guests::root().join("target/guests");
    let mut rows = Vec::new();
    for name in guests::NAMES {
        progress("Building", name);
        let start = Instant::now();
        let built = toolchain.build(&guests::workspace(), name, &target)?;
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

/// Says what happens, as cargo does.
fn progress(verb: &str, what: &str) {
    if io::stderr().is_terminal() {
        eprintln!("\x1b[1;32m{verb:>12}\x1b[0m {what}");
    } else {
        eprintln!("{verb:>12} {what}");
    }
}
