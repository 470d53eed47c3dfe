//! A guest without WASI on a plain thread: `Linker::instantiate`, `TypedFunc::call`, no Tokio.

use std::thread;
use std::time::{Duration, Instant};

use locket::Mode;
use locket_tests::harness::{AT_ONCE, Host, State, component, eventually, runtime, waiters};
use wasmtime::Store;
use wasmtime::component::Linker;
use wasmtime_wasi::WasiCtx;
use wasmtime_wasi::p2::bindings::sync::Command;
use wasmtime_wasi::p2::pipe::{MemoryInputPipe, MemoryOutputPipe};

struct Bare {
    store: Store<State>,
    instance: wasmtime::component::Instance,
}

impl Bare {
    fn new(host: &Host) -> Self {
        let mut linker = Linker::new(runtime());
        locket_wasmtime::p2::add_to_linker_sync(&mut linker).unwrap();
        let mut store = host.store();
        let instance = linker.instantiate(&mut store, &component("bare")).unwrap();
        Self { store, instance }
    }

    fn run(&mut self, path: &str, timeout: Option<u32>) -> String {
        let run = self
            .instance
            .get_typed_func::<(&str, Option<u32>), (String,)>(&mut self.store, "run")
            .unwrap();
        run.call(&mut self.store, (path, timeout)).unwrap().0
    }

    fn hold(&mut self, path: &str) -> String {
        let hold = self
            .instance
            .get_typed_func::<(&str,), (String,)>(&mut self.store, "hold");
        hold.unwrap().call(&mut self.store, (path,)).unwrap().0
    }
}

#[test]
fn a_free_lock_is_had_at_once() {
    let host = Host::new();
    let start = Instant::now();
    assert_eq!(Bare::new(&host).run("/locks/a", None), "ok");
    println!("{:?}", start.elapsed());
    assert!(host.is_free("a"));
}

#[test]
fn a_wait_ends_with_the_release_on_another_thread() {
    let host = Host::new();
    let lock = host.lock("a");
    let guard = lock.acquire(Mode::Exclusive, None).unwrap();
    thread::scope(|scope| {
        let guest = scope.spawn(|| Bare::new(&host).run("/locks/a", None));
        eventually("the guest waits", || waiters(&lock) == 1);
        guard.release().unwrap();
        assert_eq!(guest.join().unwrap(), "ok");
    });
    assert!(host.is_free("a"));
}

#[test]
fn a_wait_ends_with_the_release_of_another_process() {
    let host = Host::new();
    let foreign = host.foreign("a");
    let guard = foreign.acquire(Mode::Exclusive, None).unwrap();
    thread::scope(|scope| {
        let guest = scope.spawn(|| Bare::new(&host).run("/locks/a", Some(20_000)));
        eventually("the guest waits", || waiters(&host.lock("a")) == 1);
        guard.release().unwrap();
        assert_eq!(guest.join().unwrap(), "ok");
    });
}

#[test]
fn a_timeout_ends_the_wait() {
    let host = Host::new();
    let _guard = host.lock("a").acquire(Mode::Exclusive, None).unwrap();
    let mut guest = Bare::new(&host);
    let start = Instant::now();
    assert_eq!(guest.run("/locks/a", Some(0)), "would-block");
    assert_eq!(guest.run("/locks/a", Some(50)), "timeout");
    let time = start.elapsed();
    assert!(
        time >= Duration::from_millis(50) && time < AT_ONCE,
        "{time:?}"
    );
}

#[test]
fn a_lock_of_the_same_store_is_a_deadlock() {
    let host = Host::new();
    let mut guest = Bare::new(&host);
    assert_eq!(guest.hold("/locks/a"), "ok");
    let start = Instant::now();
    assert_eq!(guest.run("/locks/a", None), "deadlock");
    assert!(start.elapsed() < AT_ONCE);
    assert!(!host.is_free("a"));
    drop(guest);
    assert!(host.is_free("a"));
}

#[test]
fn two_guests_on_two_threads_take_turns() {
    let host = Host::new();
    thread::scope(|scope| {
        let mut first = Bare::new(&host);
        assert_eq!(first.hold("/locks/a"), "ok");
        let second = scope.spawn(|| Bare::new(&host).run("/locks/a", None));
        eventually("the second waits", || waiters(&host.lock("a")) == 1);
        drop(first);
        assert_eq!(second.join().unwrap(), "ok");
    });
}

#[test]
fn a_guest_polls_for_a_lock_and_a_timer() {
    let host = Host::new();
    let lock = host.lock("a");
    let guard = lock.acquire(Mode::Exclusive, None).unwrap();
    let commands =
        "start a /locks/a exclusive none\nwait 30\nfinish a\nwait none\nfinish a\nrelease a\n";
    let stdout = MemoryOutputPipe::new(1 << 12);
    let mut linker = Linker::new(runtime());
    wasmtime_wasi::p2::add_to_linker_sync(&mut linker).unwrap();
    locket_wasmtime::p2::add_to_linker_sync(&mut linker).unwrap();
    thread::scope(|scope| {
        let guest = scope.spawn(|| {
            let mut wasi = WasiCtx::builder();
            wasi.stdin(MemoryInputPipe::new(commands))
                .stdout(stdout.clone());
            let mut store = host.store_with(host.ctx().build(), &mut wasi);
            let guest = Command::instantiate(&mut store, &component("poll"), &linker).unwrap();
            guest.wasi_cli_run().call_run(&mut store).unwrap()
        });
        eventually("it polled in vain", || {
            stdout.contents().ends_with(b"timer\nok none\n")
        });
        guard.release().unwrap();
        assert_eq!(guest.join().unwrap(), Ok(()));
    });
    let replies = String::from_utf8(stdout.contents().to_vec()).unwrap();
    assert_eq!(
        replies.lines().collect::<Vec<_>>(),
        [
            "ok",
            "ok timer",
            "ok none",
            "ok a",
            "ok token=none valid-for=none",
            "ok"
        ],
    );
    assert!(host.is_free("a"));
}
