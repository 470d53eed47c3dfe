//! A clone of the context reaches a guest that runs or waits.

use std::thread;

use locket::Mode;
use locket_tests::harness::{Host, eventually, waiters};
use locket_wasmtime::LocketView as _;

use super::{bare, bare_sync, hold, run, run_sync};

#[test]
fn another_thread_ends_the_wait_of_a_synchronous_guest_which_lives_on() {
    let host = Host::new();
    let guard = host.lock("a").acquire(Mode::Exclusive, None).unwrap();
    let (mut store, bare) = bare_sync(&host);
    let handle = store.data_mut().locket().ctx.clone();
    thread::scope(|scope| {
        let guest = scope.spawn(|| {
            let answer = run_sync(&mut store, &bare, "/locks/a", None).unwrap();
            (
                answer,
                run_sync(&mut store, &bare, "/locks/b", None).unwrap(),
            )
        });
        eventually("the guest waits", || waiters(&host.lock("a")) == 1);
        assert_eq!(handle.waits()[0].path, "/locks/a");
        handle.cancel_waits();
        let (canceled, next) = guest.join().unwrap();
        assert_eq!((canceled.as_str(), next.as_str()), ("canceled", "ok"));
    });
    assert!(handle.waits().is_empty());
    drop(guard);
}

#[test]
fn the_end_of_the_host_ends_the_waits_of_synchronous_guests_for_good() {
    let host = Host::new();
    let _guard = host.lock("a").acquire(Mode::Exclusive, None).unwrap();
    thread::scope(|scope| {
        let guests: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let (mut store, bare) = bare_sync(&host);
                    let mut again = || run_sync(&mut store, &bare, "/locks/a", None).unwrap();
                    (again(), again())
                })
            })
            .collect();
        eventually("they wait", || waiters(&host.lock("a")) == 3);
        host.locks.shut_down();
        for guest in guests {
            let (first, second) = guest.join().unwrap();
            assert_eq!((first.as_str(), second.as_str()), ("canceled", "canceled"));
        }
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_is_taken_from_a_guest_that_waits_for_another_and_lives_on() {
    let host = Host::new();
    let guard = host.lock("b").acquire(Mode::Exclusive, None).unwrap();
    let (mut store, bare) = bare(&host).await;
    assert_eq!(hold(&mut store, &bare, "/locks/a").await, "ok");
    let handle = store.data_mut().locket().ctx.clone();
    let guest = tokio::spawn(async move {
        let answer = run(&mut store, &bare, "/locks/b", None).await.unwrap();
        (answer, store)
    });
    eventually("the guest waits", || waiters(&host.lock("b")) == 1);
    assert!(handle.revoke("/locks/a"));
    assert!(host.is_free("a"));
    assert_eq!(waiters(&host.lock("b")), 1);
    guard.release().unwrap();
    let (answer, _store) = guest.await.unwrap();
    assert_eq!(answer, "ok");
}
