//! Runs the examples that check themselves.
#![cfg(all(
    any(target_os = "linux", windows),
    feature = "sandbox",
    not(any(loom, shuttle))
))]

use std::process::Command;

#[path = "../examples/wasmi.rs"]
mod adapter;

#[test]
fn guests_of_another_runtime_take_turns_with_native_processes() {
    let mut other = Command::new(std::env::current_exe().unwrap());
    other.args(["as_another_process", "--exact", "--ignored"]);
    adapter::run(other).unwrap();
}

#[test]
#[ignore = "started by the other test"]
fn as_another_process() {
    adapter::main().unwrap();
}
