//! Locks of etcd. Seats and servers have tests of their own beside their code.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use locket::{Engine, Guard, LockFile, LostReason, Mode, Remote, Scope, State};
use locket_test_support::servers::etcd::Etcd;
use locket_test_support::waits::{STUCK, eventually, pending, poll};

/// A process as the server sees it: its engine, and the lock `a`.
struct Process {
    engine: Engine,
    lock: LockFile,
}

impl Process {
    fn new(cluster: &Etcd, ttl: u64) -> Self {
        let remote = Remote::builder(&cluster.url("locks"))
            .ttl(Duration::from_secs(ttl))
            .label("a test")
            .build()
            .expect("the URL is valid");
        let engine = Engine::new();
        let lock = engine.open_remote(&remote, "a").expect("the name is valid");
        Self { engine, lock }
    }

    fn acquire(&self) -> Guard {
        let guard = self.lock.acquire(Mode::Exclusive, STUCK);
        guard.expect("its turn comes")
    }
}

/// Waits until the lock has this many keys on the server.
#[track_caller]
fn keys(cluster: &Etcd, count: usize) {
    let what = format!("{count} keys");
    eventually(&what, || cluster.keys("/locks/a/").len() == count);
}

fn number(file: &Path) -> u64 {
    let text = fs::read_to_string(file).expect("the counter can be read");
    text.trim().parse().expect("it is a number")
}

#[test]
fn processes_and_etcdctl_count_exactly_and_tokens_grow() {
    let Some(cluster) = Etcd::start(1) else {
        return;
    };
    let folder = tempfile::tempdir().expect("a directory can be created");
    let counter = folder.path().join("counter");
    fs::write(&counter, "0").expect("the counter can be written");
    let last = AtomicU64::new(0);
    let processes = [Process::new(&cluster, 10), Process::new(&cluster, 10)];
    let (threads, each, foreign) = (3, 170, 20);
    thread::scope(|scope| {
        for process in processes.iter().flat_map(|process| [process; 3]) {
            scope.spawn(|| {
                for _ in 0..each {
                    let guard = process.acquire();
                    let token = guard.token().expect("etcd has tokens");
                    let before = last.swap(token, Ordering::Relaxed);
                    assert!(before < token, "{before} before {token}");
                    let count = number(&counter) + 1;
                    fs::write(&counter, count.to_string()).expect("it can be written");
                    assert!(guard.is_held());
                    guard.release().expect("it is held");
                }
            });
        }
        scope.spawn(|| {
            for _ in 0..foreign {
                let count = "n=$(cat \"$0\"); echo $((n + 1)) >\"$0\"";
                let mut command: Command = cluster.ctl();
                command.args(["lock", "/locks/a", "--", "sh", "-c", count]);
                let status = command.arg(&counter).status();
                assert!(status.expect("etcdctl can be started").success());
            }
        });
    });
    assert_eq!(number(&counter), 2 * threads * each + foreign);
    let snapshots = processes
        .each_ref()
        .map(|process| process.engine.snapshot());
    drop(processes);
    keys(&cluster, 0);
    assert!(snapshots.iter().all(|snapshot| !snapshot.locks.is_empty()));
}

#[test]
fn the_state_of_a_lock_follows_the_server() {
    let Some(cluster) = Etcd::start(1) else {
        return;
    };
    // With a shorter time, a busy machine may miss that the lock is uncertain.
    let process = Process::new(&cluster, 10);
    let lock = &process.lock;
    assert_eq!(lock.state(), State::Unlocked);
    let guarantee = lock.guarantee();
    assert_eq!(
        (guarantee.scope, guarantee.ttl),
        (Scope::Cluster, Some(Duration::from_secs(10)))
    );
    let guard = process.acquire();
    assert_eq!(lock.state(), State::Held);
    let end = guard.expires_at().expect("a lease ends");
    assert!(end > Instant::now());
    // The end is counted from now, so it moves a little by itself.
    let renewed = end + Duration::from_secs(1);
    eventually("it is renewed", || {
        guard.expires_at().is_some_and(|later| later > renewed)
    });
    let mut lost = std::pin::pin!(guard.lost());
    assert!(poll(&mut lost).is_pending());
    cluster.pause(0);
    eventually("it is uncertain", || {
        matches!(lock.state(), State::Uncertain(_))
    });
    assert!(!guard.is_held());
    let reason = locket_test_support::waits::block_on(lost);
    assert_eq!(reason, LostReason::Disconnected);
    assert_eq!(lock.state(), State::Lost(LostReason::Disconnected));
    let refused = guard.release().expect_err("it is lost");
    assert_eq!(refused.lost_reason(), Some(LostReason::Disconnected));
    cluster.proceed(0);
    process.acquire().release().expect("it is held");
}

#[test]
fn a_wait_that_is_canceled_or_dropped_leaves_no_key() {
    let Some(cluster) = Etcd::start(1) else {
        return;
    };
    let (one, two) = (Process::new(&cluster, 10), Process::new(&cluster, 10));
    let guard = one.acquire();
    let wait = pending(&two.lock, Mode::Exclusive);
    keys(&cluster, 2);
    drop(wait);
    keys(&cluster, 1);
    let wait = pending(&two.lock, Mode::Shared);
    keys(&cluster, 2);
    two.lock.cancel_waits();
    let canceled = locket_test_support::waits::block_on(wait);
    assert!(canceled.expect_err("it was canceled").is_canceled());
    keys(&cluster, 1);
    let wait = pending(&two.lock, Mode::Exclusive);
    keys(&cluster, 2);
    guard.release().expect("it is held");
    let next = locket_test_support::waits::block_on(wait).expect("it is granted");
    let holder = one.lock.holder().expect("the server answers");
    let holder = holder.expect("it is held");
    assert_eq!(holder.label.as_deref(), Some("a test"));
    drop(next);
    keys(&cluster, 0);
}

#[test]
fn breaking_a_lock_costs_its_holder_the_lock() {
    let Some(cluster) = Etcd::start(1) else {
        return;
    };
    let (one, two) = (Process::new(&cluster, 10), Process::new(&cluster, 10));
    let guard = one.acquire();
    let lost = guard.lost();
    two.lock.break_lock().expect("it is held");
    assert_eq!(
        locket_test_support::waits::block_on(lost),
        LostReason::Broken
    );
    let next = two.acquire();
    assert!(guard.token() < next.token());
    let refused = guard.release().expect_err("it is lost");
    assert_eq!(refused.lost_reason(), Some(LostReason::Broken));
    assert!(next.is_held());
    next.release().expect("it is held");
    let free = one.lock.break_lock().expect_err("it is free");
    assert!(free.is_not_locked(), "{free}");
}

#[test]
fn an_engine_that_shuts_down_leaves_nothing() {
    let Some(cluster) = Etcd::start(1) else {
        return;
    };
    let (one, two) = (Process::new(&cluster, 60), Process::new(&cluster, 60));
    let guard = one.acquire();
    thread::scope(|scope| {
        let wait = scope.spawn(|| two.lock.acquire(Mode::Exclusive, None));
        keys(&cluster, 2);
        two.engine.shut_down();
        let canceled = wait.join().expect("it does not panic");
        assert!(canceled.expect_err("it was canceled").is_canceled());
    });
    keys(&cluster, 1);
    drop(guard);
    drop((one, two));
    keys(&cluster, 0);
    eventually("no lease is left", || cluster.leases().is_empty());
}
