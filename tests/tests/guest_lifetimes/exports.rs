//! Calls that no bindings make, from exports of either kind.

use locket_wasmtime::LocketCtx;

use super::*;

async fn export(store: &mut Store<State>, name: &str) -> wasmtime::Result<u32> {
    let component = Component::new(
        runtime(),
        wat::parse_str(include_str!("exports.wat")).unwrap(),
    )?;
    let instance = linker().instantiate_async(&mut *store, &component).await?;
    let function = instance.get_typed_func::<(), (u32,)>(&mut *store, name)?;
    Ok(function.call_async(store, ()).await?.0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_async_acquire_from_a_sync_export_traps_if_it_would_wait() {
    let host = Host::new();
    assert_eq!(
        export(&mut host.store(), "async-from-sync").await.unwrap(),
        0
    );
    let guard = host.lock("a").acquire(EX, None).unwrap();
    let mut store = host.store();
    let waited = timeout(STUCK, export(&mut store, "async-from-sync"))
        .await
        .unwrap();
    let error = format!("{:?}", waited.unwrap_err());
    assert!(
        error.contains("cannot block a synchronous task before returning"),
        "{error}"
    );
    drop(store);
    guard.release().unwrap();
    nothing_is_left(&host);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plain_acquire_waits_in_exports_of_either_kind() {
    let host = Host::new();
    let lock = host.lock("a");
    for name in ["plain-from-sync", "plain-from-async"] {
        let guard = lock.acquire(EX, STUCK).unwrap();
        let mut store = host.store();
        let (waited, ()) = tokio::join!(timeout(STUCK, export(&mut store, name)), async {
            while waiters(&lock) == 0 {
                tokio::task::yield_now().await;
            }
            guard.release().unwrap();
        });
        assert_eq!(waited.unwrap().unwrap(), 0, "{name}");
        assert!(!host.is_free("a"));
        drop(store);
        assert!(host.is_free("a"));
    }
    drop(lock);
    nothing_is_left(&host);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_broken_by_a_guest_with_the_right_is_lost_for_its_holder() {
    let host = Host::new();
    let lock = host.lock("a");
    let ctx = LocketCtx::builder(&host.locks).grant_dir(&host.dir, "/locks", Rights::ALL);
    let mut all = host.store_with(ctx.unwrap().build(), WasiCtx::builder().inherit_stderr());
    let mut holder = host.store();
    let (lost, ()) = tokio::join!(timeout(STUCK, export(&mut holder, "lost")), async {
        while !lock.is_locked().unwrap() {
            tokio::task::yield_now().await;
        }
        // Linked, but without the right.
        assert_eq!(export(&mut host.store(), "break").await.unwrap(), 1);
        assert!(lock.is_locked().unwrap());
        assert_eq!(export(&mut all, "break").await.unwrap(), 0);
    });
    assert_eq!(lost.unwrap().unwrap(), 1, "broken");
    assert!(host.is_free("a"));
    drop((lock, holder, all));
    nothing_is_left(&host);
}
