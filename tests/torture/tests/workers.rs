//! Whether the proof proves anything: who does not lock is found out, and who does is not blamed.

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use locket::Protocol;
use torture::stress::history::{Breach, Violation};
use torture::stress::plan::{Lock, Workload};
use torture::stress::process::Kind;
use torture::stress::workers::{Finished, Foreign, WorkerGroup};

/// Long enough that something which has not happened is stuck.
const STUCK: Duration = Duration::from_secs(20);

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
    WorkerGroup::of(PathBuf::from(env!("CARGO_BIN_EXE_torture"))).expect("a group")
}

/// Two processes with these workers.
fn finished(workers: &[Kind], protocol: Protocol) -> Finished {
    let mut group = group();
    for name in ["a", "b"] {
        let workload = workload(protocol, Some(50));
        group.start(name, 1, workers, &workload).expect("a process");
    }
    group.wait().expect("journals")
}

#[test]
fn who_does_not_lock_is_found_out() {
    let violations = finished(&[Kind::Blocking, Kind::Reckless], Protocol::Native).violations();
    let mut kinds: Vec<_> = violations.iter().map(|violation| violation.kind).collect();
    kinds.dedup();
    assert!(kinds.contains(&Breach::Overlap), "{kinds:?}");
    assert!(kinds.contains(&Breach::Count), "{kinds:?}");
}

#[test]
fn who_locks_is_not_blamed() {
    for protocol in Protocol::ALL {
        let finished = finished(&[Kind::Blocking, Kind::Task], *protocol);
        assert_eq!(finished.history.sections(), 200, "{protocol}");
        let violations = finished.violations();
        assert!(violations.is_empty(), "{protocol}: {violations:#?}");
    }
}

#[test]
fn a_program_of_others_that_locks_otherwise_is_found_out() {
    let mut group = group();
    let ours = workload(Protocol::Flock, None);
    group
        .start("ours", 1, &[Kind::Blocking; 2], &ours)
        .expect("a process");
    let foreign = Foreign {
        function: "lockf",
        locks: vec!["flock".to_owned()],
        shared: 0,
        lasting: 50,
        longest: 0.001,
    };
    group.start_foreign("python", 1, &foreign).expect("python3");
    until(&group, "python.0-foreign");
    let finished = group.finish().expect("journals");
    let overlap = |violation: &Violation| violation.kind == Breach::Overlap;
    assert!(finished.violations().iter().any(overlap));
}

#[test]
fn who_is_killed_is_not_blamed_and_neither_is_who_comes_next() {
    let mut group = group();
    let workload = workload(Protocol::Native, None);
    for name in ["a", "b", "c"] {
        group
            .start(name, 1, &[Kind::Blocking, Kind::Task], &workload)
            .expect("a process");
    }
    for victim in ["a", "b"] {
        until(&group, &format!("{victim}.0-blocking"));
        let member = (0..group.size()).find(|member| group.name(*member) == victim);
        group.kill(member.expect("a member")).expect("a kill");
    }
    until(&group, "c.0-blocking");
    let finished = group.finish().expect("journals");
    assert_eq!(finished.failures, [""; 0]);
    let violations = finished.violations();
    assert!(violations.is_empty(), "{violations:#?}");
}

#[test]
fn who_is_stuck_is_reported_with_all_that_the_kernel_knows() {
    let mut group = group();
    group.stuck_after(Duration::from_millis(300));
    let workload = workload(Protocol::Flock, Some(1));
    let lock = group.layout().lock(&workload.locks[0]);
    let held = locket::Engine::new().open(lock).expect("a lock");
    let held = held.acquire(locket::Mode::Exclusive, None).expect("a lock");
    group
        .start("a", 1, &[Kind::Tool], &workload)
        .expect("a process");
    let finished = group.wait().expect("journals");
    drop(held);
    let [report] = &finished.failures[..] else {
        panic!("{:?}", finished.failures);
    };
    assert!(report.contains("/proc/locks\n1: "), "{report}");
    assert!(report.contains("\"event\":\"ask\""), "{report}");
}

/// Waits until somebody has done something.
fn until(group: &WorkerGroup, worker: &str) {
    const SOMETHING: u64 = 20_000;
    let journal = group.layout().journals().join(worker);
    let start = Instant::now();
    while journal.metadata().map_or(0, |journal| journal.len()) < SOMETHING {
        assert!(start.elapsed() < STUCK, "{worker} does nothing");
        thread::sleep(Duration::from_millis(1));
    }
}
