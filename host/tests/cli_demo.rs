//! `locket demo`: nothing is lost while everybody asks for the lock.

use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

fn demo(args: &[&str]) -> Output {
    let mut demo = Command::new(env!("CARGO_BIN_EXE_locket"));
    demo.arg("demo").args(args).stdin(Stdio::null());
    demo.output().unwrap()
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
        // Eight who all come to their turn.
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
fn either_kind_can_be_alone() {
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
fn the_table_tells_the_same() {
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
    // Colour and progress are for terminals.
    assert!(
        !text.contains('\x1b') && output.stderr.is_empty(),
        "{output:?}"
    );
}

#[test]
fn nonsense_is_64() {
    for args in [
        &["--processes", "-1"][..],
        &["--increments", "many"],
        &["extra"],
    ] {
        assert_eq!(demo(args).status.code(), Some(64), "{args:?}");
    }
}
