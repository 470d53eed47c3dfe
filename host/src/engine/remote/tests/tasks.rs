//! What tasks ask a server must not hold up the thread that polls them.

use std::pin::Pin;
use std::sync::atomic::AtomicBool;
use std::task::{Context, Poll, Waker};

use super::*;
use crate::acquire::Acquire;

const ZERO: Duration = Duration::ZERO;

fn poll(acquire: &mut Acquire) -> Poll<crate::Result<Guard>> {
    Pin::new(acquire).poll(&mut Context::from_waker(Waker::noop()))
}

/// Polls until there is an answer, as a task does that is woken.
fn answer(acquire: &mut Acquire) -> crate::Result<Guard> {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.expect("it can be built").block_on(acquire)
}

#[test]
fn a_try_of_a_task_does_not_wait_for_the_server() {
    let state = server();
    let (one, other) = (Fake::connect(&state).1, Fake::connect(&state).1);
    let (one, other) = (open(&Engine::new(), &one), open(&Engine::new(), &other));
    state.set_silent(true);
    let mut first = one.acquire_async(Mode::Exclusive, ZERO);
    assert!(poll(&mut first).is_pending(), "it has blocked the thread");
    until(|| state.unanswered() == 1);
    // One is in the way of another one of this engine, which needs no answer to know that.
    let mut second = one.acquire_async(Mode::Exclusive, ZERO);
    let Poll::Ready(second) = poll(&mut second) else {
        panic!("it waits")
    };
    assert!(second.expect_err("another try").is_would_block());
    state.set_silent(false);
    let guard = answer(&mut first).expect("it is free");
    let refused = answer(&mut other.acquire_async(Mode::Shared, ZERO));
    assert!(refused.expect_err("it is held").is_would_block());
    assert_eq!(other.handle.queue().len(), (0, 0), "it does not wait");
    guard.release().expect("it was held");
    state.down.store(true, Ordering::SeqCst);
    let away = answer(&mut other.acquire_async(Mode::Shared, ZERO));
    assert!(away.expect_err("it is down").is_unavailable());
}

#[test]
fn a_try_that_is_dropped_or_canceled_leaves_nothing() {
    let state = server();
    let (one, other) = (Fake::connect(&state).1, Fake::connect(&state).1);
    let (one, other) = (open(&Engine::new(), &one), open(&Engine::new(), &other));
    for cancel in [false, true] {
        state.set_silent(true);
        let mut tried = one.acquire_async(Mode::Exclusive, ZERO);
        assert!(poll(&mut tried).is_pending());
        until(|| state.unanswered() == 1);
        if cancel {
            one.cancel_waits();
            assert!(answer(&mut tried).expect_err("canceled").is_canceled());
        } else {
            drop(tried);
        }
        // The server has yet to grant it.
        state.set_silent(false);
        until(|| one.handle.queue().is_at_rest());
        let guard = other.try_acquire(Mode::Exclusive).expect("it answers");
        guard.expect("it is free").release().expect("it was held");
    }
}

#[test]
fn a_try_never_becomes_a_wait() {
    let state = server();
    let remote = Fake::connect(&state).1;
    let lock = open(&Engine::new(), &remote);
    let runs = AtomicBool::new(true);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while runs.load(Ordering::SeqCst) {
                    acquire(&lock).release().expect("it was held");
                }
            });
        }
        for _ in 0..300 {
            let tried = answer(&mut lock.acquire_async(Mode::Exclusive, ZERO));
            match tried {
                Ok(guard) => guard.release().expect("it was held"),
                Err(e) => assert!(e.is_would_block(), "{e}"),
            }
        }
        runs.store(false, Ordering::SeqCst);
    });
}

#[test]
fn a_release_of_a_task_does_not_wait_for_the_server() {
    let state = server();
    let (one, other) = (Fake::connect(&state).1, Fake::connect(&state).1);
    let (one, other) = (open(&Engine::new(), &one), open(&Engine::new(), &other));
    for timeout in [Some(ZERO), Some(LONG)] {
        let guard = answer(&mut one.acquire_async(Mode::Exclusive, timeout)).expect("it is free");
        state.set_silent(true);
        guard.release().expect("the engine sees to it");
        until(|| state.unanswered() == 1);
        assert!(one.handle.queue().is_releasing());
        state.set_silent(false);
        acquire(&other).release().expect("it was held");
    }
}
