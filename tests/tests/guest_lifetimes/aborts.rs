//! The host drops a call, its task or its store while the guest waits or holds.

use locket::LockFile;

use super::*;

/// Runs a guest until it waits for the lock, and drops the call then.
async fn drop_in_the_wait(lock: &LockFile, call: impl Future) {
    let waits = async {
        while waiters(lock) == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        _ = call => panic!("the guest does not wait"),
        waited = timeout(STUCK, waits) => waited.expect("the guest waits"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_dropped_in_the_wait_leaves_the_queue_at_once() {
    let host = Host::new();
    let lock = host.lock("a");
    let guard = lock.acquire(EX, None).unwrap();
    let mut store = host.store();
    let instance = bare(&mut store).await;
    drop_in_the_wait(&lock, run(&mut store, &instance, None)).await;
    assert_eq!(waiters(&lock), 0);
    let error = run(&mut store, &instance, Some(0)).await.unwrap_err();
    assert!(
        format!("{error:?}").contains("cannot enter component instance"),
        "{error:?}"
    );
    guard.release().unwrap();
    eventually("the lock is free", || host.is_free("a"));
    drop((lock, store));
    nothing_is_left(&host);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_aborted_in_the_wait_leaves_the_queue() {
    let host = Host::new();
    let lock = host.lock("a");
    for foreign in [false, true] {
        let guard = if foreign {
            host.foreign("a")
        } else {
            lock.clone()
        };
        let guard = guard.acquire(EX, STUCK).unwrap();
        let mut guest = host.remote().await;
        guest.ok("open a /locks/a").await;
        guest.wait("acquire a exclusive none").await;
        eventually("it is in the queue", || waiters(&lock) == 1);
        guest.kill().await;
        assert_eq!(waiters(&lock), 0);
        guard.release().unwrap();
        eventually("the lock is free", || host.is_free("a"));
    }
    drop(lock);
    nothing_is_left(&host);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_aborted_while_holding_releases() {
    let host = Host::new();
    let guest = holder(&host).await;
    assert!(!host.is_free("a"));
    guest.kill().await;
    nothing_is_left(&host);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_concurrent_dropped_in_the_wait_ends_it_with_the_store() {
    let host = Host::new();
    let lock = host.lock("a");
    let guard = lock.acquire(EX, None).unwrap();
    let (mut store, command, _) = tasks(&host, &["race", "/locks/a", "60000"]).await;
    drop_in_the_wait(&lock, call(&mut store, &command)).await;
    // Wasmtime keeps the future of the import, and with it the place in the queue.
    assert_eq!(waiters(&lock), 1);
    drop(store);
    assert_eq!(waiters(&lock), 0);
    guard.release().unwrap();
    drop(lock);
    nothing_is_left(&host);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_of_the_adapter_dropped_in_the_wait_leaves_no_waiter_and_takes_no_grant() {
    let host = Host::new();
    let lock = host.lock("a");
    let guard = lock.acquire(EX, None).unwrap();
    let (mut store, command, stdout) = tasks(&host, &["race", "/locks/a", "60000"]).await;
    let run = locket_wasmtime::p3::run_concurrent(&mut store, async |store| {
        command.wasi_cli_run().call_run(store).await
    });
    drop_in_the_wait(&lock, run).await;
    assert_eq!(waiters(&lock), 0);
    guard.release().unwrap();
    assert!(host.is_free("a"));
    // The store can run on, and nothing of the first call is in its way. What is left of that may still
    // say how its wait ended.
    call(&mut store, &command).await.unwrap().unwrap();
    let printed = printed(&stdout);
    let mut lines: Vec<_> = printed.lines().collect();
    lines.retain(|line| *line != "err canceled");
    assert_eq!(lines, ["ok lock held=true"], "{printed}");
    drop((store, lock));
    nothing_is_left(&host);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_granted_to_a_store_that_is_not_run_is_free_when_it_is_dropped() {
    let host = Host::new();
    let lock = host.lock("a");
    let guard = lock.acquire(EX, None).unwrap();
    let (mut store, command, _) = tasks(&host, &["race", "/locks/a", "60000"]).await;
    drop_in_the_wait(&lock, call(&mut store, &command)).await;
    guard.release().unwrap();
    drop(store);
    drop(lock);
    nothing_is_left(&host);
}
