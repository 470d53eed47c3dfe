//! What an engine tells operators.

use std::time::Instant;

use super::*;

#[test]
fn holders_and_waiters_are_listed_in_order() {
    let dir = Dir::new();
    let start = Instant::now();
    let (engine, foreign) = (Engine::new(), Engine::new());
    let options = Options::new().protocol(Protocol::Flock);
    let [one, two] = ["one", "two"].map(|name| {
        let lock = engine.open_with(dir.path(name), &options);
        lock.unwrap()
    });
    let elsewhere = foreign.open_with(dir.path("two"), &options).unwrap();
    let held = elsewhere.acquire(EX, STUCK).unwrap();
    let holds = [(); 2].map(|()| one.acquire(SH, STUCK).unwrap());
    let waits = [EX, SH, EX].map(|mode| pending(&one, mode));
    let other = pending(&two, SH);

    let snapshot = engine.snapshot();
    let [first, second] = snapshot.locks.as_slice() else {
        panic!("{snapshot:?}");
    };
    assert_eq!(
        (&first.path, &second.path),
        (&dir.path("one"), &dir.path("two"))
    );
    assert_eq!(
        (first.protocol, second.protocol),
        (Some(Protocol::Flock), None)
    );
    assert!(!first.awaited_elsewhere && second.awaited_elsewhere);
    let modes = |parties: &[locket::ClientSnapshot]| -> Vec<_> {
        parties.iter().map(|party| party.mode).collect()
    };
    assert_eq!(modes(&first.holders), [SH, SH]);
    assert_eq!(modes(&first.waiters), [EX, SH, EX]);
    assert_eq!(
        (modes(&second.holders), modes(&second.waiters)),
        (vec![], vec![SH])
    );
    for waiter in &first.waiters {
        assert!(!waiter.guest && waiter.label.is_none() && waiter.tag.is_none());
        assert!(waiter.since.unwrap() <= start.elapsed());
    }
    assert_eq!(foreign.snapshot().locks.len(), 1);
    drop((waits, other, holds, held));
    let snapshot = engine.snapshot();
    assert!(
        snapshot
            .locks
            .iter()
            .all(|lock| lock.holders.is_empty() && lock.waiters.is_empty())
    );
    drop((one, two));
    // As soon as the thread that waited in the kernel has learned of it.
    eventually("no lock is open", || engine.snapshot().locks.is_empty());
}

#[test]
fn a_snapshot_needs_no_file() {
    let dir = Dir::new();
    let engine = Engine::new();
    let lock = dir.lock(&engine);
    let _guard = lock.acquire(SH, STUCK).unwrap();
    std::fs::rename(dir.path("lock"), dir.path("elsewhere")).unwrap();
    let snapshot = engine.snapshot();
    assert_eq!(snapshot.locks[0].path, dir.path("lock"));
    assert_eq!(snapshot.locks[0].holders.len(), 1);
    assert_eq!(dir.names(), ["elsewhere".to_owned()].into());
}

#[test]
fn totals_add_up_and_outlive_the_locks() {
    let dir = Dir::new();
    let engine = Engine::new();
    for round in 1..=3 {
        let lock = engine.open(dir.path(&format!("{round}"))).unwrap();
        let hold = lock.acquire(EX, STUCK).unwrap();
        assert!(lock.try_acquire(EX).unwrap().is_none());
        // Canceled, timed out and abandoned.
        let canceled = pending(&lock, EX);
        lock.cancel_waits();
        assert!(block_on(canceled).is_err());
        let short = Duration::from_millis(1);
        assert!(lock.acquire(EX, short).unwrap_err().is_timeout());
        drop(pending(&lock, EX));
        let granted = pending(&lock, EX);
        lock.release().unwrap();
        let granted = block_on(granted).unwrap();
        lock.break_lock().unwrap();
        assert!(granted.release().unwrap_err().is_lost());
        drop(hold);
        let totals = engine.snapshot().totals;
        assert_eq!(totals.granted, 2 * round);
        assert_eq!(totals.granted_after_wait, round);
        assert_eq!(totals.given_up, 3 * round);
        assert_eq!(totals.lost, round);
        drop(lock);
        let after = engine.snapshot();
        assert!(after.locks.is_empty());
        assert_eq!(after.totals, totals);
    }
}

/// They never decrease while locks are opened and closed.
#[test]
fn totals_only_grow() {
    const ACQUIRES: u64 = 2000;
    let dir = Dir::new();
    let engine = Engine::new();
    thread::scope(|scope| {
        let churn = scope.spawn(|| {
            for _ in 0..ACQUIRES {
                drop(dir.lock(&engine).acquire(EX, STUCK).unwrap());
            }
        });
        let mut seen = 0;
        while !churn.is_finished() {
            let granted = engine.snapshot().totals.granted;
            assert!(seen <= granted, "{seen}, then {granted}");
            seen = granted;
        }
    });
    assert_eq!(engine.snapshot().totals.granted, ACQUIRES);
}
