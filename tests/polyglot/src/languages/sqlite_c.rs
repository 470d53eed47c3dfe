//! The example of the VFS for SQLite in C, built by the commands on the page. It is a command, and so none of
//! [`LANGUAGES`](super::LANGUAGES).

use anyhow::{Result, ensure};
use std::fs;
use std::path::Path;
use std::process::Command;

use super::Language;
use crate::sqlite::amalgamation;
use crate::toolchain::{ZIG, zig};
use crate::{component, root, run};

/// The example.
pub const LANGUAGE: Language = Language {
    name: "sqlite_c",
    sources: &["guest/c", "guest/sqlite"],
    toolchains: &[&ZIG],
    build,
};

fn build(scratch: &Path) -> Result<Vec<u8>> {
    let ours = root().join("guest/sqlite");
    let folder = scratch.join("sqlite");
    copy(&ours, &folder)?;
    copy(&amalgamation()?, &folder)?;
    copy(&root().join("guest/c"), &scratch.join("c"))?;
    fs::copy(ours.join("examples/append.c"), folder.join("app.c"))?;

    let page = fs::read_to_string(ours.join("README.md"))?;
    let zig = zig("cc")?;
    let python = zig.get_program().to_string_lossy();
    let variables = || zig.get_envs().filter_map(|(name, to)| Some((name, to?)));
    let commands: Vec<_> = commands(&page)
        .filter_map(|command| command.strip_prefix("python "))
        .collect();
    ensure!(commands.len() == 2, "the page compiles otherwise now");
    for command in commands {
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(format!("'{python}' {command}"));
        run(shell.current_dir(&folder).envs(variables()))?;
    }
    component::new(&fs::read(folder.join("app.core.wasm"))?)
}

/// The commands in the first example of a page that has any, each with the lines that continue it.
fn commands(page: &str) -> impl Iterator<Item = &str> {
    let mut blocks = page.split("```").skip(1).step_by(2);
    let example = blocks.find_map(|block| block.strip_prefix("console\n"));
    let example = example.unwrap_or_default();
    example.split("$ ").map(str::trim_end)
}

/// Copies the files of a folder.
fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        if entry.path().is_file() {
            fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}
