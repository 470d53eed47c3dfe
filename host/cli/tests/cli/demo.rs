//! `locket demo`: no count is lost while all participants use the lock.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Instant;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{Dir, LONGEST_RUN, kill, locket, output};

fn demo(args: &[&str]) -> Output {
    output(locket(&[&["demo"], args].concat()))
}

fn report(args: &[&str]) -> Value {
    let output = demo(&[args, &["--json"]].concat());
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn assert_exact(report: &Value, participants: usize, increments: usize) {
    let expected = json!(participants * increments);
    assert_eq!(report["expected"], expected, "{report}");
    assert_eq!(report["total"], expected, "{report}");
    assert_eq!(report["exact"], json!(true), "{report}");
    let list = report["participants"].as_array().unwrap();
    assert_eq!(list.len(), participants, "{report}");
    assert!(
        list.iter()
            .all(|one| one["increments"] == json!(increments)),
        "{report}"
    );
}

#[test]
fn a_caller_that_ignores_the_end_of_its_children_gets_the_result() {
    let script = "import os, signal, sys
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
os.execv(sys.argv[1], sys.argv[1:])";
    let mut python = std::process::Command::new("python3");
    python.args([
        "-c",
        script,
        env!("CARGO_BIN_EXE_locket"),
        "demo",
        "--increments",
        "5",
    ]);
    let output = output(python);
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn processes_and_components_count_exactly() {
    for protocol in ["native", "flock"] {
        let report = report(&["--increments", "40", "--protocol", protocol]);
        assert_eq!(report["protocol"], json!(protocol));
        assert_exact(&report, 8, 40);
        let list = report["participants"].as_array().unwrap();
        for kind in ["native", "wasm"] {
            assert_eq!(
                list.iter().filter(|one| one["kind"] == json!(kind)).count(),
                4
            );
        }
        // All eight participants get a turn.
        assert!(report["hand_overs"].as_u64().unwrap() >= 7, "{report}");
    }
}

#[test]
fn without_the_lock_counts_are_lost() {
    let report = report(&["--increments", "200"]);
    assert_exact(&report, 8, 200);
    assert!(report["unlocked"]["lost"].as_i64().unwrap() > 0, "{report}");
}

#[test]
fn processes_and_components_count_exactly_in_a_database() {
    let report = report(&["--sqlite", "--increments", "40"]);
    assert_eq!(report["protocol"], json!("sqlite-wal"));
    assert_exact(&report, 8, 40);
    // With locks that the others do not see, counts are lost, or the database is damaged.
    let unlocked = &report["unlocked"];
    let lost = unlocked["lost"].as_i64().is_none_or(|lost| lost > 0);
    assert!(lost || unlocked["damaged"] == json!(true), "{report}");
    let output = demo(&["--sqlite", "--increments", "5", "--processes", "2"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        text.contains("With Locket in components:                   30 of 30, exact"),
        "{text}"
    );
    assert!(output.stderr.is_empty(), "{output:?}");
}

#[test]
fn each_kind_can_run_alone() {
    let report_of = |processes, components| {
        report(&[
            "--processes",
            processes,
            "--components",
            components,
            "--increments",
            "20",
        ])
    };
    assert_exact(&report_of("3", "0"), 3, 20);
    assert_exact(&report_of("0", "3"), 3, 20);
    let alone = report_of("1", "0");
    assert_exact(&alone, 1, 20);
    assert_eq!(alone["unlocked"], json!(null));
}

#[test]
fn the_table_shows_the_same() {
    let output = demo(&["--increments", "10"]);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        text.contains("With the lock (native):  80 of 80, exact"),
        "{text}"
    );
    assert!(text.contains("Without the lock:"), "{text}");
    for name in ["process 1", "process 4", "component 1", "component 4"] {
        assert!(text.lines().any(|line| line.starts_with(name)), "{text}");
    }
    // Color and progress are for terminals.
    assert!(
        !text.contains('\x1b') && output.stderr.is_empty(),
        "{output:?}"
    );
}

#[test]
fn usage_errors_exit_with_64() {
    for args in [
        &["--processes", "-1"][..],
        &["--increments", "many"],
        &["--sqlite", "--protocol", "flock"],
        &["extra"],
    ] {
        assert_eq!(demo(args).status.code(), Some(64), "{args:?}");
    }
}

#[test]
fn an_interrupted_demo_leaves_nothing_behind() {
    let dir = Dir::new();
    let root = dir.path("");
    let mut demo = locket(&["demo", "--increments", "1000000"]);
    let mut demo = demo
        .env("TMPDIR", &root)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let start = Instant::now();
    // Both kinds are in the journal, so they are counting.
    let counts = |kind: &str| {
        let entries = walk(&root);
        let journal = entries.iter().find(|path| path.ends_with("journal"));
        journal
            .and_then(|path| std::fs::read_to_string(path).ok())
            .is_some_and(|text| text.contains(kind))
    };
    while !counts("process") || !counts("component") {
        assert!(start.elapsed() < LONGEST_RUN);
        std::thread::yield_now();
    }
    kill(&demo, Signal::INT);
    assert_eq!(demo.wait().unwrap().code(), Some(130));
    assert_eq!(walk(&root), Vec::<PathBuf>::new());
}

/// All files below a directory.
fn walk(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        files.extend(walk(&path));
        files.push(path);
    }
    files
}
