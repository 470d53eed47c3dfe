//! Sequences of calls on handles, each answer held against the model of `host/tests/model`.
#![no_main]

#[path = "../../tests/model/history.rs"]
mod history;
#[path = "../../tests/model/reference.rs"]
mod reference;
#[path = "../../tests/model/system.rs"]
mod system;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|history: history::History| system::run(&history));
