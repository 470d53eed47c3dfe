//! The example of the VFS for SQLite in Rust, built with the variables on the page. It is a command, and so
//! none of [`LANGUAGES`](super::LANGUAGES).

use anyhow::{Context, Result};
use build_guests::Toolchain as Rust;
use std::fs;
use std::path::Path;

use super::Language;
use super::rust::RUST;
use crate::root;
use crate::toolchain::{ZIG, zig};

/// The example.
pub const LANGUAGE: Language = Language {
    name: "sqlite_rust",
    sources: &["guest/Cargo.toml", "guest/sqlite", "guest/src"],
    toolchains: &[&RUST, &ZIG],
    build,
};

fn build(_scratch: &Path) -> Result<Vec<u8>> {
    let zig = zig("cc")?;
    let python = zig.get_program().to_string_lossy();
    let page = fs::read_to_string(root().join("guest/sqlite/README.md"))?;
    let exports = page
        .lines()
        .filter_map(|line| line.strip_prefix("$ export "));
    let mut variables = exports.collect::<Vec<_>>().join(" ");
    variables = variables.replace("python ", &format!("{python} "));
    let mut variables = parse(&variables).context("the page sets no variables that can be read")?;
    for (name, value) in zig.get_envs() {
        let value = value.unwrap_or_default().to_string_lossy();
        variables.push((name.to_string_lossy().into(), value.into()));
    }
    // Where the standard library may have been built already.
    let target = root().join("target/guests");
    let example = Rust::find()?.build_example("locket-sqlite", "append", &variables, &target)?;
    Ok(fs::read(example)?)
}

/// Variables as a shell has them: `NAME=value OTHER="a value"`.
fn parse(mut text: &str) -> Option<Vec<(String, String)>> {
    let mut variables = Vec::new();
    while !text.is_empty() {
        let (name, rest) = text.split_once('=')?;
        let (value, rest) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => rest.split_once(' ').unwrap_or((rest, "")),
        };
        variables.push((name.to_owned(), value.to_owned()));
        text = rest.trim_start();
    }
    (!variables.is_empty()).then_some(variables)
}
