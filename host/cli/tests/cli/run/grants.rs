//! What a component may do with the directories that are granted to it.

use std::io::Write;
use std::process::Stdio;

use locket::{Engine, Mode, Options, Protocol};

use super::{assert_fails, command, component, counting, guest, run};
use crate::support::{Dir, locket};

#[test]
fn lock_dir_grants_no_files() {
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
    // By default, nothing is granted.
    let args = counting("3", &["/data/counter", "/data/journal"], "/data/lock");
    assert_fails(&run(&[], &guest("counter.wasm"), &args), 1, &["counter: "]);
}

/// Breaks the lock `/locks/app.lock`. Fails if that fails.
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
fn locks_are_broken_only_if_that_is_allowed() {
    let dir = Dir::new();
    let breaker = component(&dir, BREAKER);
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

/// Runs the guest that reads a command per line, and returns its answers.
fn dialogue(options: &[&str], lines: &[&str]) -> Vec<String> {
    let mut run = locket(&["run"]);
    run.args(options).arg(guest("remote.wasm"));
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
fn lock_dir_grants_no_removal() {
    let dir = Dir::new();
    let data = dir.write("data.csv", "precious");
    let locks = format!("{}::/y", dir.path("").display());
    let remove = ["open a /y/data.csv remove", "open a /y/new remove"];
    let soft = ["open a /y/k keep soft", "open a /y/k keep mkdir"];
    let locks = ["--lock-dir", &locks];
    let lines = [remove, soft].concat();
    assert_eq!(dialogue(&locks, &lines), ["err access-denied"; 4]);
    // The component can choose a protocol that is named, and no other.
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
    // Even with access to the files, it cannot remove a file that has content.
    let files = format!("{}::/y", dir.path("").display());
    let lines = [remove[0], "acquire a exclusive 0", "release a"];
    let answers = dialogue(&["--dir", &files], &lines);
    assert!(answers.iter().all(|answer| answer.starts_with("ok")));
    assert_eq!(std::fs::read(data).unwrap(), b"precious");
}

#[test]
fn a_component_creates_no_more_files_than_its_limit() {
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
    let ok = component(&dir, &command("0.2.0", "i32.const 0"));
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
