//! Random histories of calls, each compared with a model of what a lock must answer.
//!
//! `PROPTEST_CASES` sets their number and `PROPTEST_RNG_SEED` the seed. A history that fails is shortened
//! as far as possible and printed.
#![cfg(target_os = "linux")]

mod calls;
#[path = "../common/mod.rs"]
mod common;
mod grants;
pub(crate) mod history;
mod reference;
pub(crate) mod system;
mod vocabulary;
mod waits;

use std::cell::Cell;
use std::fs::File;

use history::{Call, History, Patience};
use proptest::prelude::any;
use proptest::test_runner::{Config, TestError, TestRunner};

#[test]
fn every_answer_is_that_of_the_model() {
    // A failure may depend on the timing of the machine, so shrinking has a limit in time.
    let config = Config {
        failure_persistence: None,
        max_shrink_time: 20_000,
        ..Config::default()
    };
    let (histories, calls) = (Cell::new(0), Cell::new(0));
    let result = TestRunner::new(config).run(&any::<History>(), |history| {
        system::run(&history);
        histories.set(histories.get() + 1);
        calls.set(calls.get() + history.calls.len());
        Ok(())
    });
    match result {
        Ok(()) => {}
        Err(TestError::Fail(why, history)) => panic!("{why}: {history:?}"),
        Err(TestError::Abort(why)) => panic!("{why}"),
    }
    println!("{} histories, {} calls", histories.get(), calls.get());
}

/// One lock, held by a guard of one engine, and another engine that waits for it.
fn opening() -> Vec<Call> {
    let open = |engine| Call::Open {
        engine,
        file: 0,
        protocol: 0,
        remove: false,
    };
    let acquire = Call::Acquire {
        handle: 0,
        shared: false,
        patience: Patience::Try,
    };
    let start = Call::Start {
        handle: 1,
        shared: false,
    };
    vec![open(0), open(1), acquire, start]
}

#[test]
fn a_history_by_hand() {
    let mut calls = opening();
    calls.push(Call::Ask { handle: 1 });
    calls.push(Call::Poll { wait: 0 });
    calls.push(Call::Release { hold: 0 });
    calls.push(Call::Ask { handle: 0 });
    calls.push(Call::ReleaseThrough { handle: 1 });
    system::run(&History {
        existence_lock: 0,
        calls,
    });
}

#[test]
#[should_panic(expected = "acquired exclusive")]
fn an_answer_that_differs_from_the_model_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let foreign = File::create(dir.path().join("file0")).unwrap();
    foreign.lock().unwrap();
    let calls = opening();
    system::run_in(
        dir.path(),
        &History {
            existence_lock: 0,
            calls,
        },
    );
}
