//! Tests of the stress tests: a worker that does not lock is noticed, and no other worker is blamed.

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use locket::Protocol;
use locket_test_support::waits::STUCK;
use torture::stress::history::{Breach, Violation};
use torture::stress::plan::{Lock, Workload};
use torture::stress::process::Kind;
use torture::stress::workers::{Finished, Foreign, WorkerGroup};

fn workload(protocol: Protocol, sections: Option<u64>) -> Workload {
    Workload {
        shared: 20,
        limited: 20,
        abandoned: 5,
        lasting: 20,
        longest: Duration::from_millis(1),
        sections,
        ..Workload::of(vec![Lock::of(protocol)])
    }
}

fn group() -> WorkerGroup {
    WorkerGroup::of(PathBuf::from(env!("CARGO_BIN_EXE_torture")))
        .expect("an empty group can be created")
}

/// What is left of two processes with these workers.
fn finished(workers: &[Kind], protocol: Protocol) -> Finished {
    let mut group = group();
    for name in ["a", "b"] {
        let workload = workload(protocol, Some(50));
        group
            .start(name, 1, workers, &workload)
            .expect("the process can be started");
    }
    group.wait().expect("the journals can be read")
}

#[test]
fn a_worker_that_does_not_lock_is_noticed() {
    let violations = finished(&[Kind::Blocking, Kind::Reckless], Protocol::Native).violations();
    let mut kinds: Vec<_> = violations.iter().map(|violation| violation.kind).collect();
    kinds.dedup();
    assert!(kinds.contains(&Breach::Overlap), "{kinds:?}");
    assert!(kinds.contains(&Breach::Count), "{kinds:?}");
}

#[test]
fn workers_that_lock_are_not_blamed() {
    for protocol in Protocol::ALL {
        let finished = finished(&[Kind::Blocking, Kind::Task], *protocol);
        assert_eq!(finished.history.sections(), 200, "{protocol}");
        let violations = finished.violations();
        assert!(violations.is_empty(), "{protocol}: {violations:#?}");
    }
}

#[test]
fn a_foreign_program_with_another_kind_of_lock_is_noticed() {
    let mut group = group();
    let ours = workload(Protocol::Flock, None);
    group
        .start("ours", 1, &[Kind::Blocking; 2], &ours)
        .expect("the process can be started");
    let foreign = Foreign {
        function: "lockf",
        locks: vec!["flock".to_owned()],
        shared: 0,
        lasting: 50,
        longest: 0.001,
    };
    group
        .start_foreign("python", 1, &foreign)
        .expect("python3 can be started");
    until(&group, "python.0-foreign");
    let finished = group.finish().expect("the journals can be read");
    let overlap = |violation: &Violation| violation.kind == Breach::Overlap;
    assert!(finished.violations().iter().any(overlap));
}

#[test]
fn neither_a_killed_worker_nor_the_next_owner_is_blamed() {
    let mut group = group();
    let workload = workload(Protocol::Native, None);
    for name in ["a", "b", "c"] {
        group
            .start(name, 1, &[Kind::Blocking, Kind::Task], &workload)
            .expect("the process can be started");
    }
    for killed in ["a", "b"] {
        until(&group, &format!("{killed}.0-blocking"));
        let member = (0..group.size()).find(|member| group.name(*member) == killed);
        group
            .kill(member.expect("the process is in the group"))
            .expect("the process can be killed");
    }
    until(&group, "c.0-blocking");
    let finished = group.finish().expect("the journals can be read");
    assert_eq!(finished.failures, [""; 0]);
    let violations = finished.violations();
    assert!(violations.is_empty(), "{violations:#?}");
}

#[test]
fn a_stuck_worker_is_reported_with_what_the_kernel_knows() {
    let mut group = group();
    group.stuck_after(Duration::from_millis(300));
    let workload = workload(Protocol::Flock, Some(1));
    let lock = group.layout().lock(&workload.locks[0]);
    let held = locket::Engine::new().open(lock).expect("the lock is free");
    let held = held
        .acquire(locket::Mode::Exclusive, None)
        .expect("the lock is free");
    group
        .start("a", 1, &[Kind::Tool], &workload)
        .expect("the process can be started");
    let finished = group.wait().expect("the journals can be read");
    drop(held);
    let [report] = &finished.failures[..] else {
        panic!("{:?}", finished.failures);
    };
    assert!(report.contains("/proc/locks\n1: "), "{report}");
    assert!(report.contains("\"event\":\"ask\""), "{report}");
}

/// Waits until a worker has done something.
fn until(group: &WorkerGroup, worker: &str) {
    const SOMETHING: u64 = 20_000;
    let journal = group.layout().journals().join(worker);
    let start = Instant::now();
    while journal.metadata().map_or(0, |journal| journal.len()) < SOMETHING {
        assert!(start.elapsed() < STUCK, "{worker} does nothing");
        thread::sleep(Duration::from_millis(1));
    }
}
