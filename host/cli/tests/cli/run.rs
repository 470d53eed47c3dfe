//! `locket run`: components that run, and what is said of those that cannot.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use locket::{Engine, Mode, Options, Protocol};

struct Dir(tempfile::TempDir);

impl Dir {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    fn component(&self, wat: &str) -> PathBuf {
        self.write("test.wasm", wat::parse_str(wat).unwrap())
    }
}

fn run(options: &[&str], component: &Path, args: &[&str]) -> Output {
    let mut run = Command::new(env!("CARGO_BIN_EXE_locket"));
    run.arg("run")
        .args(options)
        .arg(component)
        .args(args)
        .stdin(Stdio::null());
    run.output().unwrap()
}

/// One of the guests that are kept in the repository.
fn guest(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/guests/built")
        .join(name)
}

/// A component with a `run` that does as `body` says, in the WASI of the given version.
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
fn what_is_no_command_component_is_refused_with_the_reason() {
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
        &["core module", "wasm-tools component new"],
    );

    let library = dir.component("(component)");
    assert_fails(
        &run(&[], &library, &[]),
        65,
        &["does not export `wasi:cli/run`"],
    );
    let wat = command("0.2.0", "i32.const 0");
    let import =
        r#"(component (import "acme:rockets/launch@1.0.0" (instance (export "go" (func))))"#;
    let unknown = dir.component(&wat.replacen("(component", import, 1));
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
        let ok = dir.component(&command(version, "i32.const 0"));
        assert_fails(&run(&[], &ok, &[]), 0, &[]);
        let err = dir.component(&command(version, "i32.const 1"));
        assert_fails(&run(&[], &err, &[]), 1, &[]);
        assert_fails(&run(&["--instances", "3"], &err, &[]), 1, &[]);
    }
}

#[test]
fn a_trap_is_told_and_exits_with_134() {
    let dir = Dir::new();
    let trap = dir.component(&command("0.2.0", "unreachable"));
    assert_fails(&run(&[], &trap, &[]), 134, &["trap", "unreachable"]);
    assert_fails(
        &run(&["--instances", "2"], &trap, &[]),
        134,
        &["instance 0", "instance 1"],
    );
}

