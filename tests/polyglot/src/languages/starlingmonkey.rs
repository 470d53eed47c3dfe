//! JavaScript, by componentize-js: on StarlingMonkey. The guest is that of the language `javascript`.

use anyhow::Result;
use std::fs;
use std::path::Path;
use std::process::Command;

use super::Language;
use super::javascript::{JCO, project};
use crate::{component, run};

pub(super) const LANGUAGE: Language = Language {
    name: "starlingmonkey",
    sources: &[
        "guest/js",
        "tests/polyglot/guests/javascript",
        "tests/polyglot/src/languages/javascript.rs",
    ],
    toolchains: &[&JCO],
    build,
};

fn build(scratch: &Path) -> Result<Vec<u8>> {
    project("javascript", scratch)?;
    let tools = JCO.folder()?.join("node_modules/.bin");
    // It does not look for packages itself.
    run(Command::new(tools.join("rolldown"))
        .args(["guest.js", "--file", "bundle.js", "--external"])
        .arg("locket:lock/api@0.1.0,locket:test/counter@0.1.0")
        .current_dir(scratch))?;
    let component = scratch.join("guest.wasm");
    run(Command::new(tools.join("componentize-js"))
        .args(["bundle.js", "--world-name", "polyglot", "--wit"])
        .arg(component::wit())
        .args([
            "--disable",
            "stdio",
            "random",
            "clocks",
            "http",
            "fetch-event",
        ])
        .arg("--out")
        .arg(&component)
        .current_dir(scratch))?;
    Ok(fs::read(component)?)
}
