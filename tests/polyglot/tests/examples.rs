//! The examples of the languages whose packages no other test builds: a job that only one instance does
//! at a time. And what the lock of an open file does in Go.

use locket::{Engine, Mode};
use locket_tests::process::{Dir, Process, tool};
use polyglot::Language;
use polyglot::languages::{assemblyscript, go, zig};
use std::path::Path;
use std::process::{Command, Stdio};

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
    works_alone(go::command(
        "guest/go/examples/job/main.go",
        scratch.path(),
    )?)
}

#[test]
fn the_example_in_assemblyscript_works_alone() -> Result {
    if !is_ready("assemblyscript") {
        return Ok(());
    }
    let scratch = tempfile::tempdir()?;
    works_alone(assemblyscript::example(scratch.path())?)
}

#[test]
fn the_lock_of_an_open_file_in_go_is_that_of_flock() -> Result {
    if !is_ready("go") {
        return Ok(());
    }
    let (dir, scratch) = (Dir::new(), tempfile::tempdir()?);
    let program = scratch.path().join("checks.wasm");
    let checks = go::command("tests/polyglot/guests/go/flock/main.go", scratch.path())?;
    std::fs::write(&program, checks)?;
    let grant = format!("{}::/run", dir.path().display());
    let run = |program: &Path| {
        let mut run = Command::new(tool());
        run.args(["run", "--dir", &grant]).arg(program);
        run
    };
    let output = run(&program).output()?;
    let failed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{failed}");

    let daemon = go::command("guest/go/examples/daemon/main.go", scratch.path())?;
    std::fs::write(&program, daemon)?;
    let lock = dir.path().join("daemon.lock");
    let mut flock = Command::new("flock");
    flock.arg("-n").arg(&lock);
    let mut first = Process::spawn(&mut run(&program));
    assert_eq!(first.answer(), "running");
    assert!(!flock.arg("true").status()?.success(), "flock(1) got in");
    let second = run(&program).stdin(Stdio::null()).output()?;
    assert_eq!(second.stdout, b"already running\n", "{second:?}");
    assert!(first.finish());

    let mut holder = Command::new("flock");
    let mut holder = Process::spawn(holder.arg(&lock).args(["-c", "echo held; cat"]));
    assert_eq!(holder.answer(), "held");
    let refused = run(&program).stdin(Stdio::null()).output()?;
    assert_eq!(refused.stdout, b"already running\n", "{refused:?}");
    Ok(())
}
