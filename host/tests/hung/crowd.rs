//! Many existence locks of one directory are waited for.

use locket::{Acquire, Guard, Options, Protocol};
use rustix::time::{ClockId, clock_gettime};

use super::*;

/// How many, which is more than a program has threads to spare.
const LOCKS: usize = 300;

/// How long the waits are watched.
const PURE_WAITING: Duration = Duration::from_secs(2);

/// The processor time that all these waits may take, as a part of one processor.
const COST: f64 = 0.05;

fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::try_from(time).unwrap()
}

/// Whether the threads of this process have done next to nothing for a moment.
fn is_quiet() -> bool {
    const MOMENT: Duration = Duration::from_millis(50);
    let before = processor_time();
    thread::sleep(MOMENT);
    processor_time() - before < MOMENT.mul_f64(COST)
}

/// Existence locks that are held by one engine and awaited in another.
struct Crowd {
    _dir: Dir,
    guards: Vec<Guard>,
    waits: Vec<Acquire>,
}

fn crowd(engine: &Engine, protocol: Protocol) -> Crowd {
    let (dir, holder) = (Dir::new(), Engine::new());
    let options = Options::new().protocol(protocol);
    let options = options.database(dir.path("locks.db"));
    let open = |engine: &Engine, number: usize| {
        let path = dir.path(&number.to_string());
        engine.open_with(path, &options).unwrap()
    };
    let hold = |number| open(&holder, number).acquire(EX, STUCK).unwrap();
    let guards: Vec<_> = (0..LOCKS).map(hold).collect();
    let waits = (0..LOCKS).map(|number| pending(&open(engine, number), EX));
    Crowd {
        waits: waits.collect(),
        guards,
        _dir: dir,
    }
}

fn cost_little_and_hold_up_nothing(protocol: Protocol) {
    let engine = Engine::new();
    let crowd = crowd(&engine, protocol);
    Elsewhere::new(&engine).goes_on();
    eventually("the last waiter has made its first try", is_quiet);
    let (start, before) = (Instant::now(), processor_time());
    // Nothing but time makes them cost.
    thread::sleep(PURE_WAITING);
    let spent = processor_time() - before;
    let cost = spent.div_duration_f64(start.elapsed());
    println!("{protocol}: {:.1} % of a processor", 100.0 * cost);
    assert!(cost <= COST, "{protocol}: {spent:?}");
    let mut waits = crowd.waits;
    if protocol == Protocol::Sqlite {
        // Each transaction wakes all waiters of the database, which takes long in this test.
        waits.clear();
    }
    drop(crowd.guards);
    for wait in waits {
        block_on(wait).unwrap().release().unwrap();
    }
}

#[test]
fn many_awaited_links() {
    cost_little_and_hold_up_nothing(Protocol::Link);
}

#[test]
fn many_awaited_symbolic_links() {
    cost_little_and_hold_up_nothing(Protocol::Symlink);
}

#[test]
fn many_awaited_directories() {
    cost_little_and_hold_up_nothing(Protocol::Mkdir);
}

#[test]
fn many_awaited_pid_files() {
    cost_little_and_hold_up_nothing(Protocol::PidFile);
}

#[test]
fn many_awaited_soft_locks() {
    cost_little_and_hold_up_nothing(Protocol::Soft);
}

#[test]
#[cfg(feature = "sqlite")]
fn many_awaited_rows() {
    cost_little_and_hold_up_nothing(Protocol::Sqlite);
}
