//! What guests notice of a lock server.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use super::*;

/// A guest's lock of the name `jobs/a`.
fn of_guest(
    engine: &Engine,
    remote: &Remote,
) -> (crate::sandbox::Sandbox, crate::sandbox::GuestLock) {
    let builder = crate::sandbox::Sandbox::builder(engine);
    let guest = builder.grant_remote(remote, "/cluster", crate::sandbox::Rights::LOCKS);
    let guest = guest.expect("it is a name").build();
    let lock = guest.open("/cluster/jobs/a", None, OnRelease::Keep);
    let lock = lock.expect("it is granted");
    (guest, lock)
}

fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.expect("it can be built").block_on(future)
}

fn is_pending<F: Future + Unpin>(future: &mut F) -> bool {
    let mut cx = Context::from_waker(Waker::noop());
    matches!(pin!(future).poll(&mut cx), Poll::Pending)
}

#[test]
fn no_call_of_a_guest_in_a_task_waits_for_the_server() {
    let state = server();
    let (remote, elsewhere) = (Fake::connect(&state).1, Fake::connect(&state).1);
    let (_guest, lock) = of_guest(&Engine::new(), &remote);
    let other = open(&Engine::new(), &elsewhere);
    for held in [false, true] {
        let guard = held.then(|| acquire(&other));
        state.set_silent(true);
        let mut tried = lock
            .acquire_suspended(Mode::Exclusive, Duration::ZERO)
            .expect("it is admitted");
        assert!(is_pending(&mut tried));
        let (mut released, mut locked) = (lock.release_async(), lock.is_locked_async());
        let mut holder = lock.holder_async();
        assert!(is_pending(&mut released) && is_pending(&mut locked) && is_pending(&mut holder));
        until(|| state.unanswered() == 4);
        state.set_silent(false);
        match block_on(tried) {
            Ok(hold) if !held => drop(hold),
            Err(e) if held => assert!(e.is_would_block(), "{e}"),
            other => panic!("{other:?}"),
        }
        // The try may have come before them.
        if held {
            assert!(block_on(released).expect_err("not its own").is_not_owner());
            assert!(block_on(locked).expect("it answers"));
            assert!(block_on(holder).expect("it answers").is_some());
        }
        drop(guard);
        until(|| !lock.is_locked().expect("it answers"));
    }
    let error = block_on(lock.release_async()).expect_err("it is free");
    assert!(error.is_not_locked(), "{error}");
}

/// It holds nothing by then, and the engine sees to the rest.
#[test]
fn a_release_of_a_guest_in_a_task_does_not_wait_for_the_server() {
    let state = server();
    let (remote, elsewhere) = (Fake::connect(&state).1, Fake::connect(&state).1);
    let (guest, lock) = of_guest(&Engine::new(), &remote);
    let other = open(&Engine::new(), &elsewhere);
    for call in 0..4 {
        let hold = block_on(
            lock.acquire_suspended(Mode::Exclusive, LONG)
                .expect("admitted"),
        );
        let hold = hold.expect("it is free");
        state.set_silent(true);
        match call {
            0 => drop(hold),
            1 => hold.release().expect("it was held"),
            2 => {
                hold.keep();
                block_on(lock.release_async()).expect("it was held");
            }
            _ => guest.release_all(),
        }
        assert_ne!(lock.state(), State::Held);
        until(|| state.unanswered() == 1);
        state.set_silent(false);
        acquire(&other).release().expect("it was held");
    }
}

#[test]
fn a_guest_cannot_tell_but_by_the_guarantee() {
    let state = server();
    let (fake, remote) = Fake::connect(&state);
    let engine = Engine::new();
    let guest = crate::sandbox::Sandbox::builder(&engine)
        .grant_remote(&remote, "/cluster", crate::sandbox::Rights::LOCKS)
        .expect("it is a name")
        .build();
    let open = |path| guest.open(path, None, OnRelease::Keep);
    let lock = open("/cluster/jobs/a").expect("it is granted");
    assert_eq!(lock.guarantee().scope, crate::Scope::Cluster);
    let hold = lock.acquire(Mode::Exclusive, LONG).expect("it is free");
    assert!(hold.token().is_some() && hold.token() == lock.token());
    assert!(lock.valid_for().is_some());
    let outside = engine.open_remote(&remote, "jobs/a").expect("a name");
    assert!(
        outside
            .try_acquire(Mode::Shared)
            .expect("it answers")
            .is_none()
    );
    fake.set_standing(Standing::Lost(LostReason::Disconnected));
    let error = hold.release().expect_err("it was lost");
    assert_eq!(error.lost_reason(), Some(LostReason::Disconnected));
    assert!(
        open("/cluster/a/../b")
            .expect_err("no directories")
            .is_invalid_path()
    );
    assert!(open("/cluster").expect_err("no name").is_invalid_path());
    assert!(
        guest
            .break_lock("/cluster/jobs/a")
            .expect_err("no right")
            .is_denied()
    );
    let flock = guest.open("/cluster/a", Some(crate::Protocol::Flock), OnRelease::Keep);
    assert!(flock.expect_err("it has none").is_unsupported());
    #[cfg(unix)]
    assert!(
        guest
            .open_ranges("/cluster/a")
            .expect_err("no bytes")
            .is_unsupported()
    );
}
