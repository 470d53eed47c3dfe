//! Mistakes of an embedder that are told, and what a guest can cause without a trap.

use locket::Mode;
use locket::sandbox::{Directory, Limits, Rights};
use locket_tests::harness::{Host, State, descriptors, linker, runtime, waiters};
use locket_wasmtime::bindings::api::HostLockFile;
use locket_wasmtime::{LocketCtx, LocketView};
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi::WasiCtx;

use super::{bare, hold, instantiate, run};

#[tokio::test]
async fn a_synchronous_acquire_in_an_asynchronous_call_traps_instead_of_stopping_the_executor() {
    let host = Host::new();
    let mut linker = Linker::new(runtime());
    wasmtime_wasi::p2::add_to_linker_async(&mut linker).unwrap();
    locket_wasmtime::p2::add_to_linker_sync(&mut linker).unwrap();
    let _guard = host.lock("a").acquire(Mode::Exclusive, None).unwrap();
    for wait in [None, Some(60_000)] {
        let mut store = host.store();
        let bare = instantiate(&mut store, &linker).await;
        // A try does not block.
        let tried = run(&mut store, &bare, "/locks/a", Some(0)).await.unwrap();
        assert_eq!(tried, "would-block");
        let trap = run(&mut store, &bare, "/locks/a", wait).await.unwrap_err();
        assert!(
            format!("{trap:?}").contains("add_to_linker_async"),
            "{trap:?}"
        );
        assert_eq!(waiters(&host.lock("a")), 0);
    }
}

#[test]
fn a_context_that_is_replaced_while_its_guest_has_locks_open_is_told() {
    let host = Host::new();
    let mut store = host.store();
    let before = HostLockFile::open(&mut store.data_mut().locket(), "/locks/a".into());
    let before = before.unwrap().rep();
    let path = |store: &mut wasmtime::Store<_>, lock| {
        let lock = Resource::new_borrow(lock);
        HostLockFile::path(&mut State::locket(store.data_mut()), lock)
    };
    assert_eq!(path(&mut store, before).unwrap(), "/locks/a");
    store.data_mut().set_locket(host.ctx().build());
    let error = path(&mut store, before).unwrap_err();
    assert!(error.to_string().contains("was replaced"), "{error}");
    // A lock that is opened now belongs to the new context.
    let after = HostLockFile::open(&mut store.data_mut().locket(), "/locks/a".into());
    let after = path(&mut store, after.unwrap().rep());
    assert_eq!(after.unwrap(), "/locks/a");
}

#[tokio::test]
async fn a_full_resource_table_is_an_error_of_the_guest() {
    let host = Host::new();
    let (mut store, bare) = bare(&host).await;
    store.data_mut().locket().table.set_max_capacity(1);
    assert_eq!(hold(&mut store, &bare, "/locks/a").await, "ok");
    let full = run(&mut store, &bare, "/locks/b", None).await.unwrap();
    assert_eq!(full, "limit-exceeded");
    // Nothing of the second is left.
    let usage = store.data_mut().locket().ctx.usage();
    assert_eq!((usage.handles, usage.held), (1, 1));
}

#[tokio::test]
async fn contexts_that_share_a_directory_take_no_descriptors_of_their_own() {
    let host = Host::new();
    let directory = Directory::open(host.dir.path()).unwrap();
    let before = descriptors(host.dir.path());
    let contexts: Vec<_> = (0..100)
        .map(|_| {
            let ctx = LocketCtx::builder(&host.locks).limits(Limits::new());
            let ctx = ctx.grant(&directory, "/locks", Rights::LOCKS).unwrap();
            ctx.grant(&directory, "/again", Rights::LOCKS)
                .unwrap()
                .build()
        })
        .collect();
    assert_eq!(descriptors(host.dir.path()), before);
    let mut store = host.store_with(contexts[0].clone(), &mut WasiCtx::builder());
    let bare = instantiate(&mut store, linker()).await;
    assert_eq!(
        run(&mut store, &bare, "/again/a", None).await.unwrap(),
        "ok"
    );
}
