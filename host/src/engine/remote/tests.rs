//! What the engine makes of a lock server, tried with one in memory.

mod fake;
#[cfg(feature = "sandbox")]
mod guests;
mod tasks;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use self::fake::{Fake, State as ServerState};
use super::Engine;
use crate::guard::Guard;
use crate::lock_file::LockFile;
use crate::options::Options;
use crate::remote::{Remote, Standing};
use crate::types::{LostReason, Mode, OnRelease, State};

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(30);

fn server() -> Arc<ServerState> {
    Arc::default()
}

fn open(engine: &Engine, remote: &Remote) -> LockFile {
    engine.open_remote(remote, "jobs/a").expect("it is a name")
}

fn acquire(lock: &LockFile) -> Guard {
    lock.acquire(Mode::Exclusive, LONG).expect("its turn comes")
}

/// Waits until `done`; the test fails if that takes too long.
fn until(done: impl Fn() -> bool) {
    let end = Instant::now() + LONG;
    while !done() {
        assert!(Instant::now() < end, "it does not happen");
        thread::yield_now();
    }
}

#[test]
fn two_engines_exclude_each_other_over_the_server() {
    let state = server();
    let (one, other) = (Fake::connect(&state).1, Fake::connect(&state).1);
    let (one, other) = (open(&Engine::new(), &one), open(&Engine::new(), &other));
    let guard = acquire(&one);
    assert!(
        other
            .try_acquire(Mode::Shared)
            .expect("it answers")
            .is_none()
    );
    let error = other
        .acquire(Mode::Exclusive, SHORT)
        .expect_err("it is held");
    assert!(error.is_timeout(), "{error}");
    assert!(other.is_locked().expect("it answers"));
    assert_eq!(one.state(), State::Held);
    guard.release().expect("it was held");
    let shared = [&one, &other].map(|lock| lock.acquire(Mode::Shared, LONG).expect("free"));
    assert!(
        one.try_acquire(Mode::Exclusive)
            .expect("it answers")
            .is_none()
    );
    drop(shared);
    acquire(&other).release().expect("it was held");
    assert_eq!(one.holder().expect("it answers"), None);
}

#[test]
fn tokens_grow_when_a_lock_is_handed_on_and_one_of_a_process_waits_at_the_server() {
    let state = server();
    let last = AtomicU64::new(0);
    let engines = [Engine::new(), Engine::new()];
    let connections = [Fake::connect(&state), Fake::connect(&state)];
    thread::scope(|scope| {
        for (engine, (_, remote)) in engines.iter().zip(&connections) {
            for _ in 0..4 {
                let (lock, last) = (open(engine, remote), &last);
                scope.spawn(move || {
                    for _ in 0..100 {
                        let guard = acquire(&lock);
                        let token = guard.token().expect("the server gives tokens");
                        let before = last.load(Ordering::SeqCst);
                        assert!(before < token, "{before} came before {token}");
                        last.store(token, Ordering::SeqCst);
                        assert!(guard.expires_at().is_some());
                        guard.release().expect("it was held");
                    }
                });
            }
        }
    });
    assert!(
        state.renewals.load(Ordering::SeqCst) > 0,
        "nothing was handed on"
    );
    let most = state.most_waiting.load(Ordering::SeqCst);
    assert!(most <= 2, "{most} waited at the server");
}

#[test]
fn a_lock_that_cannot_be_confirmed_is_not_handed_on() {
    let state = server();
    state.refuses_renewal.store(true, Ordering::SeqCst);
    let (fake, remote) = Fake::connect(&state);
    let lock = open(&Engine::new(), &remote);
    let first = acquire(&lock);
    let token = first.token();
    thread::scope(|scope| {
        let next = scope.spawn(|| acquire(&lock).token());
        let queued = || lock.handle.queue().len().1 == 1;
        until(queued);
        first.release().expect("it was held");
        let next = next.join().expect("it does not panic");
        assert!(token < next, "{token:?} came before {next:?}");
    });
    assert_eq!(fake.waiting("jobs/a"), 0);
}

#[test]
fn a_loss_is_told_and_no_surprise() {
    let state = server();
    let (fake, remote) = Fake::connect(&state);
    let lock = open(&Engine::new(), &remote);
    let guard = acquire(&lock);
    fake.set_standing(Standing::Uncertain(LONG));
    assert_eq!(lock.state(), State::Uncertain(LONG));
    assert!(!guard.is_held(), "it is not certain");
    fake.set_standing(Standing::Lost(LostReason::Expired));
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let reason = runtime.expect("it can be built").block_on(guard.lost());
    assert_eq!(reason, LostReason::Expired);
    assert_eq!(lock.state(), State::Lost(LostReason::Expired));
    // What comes next does not have to wait for the release.
    let next = acquire(&lock);
    assert!(guard.token() < next.token());
    let error = guard.release().expect_err("it was lost");
    assert_eq!(error.lost_reason(), Some(LostReason::Expired));
    assert!(next.is_held());
}

