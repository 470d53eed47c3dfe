//! Tests of the fault tests: subjects that break a promise are noticed. And faults that once broke a
//! promise do not any more.

use std::path::Path;

use locket::Protocol;
use torture::faults::Trial;
use torture::faults::fixture::Scenario;
use torture::faults::operation::Operation;
use torture::faults::oracle::check;
use torture::faults::strace::{Event, Injection, Strace, When};
use torture::faults::subject::Fault;

const PROGRAM: &str = env!("CARGO_BIN_EXE_torture");

/// Whether these tests can run here. In CI they must.
fn can_trace() -> bool {
    let there = Strace::is_there();
    assert!(
        there || std::env::var_os("CI").is_none(),
        "CI must have strace"
    );
    if !there {
        println!("NOT RUN, because strace is missing");
    }
    there
}

fn broken(
    operation: Operation,
    protocol: Protocol,
    injection: Option<&Injection>,
    fault: Option<Fault>,
) -> Vec<String> {
    let scenario = Scenario {
        protocol,
        operation,
    };
    let begin = || Trial::begin(Path::new(PROGRAM), scenario, injection, fault).unwrap();
    // A thread that is late makes different calls, so the fault may not occur.
    let mut trials = std::iter::repeat_with(begin).take(20);
    let trial = trials.find(|trial| trial.is_struck() == injection.is_some());
    let trial = trial.expect("the fault occurs in one of the trials");
    check(scenario, &trial.finish().unwrap())
}

#[test]
fn a_correct_subject_is_not_blamed() {
    if can_trace() {
        let none = broken(Operation::Acquire, Protocol::Native, None, None);
        assert_eq!(none, [""; 0]);
    }
}

#[test]
fn a_subject_that_breaks_a_promise_is_noticed() {
    let faults = [
        (Fault::Hold, "to others it is held"),
        (Fault::Pretend, "to others it is free"),
        (Fault::Descriptor, "/dev/null"),
        (Fault::Thread, "thread"),
        (Fault::Hang, "nothing was heard"),
        (Fault::Panic, "the panic that was asked for"),
    ];
    if !can_trace() {
        return;
    }
    std::thread::scope(|scope| {
        for (fault, word) in faults {
            scope.spawn(move || {
                let broken = broken(Operation::Acquire, Protocol::Native, None, Some(fault));
                let found = broken.iter().any(|broken| broken.contains(word));
                assert!(found, "{fault:?}: {broken:?}");
            });
        }
    });
}

#[test]
fn a_wait_ends_even_if_interrupting_it_fails() {
    for call in ["dup3", "tgkill"] {
        if can_trace() {
            let injection = Injection {
                call: call.to_owned(),
                when: When::Once(1),
                event: Event::Error("EIO"),
            };
            let broken = broken(
                Operation::TimeOutAsync,
                Protocol::Native,
                Some(&injection),
                None,
            );
            assert_eq!(broken, [""; 0], "{call}");
        }
    }
}
