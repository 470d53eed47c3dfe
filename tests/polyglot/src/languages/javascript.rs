//! JavaScript, by componentize-qjs: on QuickJS.

use anyhow::Result;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Language;
use crate::toolchain::{self, Toolchain};
use crate::{component, root, run};

pub(super) const LANGUAGE: Language = Language {
    name: "javascript",
    sources: &["guest/js", "tests/polyglot/guests/javascript"],
    toolchains: &[&COMPONENTIZE_QJS],
    build,
};

const COMPONENTIZE_QJS: Toolchain = Toolchain {
    name: "componentize-qjs",
    packages: &["componentize-qjs@0.4.5"],
    install: toolchain::npm,
};

/// What makes components of TypeScript, and of JavaScript on StarlingMonkey; and what Node runs of
/// components.
pub const JCO: Toolchain = Toolchain {
    name: "jco",
    packages: &[
        "@bytecodealliance/componentize-js@0.23.0",
        "@bytecodealliance/jco@1.35.0",
        "rolldown@1.3.2",
        "typescript@5.9.3",
    ],
    install: |packages, folder| {
        // This version of jco takes it for granted that files can be opened, which later ones of
        // the shim do not let it do.
        let overrides = r#"{ "overrides": { "@bytecodealliance/preview2-shim": "0.26.0" } }"#;
        fs::write(folder.join("package.json"), overrides)?;
        toolchain::npm(packages, folder)
    },
};

fn build(scratch: &Path) -> Result<Vec<u8>> {
    project("javascript", scratch)?;
    let component = scratch.join("guest.wasm");
    let tool = COMPONENTIZE_QJS
        .folder()?
        .join("node_modules/.bin/componentize-qjs");
    run(Command::new(tool)
        .args([
            "--sync",
            "--opt-size",
            "--js",
            "guest.js",
            "--world",
            "polyglot",
            "--wit",
        ])
        .arg(component::wit())
        .arg("--output")
        .arg(&component)
        .current_dir(scratch))?;
    Ok(fs::read(component)?)
}

/// Puts a guest into a folder, with our package where one that is installed would be.
pub(super) fn project(guest: &str, folder: &Path) -> Result<()> {
    let files = |from: PathBuf, to: PathBuf| -> Result<()> {
        fs::create_dir_all(&to)?;
        for entry in fs::read_dir(from)? {
            let file = entry?;
            if file.file_type()?.is_file() {
                fs::copy(file.path(), to.join(file.file_name()))?;
            }
        }
        Ok(())
    };
    files(
        root().join("tests/polyglot/guests").join(guest),
        folder.into(),
    )?;
    files(
        root().join("guest/js"),
        folder.join("node_modules/locket-guest"),
    )
}
