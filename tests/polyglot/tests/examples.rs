//! The examples of the languages whose packages no other test builds: a job that only one instance does
//! at a time.

use locket::{Engine, Mode};
use locket_tests::process::{Dir, tool};
use polyglot::Language;
use polyglot::host::component_of;
use polyglot::languages::{assemblyscript, go, zig};
use std::path::Path;
use std::process::Command;

type Result<T = (), E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

fn is_ready(language: &str) -> bool {
    let language = Language::named(language).expect("the language has a guest");
    language.is_ready()
}

/// Runs a command component that prints whether it gets `/jobs/nightly.lock`.
fn works_alone(component: Vec<u8>) -> Result {
    let dir = Dir::new();
    let program = dir.path().join("job.wasm");
    std::fs::write(&program, component)?;
    assert_eq!(run(&program, dir.path())?, "working alone\n");

    let lock = Engine::new().open(dir.path().join("nightly.lock"))?;
    let _guard = lock.acquire(Mode::Exclusive, None)?;
    assert_eq!(
        run(&program, dir.path())?,
        "another instance is still working\n"
    );
    Ok(())
}

/// What the component prints.
fn run(program: &Path, jobs: &Path) -> Result<String> {
    let grant = format!("{}::/jobs", jobs.display());
    let mut run = Command::new(tool());
    let output = run.args(["run", "--dir", &grant]).arg(program).output()?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8(text)?;
    assert!(output.status.success(), "{text}");
    Ok(text)
}

#[test]
fn the_example_in_zig_works_alone() -> Result {
    if !is_ready("zig") {
        return Ok(());
    }
    let scratch = tempfile::tempdir()?;
    works_alone(zig::example(scratch.path())?)
}

#[test]
fn the_example_in_go_works_alone() -> Result {
    if !is_ready("go") {
        return Ok(());
    }
    let scratch = tempfile::tempdir()?;
    works_alone(go::example(scratch.path())?)
}

/// It imports nothing from WASI, so `locket run` cannot run it.
#[test]
fn the_example_in_assemblyscript_is_a_component() -> Result {
    if !is_ready("assemblyscript") {
        return Ok(());
    }
    let scratch = tempfile::tempdir()?;
    component_of(&assemblyscript::example(scratch.path())?)?;
    Ok(())
}
