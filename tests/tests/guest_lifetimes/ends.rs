//! A guest returns, exits or traps while it holds a lock.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leaked_handle_is_free_when_the_store_is_dropped() {
    let host = Host::new();
    let mut guest = holder(&host).await;
    guest.ok("leak a").await;
    let mut end = guest.end().await;
    assert!(matches!(end.result, Ok(Ok(()))), "{:?}", end.result);
    assert!(end.resources() > 0);
    assert!(!host.is_free("a"));
    drop(end);
    nothing_is_left(&host);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_that_exits_releases_when_the_store_is_dropped() {
    let host = Host::new();
    let mut guest = holder(&host).await;
    guest.tell("exit 3").await;
    let end = guest.end().await;
    assert!(end.result.is_err());
    assert!(!host.is_free("a"));
    drop(end);
    nothing_is_left(&host);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trap_while_holding_keeps_the_lock_until_the_store_is_dropped() {
    let host = Host::new();
    let mut guest = holder(&host).await;
    guest.tell("trap").await;
    let mut end = guest.end().await;
    let trap = end
        .result
        .as_ref()
        .unwrap_err()
        .downcast_ref::<Trap>()
        .copied();
    assert_eq!(trap, Some(Trap::UnreachableCodeReached));
    assert!(end.resources() > 0);
    assert!(!host.is_free("a"));
    drop(end);
    nothing_is_left(&host);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_trap_no_call_enters_the_instance_but_release_all_frees_its_locks() {
    let host = Host::new();
    let mut store = host.store();
    let first = bare(&mut store).await;
    assert_eq!(hold(&mut store, &first).await, "ok");
    deadline(&mut store);
    runtime().increment_epoch();
    let trap = run(&mut store, &first, Some(0)).await.unwrap_err();
    assert_eq!(
        trap.downcast_ref::<Trap>(),
        Some(&Trap::Interrupt),
        "{trap:?}"
    );
    store.set_epoch_deadline(1 << 60);
    let error = run(&mut store, &first, Some(0)).await.unwrap_err();
    assert!(
        format!("{error:?}").contains("cannot enter component instance"),
        "{error:?}"
    );
    assert!(!host.is_free("a"));
    locket_wasmtime::LocketView::locket(store.data_mut())
        .ctx
        .release_all();
    assert!(host.is_free("a"));
    drop(store);
    nothing_is_left(&host);
}
