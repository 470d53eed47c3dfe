//! A forked child shares the connections of its parent, and leaves them alone.
#![expect(unsafe_code, reason = "fork has no safe binding")]

use std::time::Duration;

use locket::{Engine, Guard, LockFile, Mode, Remote, State};
use locket_test_support::waits::{STUCK, block_on, eventually, pending};

/// The parent has to renew its lock while the test runs, and a busy machine must not keep it from that.
const TTL: Duration = Duration::from_secs(5);

/// Has a forked child run `test`, and waits for its end. A child that hangs is killed.
fn in_a_child(test: impl FnOnce()) {
    // SAFETY: the child touches only what it inherited or makes itself, and leaves by `_exit`.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "{}", std::io::Error::last_os_error());
    if child == 0 {
        // SAFETY: ends the child if it hangs.
        unsafe { libc::alarm(u32::try_from(STUCK.as_secs()).unwrap()) };
        let passed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(test)).is_ok();
        // SAFETY: ends the process.
        unsafe { libc::_exit(if passed { 0 } else { 1 }) };
    }
    let mut status = 0;
    // SAFETY: `status` is valid for writes.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert!(!libc::WIFSIGNALED(status), "the child hung: {status}");
    assert_eq!(status, 0, "the child was not refused");
}

fn connect(url: &str) -> Remote {
    let builder = Remote::builder(url).ttl(TTL).request_timeout(STUCK);
    builder.build().expect("the URL is valid")
}

fn open(engine: &Engine, remote: &Remote, name: &str) -> LockFile {
    engine.open_remote(remote, name).expect("it is a name")
}

fn acquire(lock: &LockFile) -> Guard {
    let guard = lock.acquire(Mode::Exclusive, STUCK);
    guard.expect("its turn comes")
}

fn children_leave_it_alone(url: &str) {
    let (engine, remote) = (Engine::new(), connect(url));
    let (held, free) = (
        open(&engine, &remote, "held"),
        open(&engine, &remote, "free"),
    );
    let guard = acquire(&held);
    // Leaves an idle connection behind.
    acquire(&free).release().expect("it was held");
    let waits = pending(&held, Mode::Exclusive);
    let mut inherited = Some((guard, waits, held, free, engine, remote));
    for drops in [false, true] {
        in_a_child(|| {
            let (guard, waits, held, free, engine, remote) =
                inherited.take().expect("each child has its own copy");
            assert!(!guard.is_held() && guard.token().is_none());
            assert_eq!(held.state(), State::Unlocked);
            // Nor can an engine of its own use what is the parent's.
            let own = Engine::new();
            for lock in [
                &free,
                &open(&own, &remote, "free"),
                &open(&own, &remote, "held"),
            ] {
                for timeout in [Duration::ZERO, STUCK] {
                    let refused = lock.acquire(Mode::Exclusive, timeout);
                    assert!(refused.expect_err("it is forked").is_unsupported());
                    let refused = block_on(lock.acquire_async(Mode::Shared, timeout));
                    assert!(refused.expect_err("it is forked").is_unsupported());
                }
                assert!(lock.is_locked().expect_err("it is forked").is_unsupported());
                assert!(
                    lock.break_lock()
                        .expect_err("it is forked")
                        .is_unsupported()
                );
            }
            assert!(remote.warnings().is_empty());
            assert!(remote.guarantee().ttl.is_some());
            // With a remote of its own it can.
            let theirs = connect(url);
            let tried = open(&own, &theirs, "held").try_acquire(Mode::Shared);
            assert!(
                tried.expect("it answers").is_none(),
                "the parent has lost it"
            );
            acquire(&open(&own, &theirs, "free"))
                .release()
                .expect("it was held");
            match drops {
                true => drop((guard, waits, held, free, engine, remote, own, theirs)),
                false => std::mem::forget((guard, waits, held, free, engine, remote)),
            }
        });
        let (guard, _, _, free, ..) = inherited.as_ref().expect("the parent keeps its own");
        let foreign = open(&Engine::new(), &connect(url), "held");
        assert!(
            foreign
                .try_acquire(Mode::Shared)
                .expect("it answers")
                .is_none()
        );
        // It is renewed: longer than any time that was granted before. The end is counted from now, so
        // it moves a little by itself.
        let granted = guard.expires_at().expect("it is held") + TTL / 10;
        eventually("it is renewed", || {
            guard.expires_at().is_some_and(|at| at > granted)
        });
        assert!(guard.is_held());
        acquire(free).release().expect("it was held");
    }
    let (guard, waits, ..) = inherited.expect("the parent keeps its own");
    guard.release().expect("no child has released it");
    let next = block_on(waits).expect("its turn comes");
    next.release().expect("it was held");
}

#[test]
#[cfg(feature = "postgres")]
fn children_leave_postgresql_alone() {
    if let Some(server) = locket_test_support::servers::postgres::Postgres::start(&[]) {
        children_leave_it_alone(&server.url("postgres"));
    }
}

#[test]
#[cfg(feature = "etcd")]
fn children_leave_etcd_alone() {
    if let Some(cluster) = locket_test_support::servers::etcd::Etcd::start(1) {
        children_leave_it_alone(&cluster.url("locks"));
    }
}
