//! Whether the proof proves anything: who does not lock is found out, and who does is not blamed.

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use locket::Protocol;
use torture::stress::crew::{Crew, Foreign, Past};
use torture::stress::history::{Kind as Wrong, Violation};
use torture::stress::participant::Kind;
use torture::stress::plan::{Lock, Traffic};

/// Long enough that something which has not happened is stuck.
const STUCK: Duration = Duration::from_secs(20);

fn traffic(protocol: Protocol, sections: Option<u64>) -> Traffic {
    Traffic {
        locks: vec![Lock::of(protocol)],
        shared: 20,
        limited: 20,
        abandoned: 5,
        lasting: 20,
        longest: Duration::from_millis(1),
        rest: Duration::ZERO,
        sections,
    }
}

fn crew() -> Crew {
    Crew::of(PathBuf::from(env!("CARGO_BIN_EXE_torture"))).expect("a crew")
}

/// Two processes with these workers.
fn past(workers: &[Kind], protocol: Protocol) -> Past {
    let mut crew = crew();
    for name in ["a", "b"] {
        let traffic = traffic(protocol, Some(50));
        crew.start(name, 1, workers, &traffic).expect("a process");
    }
    crew.wait().expect("journals")
}

#[test]
fn who_does_not_lock_is_found_out() {
    let violations = past(&[Kind::Blocking, Kind::Reckless], Protocol::Native).violations();
    let mut kinds: Vec<_> = violations.iter().map(|violation| violation.kind).collect();
    kinds.dedup();
    assert!(kinds.contains(&Wrong::Overlap), "{kinds:?}");
    assert!(kinds.contains(&Wrong::Count), "{kinds:?}");
}

#[test]
fn who_locks_is_not_blamed() {
    for protocol in Protocol::ALL {
        let past = past(&[Kind::Blocking, Kind::Task], *protocol);
        assert_eq!(past.history.sections(), 200, "{protocol}");
        let violations = past.violations();
        assert!(violations.is_empty(), "{protocol}: {violations:#?}");
    }
}

#[test]
fn a_program_of_others_that_locks_otherwise_is_found_out() {
    let mut crew = crew();
    let ours = traffic(Protocol::Flock, None);
    crew.start("ours", 1, &[Kind::Blocking; 2], &ours)
        .expect("a process");
    let foreign = Foreign {
        function: "lockf",
        locks: vec!["flock".to_owned()],
        shared: 0,
        lasting: 50,
        longest: 0.001,
    };
    crew.start_foreign("python", 1, &foreign).expect("python3");
    until(&crew, "python.0-foreign");
    let past = crew.dismiss().expect("journals");
    let overlap = |violation: &Violation| violation.kind == Wrong::Overlap;
    assert!(past.violations().iter().any(overlap));
}

#[test]
fn who_is_killed_is_not_blamed_and_neither_is_who_comes_next() {
    let mut crew = crew();
    let traffic = traffic(Protocol::Native, None);
    for name in ["a", "b", "c"] {
        crew.start(name, 1, &[Kind::Blocking, Kind::Task], &traffic)
            .expect("a process");
    }
    for victim in ["a", "b"] {
        until(&crew, &format!("{victim}.0-blocking"));
        let member = (0..crew.size()).find(|member| crew.name(*member) == victim);
        crew.kill(member.expect("a member")).expect("a kill");
    }
    until(&crew, "c.0-blocking");
    let past = crew.dismiss().expect("journals");
    assert_eq!(past.failures, [""; 0]);
    let violations = past.violations();
    assert!(violations.is_empty(), "{violations:#?}");
}

#[test]
fn who_is_stuck_is_reported_with_all_that_the_kernel_knows() {
    let mut crew = crew();
    crew.be_patient_for(Duration::from_millis(300));
    let traffic = traffic(Protocol::Flock, Some(1));
    let lock = crew.table().lock(&traffic.locks[0]);
    let held = locket::Engine::new().open(lock).expect("a lock");
    let held = held.acquire(locket::Mode::Exclusive, None).expect("a lock");
    crew.start("a", 1, &[Kind::Tool], &traffic)
        .expect("a process");
    let past = crew.wait().expect("journals");
    drop(held);
    let [report] = &past.failures[..] else {
        panic!("{:?}", past.failures);
    };
    assert!(report.contains("/proc/locks\n1: "), "{report}");
    assert!(report.contains("\"event\":\"ask\""), "{report}");
}

/// Waits until somebody has done something.
fn until(crew: &Crew, who: &str) {
    const SOMETHING: u64 = 20_000;
    let journal = crew.table().journals().join(who);
    let start = Instant::now();
    while journal.metadata().map_or(0, |journal| journal.len()) < SOMETHING {
        assert!(start.elapsed() < STUCK, "{who} does nothing");
        thread::sleep(Duration::from_millis(1));
    }
}
