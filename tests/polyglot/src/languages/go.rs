//! Go, as it comes.

use anyhow::Result;
use std::fs;
use std::path::Path;

use super::Language;
use crate::component::{self, StringEncoding};
use crate::toolchain::{GO, go};
use crate::{bindings, root, run};

pub(super) const LANGUAGE: Language = Language {
    name: "go",
    sources: &["guest/go", "tests/polyglot/guests/go"],
    toolchains: &[&GO],
    build,
};

fn build(scratch: &Path) -> Result<Vec<u8>> {
    bindings::of_test_world_in_go(scratch)?;
    let package = scratch.join("export_wit_world");
    fs::create_dir_all(&package)?;
    fs::copy(
        root().join("tests/polyglot/guests/go/guest.go"),
        package.join("guest.go"),
    )?;
    fs::write(scratch.join("go.mod"), module())?;
    let core = scratch.join("guest.wasm");
    run(go("build")?
        .current_dir(scratch)
        .args(["-buildmode=c-shared", "-trimpath", "-o"])
        .arg(&core)
        // The last for the runtime of the bindings, which allocates before Go is up.
        .arg("-ldflags=-s -w -checklinkname=0")
        .arg("."))?;
    let mut core = fs::read(core)?;
    let world = component::world(&component::wit(), "polyglot")?;
    component::embed(&mut core, &world, StringEncoding::UTF8)?;
    component::new(&core)
}

/// What the guest is made of, as the file `go.mod` says it. Nothing comes from elsewhere.
fn module() -> String {
    let (locket, runtime) = (bindings::GO_MODULE, "go.bytecodealliance.org/pkg");
    let folder = root().join("guest/go");
    let folder = folder.display();
    format!(
        "module wit_component\n\ngo 1.25\n\n\
         require {locket} v0.0.0\nrequire {runtime} v0.2.3\n\n\
         replace {locket} => {folder}\nreplace {runtime} => {folder}/third_party/go-pkg\n"
    )
}

/// The world of components that lock whole files.
pub const WORLD: &str = "guest/go/examples/job/job.wit";

/// Builds a command component of a file of the repository, with its world.
///
/// # Errors
///
/// If it does not build.
pub fn command(source: &str, wit: &str, scratch: &Path) -> Result<Vec<u8>> {
    fs::copy(root().join(source), scratch.join("main.go"))?;
    fs::write(scratch.join("go.mod"), module())?;
    let core = scratch.join("command.core.wasm");
    run(go("build")?
        .current_dir(scratch)
        .args(["-buildmode=c-shared", "-trimpath", "-o"])
        .arg(&core)
        .args(["-ldflags=-s -w -checklinkname=0", "."]))?;
    let mut core = fs::read(core)?;
    let world = component::example_world(&root().join(wit), "job")?;
    component::embed(&mut core, &world, StringEncoding::UTF8)?;
    component::new(&core)
}
