//! Runs the examples that check themselves.
#![cfg(all(target_os = "linux", feature = "sandbox", not(any(loom, shuttle))))]

#[path = "../examples/wasmi.rs"]
mod adapter;

#[test]
fn guests_of_another_runtime_take_turns_with_this_program() {
    adapter::main().unwrap();
}
