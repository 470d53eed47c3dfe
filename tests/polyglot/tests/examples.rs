//! The examples of the languages whose packages no other test builds: a job that only one instance does
//! at a time. And what the package for Go does besides.

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
        go::WORLD,
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
    let checks = go::command(
        "tests/polyglot/guests/go/flock/main.go",
        go::WORLD,
        scratch.path(),
    )?;
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

    let daemon = go::command(
        "guest/go/examples/daemon/main.go",
        go::WORLD,
        scratch.path(),
    )?;
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

#[test]
fn ranges_in_go_are_record_locks() -> Result {
    if !is_ready("go") {
        return Ok(());
    }
    let (dir, scratch) = (Dir::new(), tempfile::tempdir()?);
    let program = scratch.path().join("ranges.wasm");
    let guest = "tests/polyglot/guests/go/ranges";
    let (source, world) = (format!("{guest}/main.go"), format!("{guest}/job.wit"));
    std::fs::write(&program, go::command(&source, &world, scratch.path())?)?;
    let grant = format!("{}::/run", dir.path().display());
    let mut run = Command::new(tool());
    let mut run = Process::spawn(run.args(["run", "--dir", &grant]).arg(&program));
    assert_eq!(run.answer(), "locked");

    let body = "import fcntl, struct, sys\n\
         file = open(sys.argv[1], 'r+')\n\
         def get(kind, start):\n    \
             lock = struct.pack('hhqqi4x', kind, 0, start, 1, 0)\n    \
             found = struct.unpack('hhqqi4x', fcntl.fcntl(file, fcntl.F_GETLK, lock))\n    \
             return 'free' if found[0] == fcntl.F_UNLCK else f'{found[2]}+{found[3]}'\n\
         fcntl.lockf(file, fcntl.LOCK_EX, 10, 100)\n\
         print(*[get(fcntl.F_RDLCK, at) for at in (9, 10, 15, 20, 25)], get(fcntl.F_WRLCK, 15), flush=True)\n\
         sys.stdin.read()\n";
    let mut native = Process::python(body, &dir.path().join("ranges"));
    assert_eq!(native.answer(), "free 10+5 free 20+5 free 15+5");
    assert_eq!(run.ask("and now?"), "100 10 false");
    let rest = [(); 3].map(|()| run.answer());
    assert_eq!(rest, ["true"; 3]);
    Ok(())
}
