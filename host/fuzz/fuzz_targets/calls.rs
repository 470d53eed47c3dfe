//! Sequences of calls on handles, each answer compared with the model of `host/tests/model`.
#![no_main]

#[allow(dead_code, unused_imports, reason = "the tests in it are not built")]
#[path = "../../tests/model/main.rs"]
mod model;

use libfuzzer_sys::fuzz_target;
use model::history::History;
use model::system;

fuzz_target!(|history: History| system::run(&history));