#[test]
fn usage_errors_exit_with_64() {
    let dir = Dir::new();
    let ok = dir.component(&command("0.2.0", "i32.const 0"));
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
fn a_directory_of_locks_grants_no_files() {
    let dir = Dir::new();
    std::fs::create_dir(dir.path("locks")).unwrap();
    std::fs::create_dir(dir.path("data")).unwrap();
    let locks = format!("{}::/locks", dir.path("locks").display());
    let data = format!("{}::/data", dir.path("data").display());
    let options = ["--lock-dir", &locks, "--dir", &data];
    let args = counting("3", &["/data/counter", "/data/journal"], "/locks/lock");
    assert_fails(&run(&options, &guest("counter.wasm"), &args), 0, &[]);
    assert!(dir.path("locks/lock").exists());
    let args = counting("3", &["/locks/counter", "/data/journal"], "/locks/lock");
    assert_fails(
        &run(&options, &guest("counter.wasm"), &args),
        1,
        &["counter: /locks/counter"],
    );
    assert!(!dir.path("locks/counter").exists());
    // Nothing at all is granted by default.
    let args = counting("3", &["/data/counter", "/data/journal"], "/data/lock");
    assert_fails(&run(&[], &guest("counter.wasm"), &args), 1, &["counter: "]);
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
fn arguments_and_environment_arrive() {
    let dir = Dir::new();
    let output = run(&["--env", "A=b=c"], &guest("counter.wasm"), &["--nonsense"]);
    assert_fails(&output, 1, &["unknown argument --nonsense"]);
    let output = run(
        &["--env", "A"],
        &dir.component(&command("0.2.0", "i32.const 0")),
        &[],
    );
    assert_fails(&output, 64, &["NAME=VALUE"]);
}

/// Breaks the lock `/locks/app.lock`, and fails where that does.
const BREAKER: &str = r#"(component
  (import "locket:lock/api@0.1.0" (instance $api
    (type $reason' (enum "expired" "broken" "disconnected" "io"))
    (export "lost-reason" (type $reason (eq $reason')))
    (type $kind' (enum
      "no-space" "quota" "read-only" "stale" "too-many-files" "too-many-locks" "other"))
    (export "io-kind" (type $kind (eq $kind')))
    (type $error' (variant
      (case "would-block") (case "timeout") (case "not-locked") (case "not-owner")
      (case "deadlock") (case "access-denied") (case "no-entry") (case "invalid-path")
      (case "limit-exceeded") (case "not-supported") (case "unavailable")
      (case "lost" $reason) (case "canceled") (case "io" $kind) (case "other" (option string))))
    (export "error" (type $error (eq $error')))))
  (alias export $api "error" (type $error))
  (import "locket:lock/admin@0.1.0" (instance $admin
    (alias outer 1 $error (type $error))
    (export "break-lock" (func (param "path" string) (result (result (error $error)))))))
  (core module $memory
    (memory (export "memory") 1)
    (data (i32.const 0) "/locks/app.lock")
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) unreachable))
  (core instance $memory (instantiate $memory))
  (alias core export $memory "memory" (core memory $m))
  (alias core export $memory "realloc" (core func $realloc))
  (core func $break
    (canon lower (func $admin "break-lock") (memory $m) (realloc (core func $realloc))))
  (core module $main
    (import "" "memory" (memory 1))
    (import "" "break" (func $break (param i32 i32 i32)))
    (func (export "run") (result i32)
      (call $break (i32.const 0) (i32.const 15) (i32.const 64))
      (i32.load8_u (i32.const 64))))
  (core instance $main (instantiate $main (with "" (instance
    (export "memory" (memory $m))
    (export "break" (func $break))))))
  (func $run (result (result)) (canon lift (core func $main "run")))
  (instance $run (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $run)))"#;

#[test]
fn locks_are_broken_only_where_that_is_allowed() {
    let dir = Dir::new();
    let breaker = dir.component(BREAKER);
    let options = Options::new().protocol(Protocol::Link);
    let lock = Engine::new()
        .open_with(dir.path("app.lock"), &options)
        .unwrap();
    let guard = lock.acquire(Mode::Exclusive, None).unwrap();
    let grant = format!("{}::/locks", dir.path("").display());
    let asked = ["--lock-dir", &grant, "--allow-protocol", "link"];
    assert_eq!(run(&asked, &breaker, &[]).status.code(), Some(1));
    assert!(dir.path("app.lock.lock").exists());
    let output = run(&[&asked[..], &["--allow-break"]].concat(), &breaker, &[]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(guard.release().unwrap_err().is_lost());
}

/// Runs the guest that does as it is told line by line, and returns its answers.
fn dialogue(options: &[&str], lines: &[&str]) -> Vec<String> {
    let mut run = Command::new(env!("CARGO_BIN_EXE_locket"));
    run.arg("run").args(options).arg(guest("remote.wasm"));
    let run = run.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut run = run.unwrap();
    let mut input = run.stdin.take().unwrap();
    input
        .write_all(format!("{}\n", lines.join("\n")).as_bytes())
        .unwrap();
    drop(input);
    let output = run.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let answers = String::from_utf8(output.stdout).unwrap();
    answers.lines().map(str::to_owned).collect()
}

#[test]
fn a_component_with_locks_alone_removes_nothing() {
    let dir = Dir::new();
    let data = dir.write("data.csv", "precious");
    let locks = format!("{}::/y", dir.path("").display());
    let remove = ["open a /y/data.csv remove", "open a /y/new remove"];
    let soft = ["open a /y/k keep soft", "open a /y/k keep mkdir"];
    let locks = ["--lock-dir", &locks];
    let lines = [remove, soft].concat();
    assert_eq!(dialogue(&locks, &lines), ["err access-denied"; 4]);
    // Those that are named can be chosen, and nothing besides.
    let options = [&locks[..], &["--allow-protocol", "soft"]].concat();
    let answers = dialogue(&options, &lines);
    assert_eq!(answers[2], "ok");
    assert_eq!(
        [&answers[..2], &answers[3..]].concat(),
        ["err access-denied"; 3]
    );
    assert_eq!(
        dialogue(&options, &["open a /y/k keep flock"]),
        ["err access-denied"]
    );
    // With its files, too, it cannot remove what has content.
    let files = format!("{}::/y", dir.path("").display());
    let lines = [remove[0], "acquire a exclusive 0", "release a"];
    let answers = dialogue(&["--dir", &files], &lines);
    assert!(answers.iter().all(|answer| answer.starts_with("ok")));
    assert_eq!(std::fs::read(data).unwrap(), b"precious");
}

#[test]
fn a_component_creates_no_more_files_than_it_may() {
    let dir = Dir::new();
    let locks = format!("{}::/y", dir.path("").display());
    let options = ["--lock-dir", &locks, "--max-created", "2"];
    let lines = ["open a /y/a", "open a /y/b", "open a /y/c", "open a /y/b"];
    let answers = dialogue(&options, &lines);
    assert_eq!([&answers[..2], &answers[3..]].concat(), ["ok"; 3]);
    assert!(answers[2].starts_with("err"), "{answers:?}");
    assert!(dir.path("b").exists() && !dir.path("c").exists());
}

#[test]
fn a_database_in_a_granted_directory_is_refused() {
    let (dir, elsewhere) = (Dir::new(), Dir::new());
    std::fs::create_dir(dir.path("below")).unwrap();
    let ok = dir.component(&command("0.2.0", "i32.const 0"));
    let grant = format!("{}::/data", dir.path("").display());
    for option in ["--dir", "--lock-dir"] {
        for name in ["locks.db", "below/locks.db", "below/../locks.db"] {
            let database = dir.path(name);
            let database = database.to_str().unwrap();
            let output = run(&[option, &grant, "--database", database], &ok, &[]);
            assert_fails(&output, 66, &[database, "keep the database elsewhere"]);
        }
        let database = elsewhere.path("locks.db");
        let database = database.to_str().unwrap();
        let output = run(&[option, &grant, "--database", database], &ok, &[]);
        assert_fails(&output, 0, &[]);
    }
    assert!(!dir.path("locks.db").exists() && !dir.path("below/locks.db").exists());
}
