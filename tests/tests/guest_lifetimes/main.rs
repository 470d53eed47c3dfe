//! What becomes of the locks of a guest when it ends, in every way that Wasmtime has. After each nothing
//! is left behind.

mod aborts;
mod ends;
mod epochs;
mod exports;
mod pollables;
mod tasks;

use std::time::{Duration, Instant};

use locket::Mode;
use locket::sandbox::{Limits, Rights};
use locket_tests::harness::{
    AT_ONCE, Guest, Host, QUIESCENT, STUCK, State, component, descriptors, engine_threads,
    eventually, linker, runtime, waiters,
};
use tokio::time::timeout;
use wasmtime::component::{Component, Instance};
use wasmtime::{Store, Trap};
use wasmtime_wasi::WasiCtx;
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;
use wasmtime_wasi::p3::bindings::Command;

const EX: Mode = Mode::Exclusive;

/// Checks that the lock `a` has no holder and no waiters. A thread that was interrupted in the kernel
/// closes its descriptor a moment later, and ends a while after its last work.
#[track_caller]
fn nothing_is_left(host: &Host) {
    assert_eq!(waiters(&host.lock("a")), 0);
    eventually("the lock is free", || host.is_free("a"));
    eventually("the descriptors are closed", || {
        descriptors(host.dir.path()) == 0
    });
    eventually("the threads end", || engine_threads() == 0);
}

async fn bare(store: &mut Store<State>) -> Instance {
    linker()
        .instantiate_async(store, &component("bare"))
        .await
        .unwrap()
}

async fn run(
    store: &mut Store<State>,
    bare: &Instance,
    wait: Option<u32>,
) -> wasmtime::Result<String> {
    let run = bare.get_typed_func::<(&str, Option<u32>), (String,)>(&mut *store, "run")?;
    Ok(run.call_async(store, ("/locks/a", wait)).await?.0)
}

async fn hold(store: &mut Store<State>, bare: &Instance) -> String {
    let hold = bare
        .get_typed_func::<(&str,), (String,)>(&mut *store, "hold")
        .unwrap();
    hold.call_async(store, ("/locks/a",)).await.unwrap().0
}

/// The guest `tasks` with its arguments, and its output.
async fn tasks(host: &Host, args: &[&str]) -> (Store<State>, Command, MemoryOutputPipe) {
    let stdout = MemoryOutputPipe::new(1 << 12);
    let mut wasi = WasiCtx::builder();
    wasi.inherit_stderr()
        .stdout(stdout.clone())
        .arg("tasks")
        .args(args);
    let mut store = host.store_with(host.ctx().build(), &mut wasi);
    let component = component("tasks");
    let command = Command::instantiate_async(&mut store, &component, linker())
        .await
        .unwrap();
    (store, command, stdout)
}

async fn call(store: &mut Store<State>, command: &Command) -> wasmtime::Result<Result<(), ()>> {
    store
        .run_concurrent(async |store| command.wasi_cli_run().call_run(store).await)
        .await?
}

fn printed(stdout: &MemoryOutputPipe) -> String {
    String::from_utf8(stdout.contents().to_vec())
        .unwrap()
        .trim_end()
        .to_owned()
}

/// A guest that holds the lock `a`.
async fn holder(host: &Host) -> Guest {
    let mut guest = host.remote().await;
    guest.ok("open a /locks/a").await;
    guest.ok("acquire a exclusive 0").await;
    guest
}

/// Lets the next epoch interrupt the code in the store.
fn deadline(store: &mut Store<State>) {
    store.set_epoch_deadline(1);
}
