//! The epoch of a guest ends while it waits, holds or spins.

use super::*;

/// Runs a guest whose epoch ends while it waits for the lock `a`, and then `meanwhile`.
async fn epoch_in_the_wait(
    host: &Host,
    limits: Limits,
    meanwhile: impl FnOnce(),
) -> (Store<State>, wasmtime::Result<String>) {
    let mut store = host.store_with(
        host.ctx().limits(limits).build(),
        WasiCtx::builder().inherit_stderr(),
    );
    let instance = bare(&mut store).await;
    let lock = host.lock("a");
    deadline(&mut store);
    let (result, ()) = tokio::join!(timeout(STUCK, run(&mut store, &instance, None)), async {
        while waiters(&lock) == 0 {
            tokio::task::yield_now().await;
        }
        runtime().increment_epoch();
        meanwhile();
    });
    (store, result.unwrap())
}

fn interrupted(result: &wasmtime::Result<String>) {
    let error = result.as_ref().unwrap_err();
    assert_eq!(
        error.downcast_ref::<Trap>(),
        Some(&Trap::Interrupt),
        "{error:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_epoch_that_ends_in_the_wait_traps_after_it_with_the_lock_held() {
    let host = Host::new();
    let guard = host.lock("a").acquire(EX, None).unwrap();
    let release = || guard.release().unwrap();
    let (store, result) = epoch_in_the_wait(&host, Limits::new(), release).await;
    interrupted(&result);
    assert!(!host.is_free("a"));
    drop(store);
    nothing_is_left(&host);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_epoch_that_ends_in_the_wait_traps_after_the_longest_wait() {
    let host = Host::new();
    let guard = host.lock("a").acquire(EX, None).unwrap();
    let start = Instant::now();
    let limits = Limits::new().longest_wait(Some(Duration::from_millis(100)));
    let (store, result) = epoch_in_the_wait(&host, limits, || ()).await;
    let time = start.elapsed();
    interrupted(&result);
    assert!(
        time >= Duration::from_millis(100) && time < AT_ONCE,
        "{time:?}"
    );
    assert_eq!(waiters(&host.lock("a")), 0);
    guard.release().unwrap();
    drop(store);
    nothing_is_left(&host);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_epoch_that_ends_while_holding_keeps_the_lock_until_the_store_is_dropped() {
    let host = Host::new();
    let mut guest = Guest::start(component("remote"), |wasi| {
        let mut store = host.store_with(host.ctx().build(), wasi);
        deadline(&mut store);
        store
    })
    .await;
    guest.ok("open a /locks/a").await;
    guest.ok("acquire a exclusive 0").await;
    guest.tell("spin").await;
    assert_eq!(guest.reply_within(QUIESCENT).await, None);
    runtime().increment_epoch();
    let end = guest.end().await;
    let trap = end
        .result
        .as_ref()
        .unwrap_err()
        .downcast_ref::<Trap>()
        .copied();
    assert_eq!(trap, Some(Trap::Interrupt));
    assert!(!host.is_free("a"));
    drop(end);
    nothing_is_left(&host);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_longest_hold_frees_the_lock_of_a_guest_that_spins() {
    let host = Host::new();
    let limits = Limits::new().longest_hold(Some(Duration::from_millis(200)));
    let mut guest = Guest::start(component("remote"), |wasi| {
        let mut store = host.store_with(host.ctx().limits(limits).build(), wasi);
        deadline(&mut store);
        store
    })
    .await;
    guest.ok("open a /locks/a").await;
    let start = Instant::now();
    let granted = guest.ok("acquire a exclusive 0").await;
    let valid: u64 = granted.split("valid-for=").nth(1).unwrap().parse().unwrap();
    assert!((1..=200).contains(&valid), "{granted}");
    guest.tell("spin").await;
    let lock = host.lock("a");
    let guard = timeout(STUCK, lock.acquire_async(EX, None))
        .await
        .unwrap()
        .unwrap();
    let time = start.elapsed();
    assert!(
        time >= Duration::from_millis(valid) && time < AT_ONCE,
        "{time:?}"
    );
    guard.release().unwrap();
    runtime().increment_epoch();
    drop((guest.end().await, lock));
    nothing_is_left(&host);
}