#[test]
fn a_broken_lock_is_lost_by_its_holder() {
    let state = server();
    let (one, other) = (Fake::connect(&state).1, Fake::connect(&state).1);
    let (one, other) = (open(&Engine::new(), &one), open(&Engine::new(), &other));
    let guard = acquire(&one);
    other.break_lock().expect("it is held");
    let error = guard.release().expect_err("it was broken");
    assert_eq!(error.lost_reason(), Some(LostReason::Broken));
    assert!(other.break_lock().expect_err("it is free").is_not_locked());
    let guard = acquire(&one);
    one.break_lock().expect("it is held");
    assert!(guard.release().expect_err("it was broken").is_lost());
}

#[test]
fn waits_end_at_a_cancellation_and_when_they_are_dropped() {
    let state = server();
    let (fake, remote) = Fake::connect(&state);
    let (engine, lock) = (Engine::new(), open(&Engine::new(), &remote));
    let _guard = acquire(&open(&engine, &remote));
    thread::scope(|scope| {
        let wait = scope.spawn(|| lock.acquire(Mode::Exclusive, LONG));
        until(|| fake.waiting("jobs/a") == 1);
        lock.cancel_waits();
        let error = wait
            .join()
            .expect("it does not panic")
            .expect_err("canceled");
        assert!(error.is_canceled(), "{error}");
    });
    until(|| fake.waiting("jobs/a") == 0);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    runtime.expect("it can be built").block_on(async {
        let wait = lock.acquire_async(Mode::Exclusive, None);
        let wait = tokio::time::timeout(SHORT, wait).await;
        wait.expect_err("it is held");
    });
    until(|| fake.waiting("jobs/a") == 0);
}

#[test]
fn a_server_that_is_down_is_an_error_of_its_own() {
    let state = server();
    let (_, remote) = Fake::connect(&state);
    let lock = open(&Engine::new(), &remote);
    state.down.store(true, Ordering::SeqCst);
    for timeout in [Some(Duration::ZERO), Some(LONG), None] {
        let error = lock.acquire(Mode::Exclusive, timeout).expect_err("down");
        assert!(error.is_unavailable(), "{error}");
    }
    assert!(lock.is_locked().expect_err("down").is_unavailable());
    state.down.store(false, Ordering::SeqCst);
    acquire(&lock).release().expect("it was held");
}

#[test]
fn what_makes_no_sense_on_a_server_is_refused() {
    let (_, remote) = Fake::connect(&server());
    let engine = Engine::new();
    assert!(
        engine
            .open_remote(&remote, "")
            .expect_err("no name")
            .is_invalid_path()
    );
    let remove = Options::new().on_release(OnRelease::Remove);
    let error = engine
        .open_remote_with(&remote, "a", &remove)
        .expect_err("no file");
    assert!(error.is_unsupported(), "{error}");
    let guarantee = open(&engine, &remote).guarantee();
    assert!(guarantee.fencing && guarantee.fifo && guarantee.ttl.is_some());
}

#[test]
fn a_hold_joins_no_lock_that_is_lost_or_uncertain() {
    let state = server();
    let (fake, remote) = Fake::connect(&state);
    let lock = open(&Engine::new(), &remote);
    let first = lock.acquire(Mode::Shared, LONG).expect("it is free");
    // As after the process was stopped: the clock knows, and no thread has been told.
    fake.set_standing_and_tell(Standing::Lost(LostReason::Expired), false);
    let second = lock.acquire(Mode::Shared, LONG).expect("it is free");
    assert!(second.is_held(), "it has joined a lock that is lost");
    assert!(first.token() < second.token());
    assert!(first.release().expect_err("it was lost").is_lost());

    let grant = fake.grant().expect("it is held");
    fake.set_standing(Standing::Uncertain(LONG));
    let tried = lock.try_acquire(Mode::Shared).expect("it is asked");
    assert!(tried.is_none(), "it is not certain");
    thread::scope(|scope| {
        let waits = scope.spawn(|| lock.acquire(Mode::Shared, LONG));
        until(|| lock.handle.queue().len() == (1, 1));
        fake.set_standing(Standing::Held(grant));
        let third = waits.join().expect("it does not panic");
        assert!(third.expect("it is certain again").is_held());
    });
}
