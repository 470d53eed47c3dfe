//! Programs in C. Those that were written for Unix and call flock() are components as they are, and
//! lock with and against native programs.

use locket_tests::harness::Host;
use locket_tests::process::{Dir, Process, tool};
use polyglot::Language;
use polyglot::host::{Guest, component};
use polyglot::languages::c::program;
use polyglot::program::Program;
use std::path::Path;
use std::process::{Command, Stdio};

type Result<T = (), E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_holds_a_lock_and_what_it_is_worth_are_told() -> Result {
    let c = Language::named("c").expect("C");
    if !c.is_ready() {
        return Ok(());
    }
    let component = component(&c.built()?.path)?;
    let host = Host::new();
    let start = async |label| {
        let ctx = host.ctx().label(label).build();
        Guest::start_with(&component, &host, ctx).await
    };
    let (mut one, mut two) = (start("one").await?, start("two").await?);
    for guest in [&mut one, &mut two] {
        assert_eq!(guest.run("open a /locks/a").await?, "ok");
    }
    assert_eq!(one.run("holder a").await?, "ok none");
    assert_eq!(one.run("acquire a shared 0").await?, "ok");
    assert_eq!(one.run("holder a").await?, "ok self shared one");
    assert_eq!(two.run("holder a").await?, "ok other shared one");
    assert_eq!(one.run("release a").await?, "ok");
    let worth = "ok scope=0 fifo=1 fencing=0 ttl=-1";
    assert_eq!(one.run("guarantee a").await?, worth);
    assert_eq!(one.run("drop a").await?, "ok");
    assert_eq!(one.run("holder a").await?, "err closed");
    Ok(())
}

#[test]
fn a_daemon_for_any_unix_runs_once_whatever_it_is() -> Result {
    let Some(daemon) = Program::build("guest/c/examples/daemon.c", &[])? else {
        return Ok(());
    };
    let dir = Dir::new();
    let flock = |path: &Path| {
        let got = Command::new("flock")
            .arg("-n")
            .arg(path)
            .arg("true")
            .status();
        got.expect("flock(1) is installed").success()
    };
    for mut first in daemon.both(dir.path(), "lock") {
        let mut first = Process::spawn(&mut first);
        assert_eq!(first.answer(), "running");
        assert!(!flock(&dir.lock()), "flock(1) got in");
        for mut second in daemon.both(dir.path(), "lock") {
            let output = second.stdin(Stdio::null()).output()?;
            assert_eq!(output.stdout, b"already running\n", "{output:?}");
            assert_eq!(output.status.code(), Some(1));
        }
        assert!(first.finish());
        assert!(flock(&dir.lock()), "it is not free");
    }

    let mut holder = Process::spawn(
        Command::new("flock")
            .arg(dir.lock())
            .args(["-c", "echo held; cat"]),
    );
    assert_eq!(holder.answer(), "held");
    for mut daemon in daemon.both(dir.path(), "lock") {
        let output = daemon.stdin(Stdio::null()).output()?;
        assert_eq!(output.stdout, b"already running\n", "{output:?}");
    }
    Ok(())
}

#[test]
fn flock_does_in_a_component_what_it_does_in_a_native_program() -> Result {
    let Some(program) = Program::build("tests/polyglot/guests/c/flock.c", &[])? else {
        return Ok(());
    };
    let dir = Dir::new();
    for mut program in program.both(dir.path(), "") {
        let output = program.output()?;
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program:?}: {errors}");
    }
    Ok(())
}

#[test]
fn the_example_counts() -> Result {
    if !Language::named("c").expect("C").is_ready() {
        return Ok(());
    }
    let dir = Dir::new();
    let component = dir.path().join("job.wasm");
    program(
        &polyglot::root().join("guest/c/examples/job.c"),
        &component,
        &[],
    )?;
    for count in 1..=2 {
        let grant = format!("{}::/jobs", dir.path().display());
        let mut run = Command::new(tool());
        assert!(
            run.args(["run", "--dir", &grant])
                .arg(&component)
                .status()?
                .success()
        );
        let counted = std::fs::read_to_string(dir.path().join("count"))?;
        assert_eq!(counted, format!("{count}\n"));
    }
    Ok(())
}
