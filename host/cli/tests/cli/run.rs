//! `locket run`: components that run, and the reasons for refusing others.

mod grants;

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use locket::{Engine, Mode};

use crate::support::{Dir, locket, output};

/// Writes a component, given as text, into a directory.
fn component(dir: &Dir, wat: &str) -> PathBuf {
    dir.write(
        "test.wasm",
        wat::parse_str(wat).expect("the component is valid"),
    )
}

fn run(options: &[&str], component: &Path, args: &[&str]) -> Output {
    let mut run = locket(&["run"]);
    run.args(options).arg(component).args(args);
    output(run)
}

/// A guest that is kept in the repository in built form.
fn guest(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/guests/built")
        .join(name)
}

/// A component for this version of WASI, whose `run` has this body.
fn command(version: &str, body: &str) -> String {
    format!(
        r#"(component
            (core module $m (func (export "run") (result i32) {body}))
            (core instance $i (instantiate $m))
            (func $run (result (result)) (canon lift (core func $i "run")))
            (instance $run (export "run" (func $run)))
            (export "wasi:cli/run@{version}" (instance $run)))"#
    )
}

#[track_caller]
fn assert_fails(output: &Output, code: i32, says: &[&str]) {
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{message}");
    for part in says {
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }
}

#[test]
fn files_that_are_not_command_components_are_refused_with_the_reason() {
    let dir = Dir::new();
    let missing = dir.path("missing.wasm");
    assert_fails(
        &run(&[], &missing, &[]),
        66,
        &["missing.wasm", "check the path"],
    );
    assert_fails(&run(&[], &dir.path(""), &[]), 66, &["cannot read"]);

    let text = dir.write("text.wasm", "(component)");
    assert_fails(&run(&[], &text, &[]), 65, &["text.wasm", "not WebAssembly"]);
    let empty = dir.write("empty.wasm", "");
    assert_fails(&run(&[], &empty, &[]), 65, &["not WebAssembly"]);
    let garbage = dir.write("garbage.wasm", b"\0asm\x0d\0\x01\0garbage");
    assert_fails(&run(&[], &garbage, &[]), 65, &["garbage.wasm"]);
    let module = dir.write("module.wasm", wat::parse_str("(module)").unwrap());
    assert_fails(
        &run(&[], &module, &[]),
        65,
        &["core module", "locket componentize"],
    );

    let library = component(&dir, "(component)");
    assert_fails(
        &run(&[], &library, &[]),
        65,
        &["does not export `wasi:cli/run`"],
    );
    let wat = command("0.2.0", "i32.const 0");
    let import =
        r#"(component (import "acme:rockets/launch@1.0.0" (instance (export "go" (func))))"#;
    let unknown = component(&dir, &wat.replacen("(component", import, 1));
    assert_fails(
        &run(&[], &unknown, &[]),
        65,
        &["acme:rockets/launch@1.0.0", "locket:lock"],
    );
}

#[test]
fn the_exit_code_is_that_of_the_component() {
    let dir = Dir::new();
    for version in ["0.2.0", "0.2.12"] {
        let ok = component(&dir, &command(version, "i32.const 0"));
        assert_fails(&run(&[], &ok, &[]), 0, &[]);
        let err = component(&dir, &command(version, "i32.const 1"));
        assert_fails(&run(&[], &err, &[]), 1, &[]);
        assert_fails(&run(&["--instances", "3"], &err, &[]), 1, &[]);
    }
}

#[test]
fn a_trap_is_reported_and_exits_with_134() {
    let dir = Dir::new();
    let trap = component(&dir, &command("0.2.0", "unreachable"));
    assert_fails(&run(&[], &trap, &[]), 134, &["trap", "unreachable"]);
    assert_fails(
        &run(&["--instances", "2"], &trap, &[]),
        134,
        &["instance 0", "instance 1"],
    );
}

#[test]
fn a_component_is_interrupted_when_it_has_run_for_too_long_but_not_for_its_waits() {
    let dir = Dir::new();
    let grant = format!("{}::/data", dir.path("").display());
    let spins = component(&dir, &command("0.2.0", "(loop (br 0)) i32.const 0"));
    let interrupted = run(&["--max-time", "0.1"], &spins, &[]);
    assert_fails(&interrupted, 134, &["used up its running time"]);

    let lock = Engine::new().open(dir.path("lock")).unwrap();
    let guard = lock.acquire(Mode::Exclusive, None).unwrap();
    let args = counting("1", &["/data/counter", "/data/journal"], "/data/lock");
    let options = ["--dir", &grant, "--max-time", "0.5", "--max-wait", "1.5"];
    let waited = run(&options, &guest("counter.wasm"), &args);
    assert_fails(&waited, 1, &["counter: "]);
    guard.release().unwrap();
    assert_fails(&run(&options, &guest("counter.wasm"), &args), 0, &[]);
    let joined = ["join", "/data/a", "/data/b"];
    assert_fails(&run(&options, &guest("tasks.wasm"), &joined), 0, &[]);
}

