//! TypeScript, by jco: on QuickJS.

use anyhow::Result;
use std::fs;
use std::path::Path;
use std::process::Command;

use super::Language;
use super::javascript::{JCO, project};
use crate::{component, run};

pub(super) const LANGUAGE: Language = Language {
    name: "typescript",
    sources: &[
        "guest/js",
        "tests/polyglot/guests/typescript",
        "tests/polyglot/src/languages/javascript.rs",
    ],
    toolchains: &[&JCO],
    build,
};

fn build(scratch: &Path) -> Result<Vec<u8>> {
    project("typescript", scratch)?;
    let tools = JCO.folder()?.join("node_modules/.bin");
    // What makes the component leaves out the types without a look at them.
    run(Command::new(tools.join("tsc"))
        .arg("--project")
        .arg(scratch))?;
    let component = scratch.join("guest.wasm");
    run(Command::new(tools.join("jco"))
        .args([
            "componentize",
            "guest.ts",
            "--world-name",
            "polyglot",
            "--wit",
        ])
        .arg(component::wit())
        .args([
            "--backend",
            "quickjs",
            "--backend-qjs-disable-async",
            "--out",
        ])
        .arg(&component)
        .current_dir(scratch))?;
    Ok(fs::read(component)?)
}
