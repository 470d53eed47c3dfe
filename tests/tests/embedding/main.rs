//! What an embedder meets between one store and one engine: linking, mistakes that are told, handles
//! on a guest that runs, time that is counted, descriptors.

mod handles;
mod linking;
mod log;
mod mistakes;
mod time;

use locket_tests::harness::{Host, State, component, linker, runtime};
use wasmtime::Store;
use wasmtime::component::{Instance, Linker};

/// The guest `bare` in a store that is called synchronously.
fn bare_sync(host: &Host) -> (Store<State>, Instance) {
    let mut linker = Linker::new(runtime());
    locket_wasmtime::p2::add_to_linker_sync(&mut linker).unwrap();
    let mut store = host.store();
    let bare = linker.instantiate(&mut store, &component("bare")).unwrap();
    (store, bare)
}

/// The guest `bare` in a store that is called asynchronously.
async fn bare(host: &Host) -> (Store<State>, Instance) {
    let mut store = host.store();
    let bare = instantiate(&mut store, linker()).await;
    (store, bare)
}

async fn instantiate(store: &mut Store<State>, linker: &Linker<State>) -> Instance {
    let bare = component("bare");
    let bare = linker.instantiate_async(store, &bare).await;
    bare.unwrap()
}

/// Acquires and releases a lock, on the calling thread.
fn run_sync(
    store: &mut Store<State>,
    bare: &Instance,
    path: &str,
    wait: Option<u32>,
) -> wasmtime::Result<String> {
    let run = bare.get_typed_func::<(&str, Option<u32>), (String,)>(&mut *store, "run")?;
    Ok(run.call(store, (path, wait))?.0)
}

/// Acquires and releases a lock.
async fn run(
    store: &mut Store<State>,
    bare: &Instance,
    path: &str,
    wait: Option<u32>,
) -> wasmtime::Result<String> {
    let run = bare.get_typed_func::<(&str, Option<u32>), (String,)>(&mut *store, "run")?;
    Ok(run.call_async(store, (path, wait)).await?.0)
}

/// Acquires a lock and keeps it.
async fn hold(store: &mut Store<State>, bare: &Instance, path: &str) -> String {
    let hold = bare.get_typed_func::<(&str,), (String,)>(&mut *store, "hold");
    hold.unwrap().call_async(store, (path,)).await.unwrap().0
}