#[test]
fn usage_errors_exit_with_64() {
    let dir = Dir::new();
    let ok = component(&dir, &command("0.2.0", "i32.const 0"));
    for options in [
        &["--dir", ""][..],
        &["--dir", "::/guest"],
        &["--env", "NAME"],
        &["--instances", "0"],
        &["--max-held", "many"],
        &["--protocol", "nonsense"],
    ] {
        assert_fails(&run(options, &ok, &[]), 64, &[]);
    }
    let missing = dir.path("missing");
    for option in ["--dir", "--lock-dir"] {
        let output = run(&[option, missing.to_str().unwrap()], &ok, &[]);
        assert_fails(&output, 66, &["missing", "is it a directory?"]);
    }
}

/// The arguments of the counter that counts to `count` below `files`, with the lock in `locks`.
fn counting<'a>(count: &'a str, files: &[&'a str; 2], lock: &'a str) -> Vec<&'a str> {
    let [counter, journal] = *files;
    [
        "--lock",
        lock,
        "--counter",
        counter,
        "--journal",
        journal,
        "--count",
        count,
        "--id",
        "me",
    ]
    .into()
}

#[test]
fn instances_take_turns() {
    let dir = Dir::new();
    let grant = format!("{}::/data", dir.path("").display());
    let args = counting("50", &["/data/counter", "/data/journal"], "/data/lock");
    for protocol in ["native", "flock"] {
        let _ = std::fs::remove_file(dir.path("counter"));
        let options = ["--dir", &grant, "--instances", "4", "--protocol", protocol];
        assert_fails(&run(&options, &guest("counter.wasm"), &args), 0, &[]);
        assert_eq!(std::fs::read_to_string(dir.path("counter")).unwrap(), "200");
    }
}

#[test]
fn a_component_waits_for_a_native_lock_as_long_as_it_may() {
    let dir = Dir::new();
    let grant = format!("{}::.", dir.path("").display());
    let lock = Engine::new().open(dir.path("lock")).unwrap();
    let guard = lock.acquire(Mode::Exclusive, None).unwrap();
    let args = counting("1", &["counter", "journal"], "lock");
    let timeout = [&args[..], &["--timeout-ms", "0"]].concat();
    assert_fails(
        &run(&["--dir", &grant], &guest("counter.wasm"), &timeout),
        1,
        &["counter: "],
    );
    let options = ["--dir", &grant, "--max-wait", "0.05"];
    assert_fails(
        &run(&options, &guest("counter.wasm"), &args),
        1,
        &["counter: "],
    );
    guard.release().unwrap();
    assert_fails(&run(&options, &guest("counter.wasm"), &args), 0, &[]);
}

#[test]
fn a_component_of_wasi_0_3_runs() {
    let dir = Dir::new();
    let grant = format!("{}::/data", dir.path("").display());
    let output = run(
        &["--dir", &grant],
        &guest("tasks.wasm"),
        &["join", "/data/a", "/data/b"],
    );
    assert_fails(&output, 0, &[]);
    assert_eq!(output.stdout, b"ok held=true,true\n");
    let output = run(&["--dir", &grant], &guest("tasks.wasm"), &["nonsense"]);
    assert_fails(&output, 1, &[]);
}

#[test]
fn a_component_of_wasi_0_3_locks_a_file_that_it_has_open() {
    let dir = Dir::new();
    let grant = format!("{}::/locks", dir.path("").display());
    let mut run = locket(&["run", "--dir", &grant]);
    run.arg(guest("lent.wasm"));
    let mut run = run
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = run.stdin.take().unwrap();
    let mut replies = BufReader::new(run.stdout.take().unwrap()).lines();
    let mut ask = |command: &str| {
        writeln!(input, "{command}").unwrap();
        replies.next().unwrap().unwrap()
    };
    assert_eq!(ask("lock l /locks/a write flock keep"), "ok");
    assert_eq!(ask("acquire l exclusive 0"), "ok");
    let native = File::open(dir.path("a")).unwrap();
    assert!(native.try_lock_shared().is_err());
    assert_eq!(ask("release l"), "ok");
    native.try_lock().unwrap();
    assert_eq!(ask("acquire l shared 0"), "err would-block");
    drop(input);
    assert!(run.wait().unwrap().success());
}

#[test]
fn the_component_gets_its_arguments_and_environment() {
    let dir = Dir::new();
    let output = run(&["--env", "A=b=c"], &guest("counter.wasm"), &["--nonsense"]);
    assert_fails(&output, 1, &["unknown argument --nonsense"]);
    let output = run(
        &["--env", "A"],
        &component(&dir, &command("0.2.0", "i32.const 0")),
        &[],
    );
    assert_fails(&output, 64, &["NAME=VALUE"]);
}
