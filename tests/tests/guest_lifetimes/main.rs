//! How guests end, and what becomes of their locks: a test for every row of the table that says
//! what Wasmtime does, and after each nothing is left behind.

use std::time::{Duration, Instant};

use locket::sandbox::{Limits, Rights};
use locket::{LockFile, Mode};
use locket_tests::harness::{
    AT_ONCE, Guest, Host, QUIESCENT, STUCK, State, component, descriptors, engine_threads,
    eventually, linker, runtime, waiters,
};
use locket_wasmtime::LocketCtx;
use tokio::time::timeout;
use wasmtime::component::{Component, Instance};
use wasmtime::{Store, Trap};
use wasmtime_wasi::WasiCtx;
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;
use wasmtime_wasi::p3::bindings::Command;

const EX: Mode = Mode::Exclusive;

/// Nobody holds the lock `a` and nobody waits for it. A thread that was called back from the
/// kernel lets go of its descriptor a moment later, and ends a while after its last work.
#[track_caller]
fn nothing_is_left(host: &Host) {
    assert_eq!(waiters(&host.lock("a")), 0);
    assert!(host.is_free("a"));
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

/// The guest `tasks` with its arguments, and what it prints.
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

/// Ends what runs in the store with the next epoch.
fn deadline(store: &mut Store<State>) {
    store.set_epoch_deadline(1);
}

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
async fn after_a_trap_nobody_enters_the_instance_but_release_all_frees_its_locks() {
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_dropped_in_the_wait_leaves_the_queue_at_once() {
    let host = Host::new();
    let lock = host.lock("a");
    let guard = lock.acquire(EX, None).unwrap();
    let mut store = host.store();
    let instance = bare(&mut store).await;
    let waited = timeout(QUIESCENT, run(&mut store, &instance, None)).await;
    assert!(waited.is_err(), "it does not wait");
    assert_eq!(waiters(&lock), 0);
    let error = run(&mut store, &instance, Some(0)).await.unwrap_err();
    assert!(
        format!("{error:?}").contains("cannot enter component instance"),
        "{error:?}"
    );
    guard.release().unwrap();
    assert!(host.is_free("a"), "the lock was stolen");
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
        assert_eq!(waiters(&lock), 1);
        guest.kill().await;
        assert_eq!(waiters(&lock), 0);
        guard.release().unwrap();
        assert!(host.is_free("a"), "the lock was stolen");
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
async fn a_store_dropped_with_a_pending_acquire_leaves_the_queue() {
    let host = Host::new();
    let lock = host.lock("a");
    let guard = lock.acquire(EX, None).unwrap();
    let mut guest = host.guest("poll", host.ctx().build()).await;
    guest.ok("start a /locks/a exclusive none").await;
    assert_eq!(guest.ok("wait 20").await, "timer");
    assert_eq!(waiters(&lock), 1);
    guest.kill().await;
    assert_eq!(waiters(&lock), 0);
    guard.release().unwrap();
    drop(lock);
    nothing_is_left(&host);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_dropped_with_an_answer_not_taken_releases() {
    let host = Host::new();
    let lock = host.lock("a");
    let guard = lock.acquire(EX, None).unwrap();
    let mut guest = host.guest("poll", host.ctx().build()).await;
    guest.ok("start a /locks/a exclusive none").await;
    guard.release().unwrap();
    assert_eq!(guest.ok("wait 20000").await, "a");
    assert!(!host.is_free("a"));
    guest.kill().await;
    drop(lock);
    nothing_is_left(&host);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pollable_outlives_its_pending_and_is_ready() {
    let host = Host::new();
    let lock = host.lock("a");
    let guard = lock.acquire(EX, None).unwrap();
    let mut guest = host.guest("poll", host.ctx().build()).await;
    guest.ok("start a /locks/a exclusive none").await;
    guest.ok("abandon a").await;
    assert_eq!(waiters(&lock), 0);
    assert_eq!(guest.ok("wait 20000").await, "a");
    guest.ok("close a").await;
    assert_eq!(guest.ok("wait 20000").await, "a");
    guest.ok("drop a").await;
    guard.release().unwrap();
    assert!(guest.end().await.result.is_ok());
    drop(lock);
    nothing_is_left(&host);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pending_is_granted_although_its_lock_is_closed() {
    let host = Host::new();
    let lock = host.lock("a");
    let guard = lock.acquire(EX, None).unwrap();
    let mut guest = host.guest("poll", host.ctx().build()).await;
    guest.ok("start a /locks/a exclusive none").await;
    guest.ok("close a").await;
    assert_eq!(guest.ok("finish a").await, "none");
    guard.release().unwrap();
    assert_eq!(guest.ok("wait 20000").await, "a");
    assert_eq!(guest.ok("finish a").await, "token=none valid-for=none");
    assert!(!host.is_free("a"));
    guest.ok("release a").await;
    assert!(host.is_free("a"));
    drop((guest.end().await, lock));
    nothing_is_left(&host);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_async_acquire_that_the_guest_cancels_leaves_the_queue() {
    let host = Host::new();
    let lock = host.lock("a");
    let guard = lock.acquire(EX, None).unwrap();
    let (mut store, command, stdout) = tasks(&host, &["cancel", "/locks/a"]).await;
    let result = timeout(STUCK, call(&mut store, &command)).await.unwrap();
    assert!(matches!(result, Ok(Ok(()))), "{result:?}");
    assert_eq!(printed(&stdout), "ok pending locked=true held=false");
    assert_eq!(waiters(&lock), 0);
    guard.release().unwrap();
    assert!(host.is_free("a"));
    drop((lock, store));
    nothing_is_left(&host);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_async_acquire_dropped_around_the_grant_leaves_nothing_held() {
    let host = Host::new();
    let lock = host.lock("a");
    let mut seen = [0, 0];
    for round in 0..24 {
        let guard = lock.acquire(EX, STUCK).unwrap();
        let (mut store, command, stdout) = tasks(&host, &["race", "/locks/a", "5"]).await;
        let release = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(4 + round % 4)).await;
            guard.release().unwrap();
        });
        timeout(STUCK, call(&mut store, &command))
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        release.await.unwrap();
        match &*printed(&stdout) {
            "ok lock held=true" => seen[0] += 1,
            "ok timer held=false" => seen[1] += 1,
            other => panic!("{other}"),
        }
        // The store is still there.
        assert_eq!(waiters(&lock), 0);
        assert!(host.is_free("a"), "round {round}, {seen:?}");
    }
    println!("lock first {}, timer first {}", seen[0], seen[1]);
    drop(lock);
    nothing_is_left(&host);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_concurrent_dropped_in_the_wait_ends_it_with_the_store() {
    let host = Host::new();
    let lock = host.lock("a");
    let guard = lock.acquire(EX, None).unwrap();
    let (mut store, command, _) = tasks(&host, &["race", "/locks/a", "60000"]).await;
    assert!(
        timeout(QUIESCENT, call(&mut store, &command))
            .await
            .is_err()
    );
    // Wasmtime keeps the future of the import, and with it the place in the queue.
    assert_eq!(waiters(&lock), 1);
    drop(store);
    assert_eq!(waiters(&lock), 0);
    guard.release().unwrap();
    drop(lock);
    nothing_is_left(&host);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_granted_to_a_store_that_nobody_runs_is_free_when_it_is_dropped() {
    let host = Host::new();
    let lock = host.lock("a");
    let guard = lock.acquire(EX, None).unwrap();
    let (mut store, command, _) = tasks(&host, &["race", "/locks/a", "60000"]).await;
    assert!(
        timeout(QUIESCENT, call(&mut store, &command))
            .await
            .is_err()
    );
    guard.release().unwrap();
    drop(store);
    drop(lock);
    nothing_is_left(&host);
}

/// Exports that call, without a toolchain, what no bindings would: `acquire` of `api-async` from a
/// function that is not async, and of `api` from one that is. They answer 0 for success. And two
/// that no other guest calls: `lost`, which answers the reason, and `break-lock`.
const EXPORTS: &str = r#"
(component
  (import "locket:lock/api@0.1.0" (instance $api
    (export "lock-file" (type $lock-file (sub resource)))
    (export "guard" (type $guard (sub resource)))
    (type $mode' (enum "exclusive" "shared"))
    (export "mode" (type $mode (eq $mode')))
    (type $reason' (enum "expired" "broken" "disconnected" "io"))
    (export "lost-reason" (type $reason (eq $reason')))
    (type $kind' (enum "no-space" "quota" "read-only" "stale" "too-many-files" "too-many-locks" "other"))
    (export "io-kind" (type $kind (eq $kind')))
    (type $error' (variant
      (case "would-block") (case "timeout") (case "not-locked") (case "not-owner")
      (case "deadlock") (case "access-denied") (case "no-entry") (case "invalid-path")
      (case "limit-exceeded") (case "not-supported") (case "unavailable")
      (case "lost" $reason) (case "canceled") (case "io" $kind) (case "other" (option string))))
    (export "error" (type $error (eq $error')))
    (type $grant' (record (field "token" (option u64)) (field "valid-for" (option u32))))
    (export "grant" (type $grant (eq $grant')))
    (export "[static]lock-file.open"
      (func (param "path" string) (result (result (own $lock-file) (error $error)))))
    (export "[method]lock-file.acquire"
      (func (param "self" (borrow $lock-file)) (param "mode" $mode) (param "timeout" (option u32))
        (result (result $grant (error $error)))))))
  (alias export $api "lock-file" (type $lock-file))
  (alias export $api "guard" (type $guard))
  (alias export $api "mode" (type $mode))
  (alias export $api "error" (type $error))
  (alias export $api "lost-reason" (type $reason))
  (import "locket:lock/api-async@0.1.0" (instance $async
    (alias outer 1 $lock-file (type $lock-file))
    (alias outer 1 $guard (type $guard))
    (alias outer 1 $mode (type $mode))
    (alias outer 1 $error (type $error))
    (export "acquire"
      (func async (param "lock" (borrow $lock-file)) (param "mode" $mode)
        (param "timeout" (option u32)) (result (result (own $guard) (error $error)))))
    (alias outer 1 $reason (type $reason))
    (export "lost" (func async (param "lock" (borrow $lock-file)) (result $reason)))))
  (import "locket:lock/admin@0.1.0" (instance $admin
    (alias outer 1 $error (type $error))
    (export "break-lock" (func (param "path" string) (result (result (error $error)))))))

  (core module $memory
    (memory (export "memory") 1)
    (data (i32.const 0) "/locks/a")
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) unreachable))
  (core instance $memory (instantiate $memory))
  (alias core export $memory "memory" (core memory $m))
  (alias core export $memory "realloc" (core func $realloc))
  (core func $open (canon lower (func $api "[static]lock-file.open") (memory $m) (realloc (core func $realloc))))
  (core func $plain (canon lower (func $api "[method]lock-file.acquire") (memory $m) (realloc (core func $realloc))))
  (core func $acquire (canon lower (func $async "acquire") async (memory $m) (realloc (core func $realloc))))
  (core func $set (canon waitable-set.new))
  (core func $join (canon waitable.join))
  (core func $wait (canon waitable-set.wait (memory $m)))
  (core func $lost (canon lower (func $async "lost")))
  (core func $break (canon lower (func $admin "break-lock") (memory $m) (realloc (core func $realloc))))
  (core func $return (canon task.return (result u32)))

  (core module $main
    (import "" "memory" (memory 1))
    (import "" "open" (func $open (param i32 i32 i32)))
    (import "" "plain" (func $plain (param i32 i32 i32 i32 i32)))
    (import "" "acquire" (func $acquire (param i32 i32 i32 i32 i32) (result i32)))
    (import "" "set" (func $set (result i32)))
    (import "" "join" (func $join (param i32 i32)))
    (import "" "wait" (func $wait (param i32 i32) (result i32)))
    (import "" "lost" (func $lost (param i32) (result i32)))
    (import "" "break" (func $break (param i32 i32 i32)))
    (import "" "return" (func $return (param i32)))
    (func $opened (result i32)
      (call $open (i32.const 0) (i32.const 8) (i32.const 64))
      (if (i32.load8_u (i32.const 64)) (then unreachable))
      (i32.load (i32.const 68)))
    (func (export "async-from-sync") (result i32)
      (local $status i32)
      (local $set i32)
      (local.set $status
        (call $acquire (call $opened) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 64)))
      ;; 2 says that it has returned; otherwise the rest of the number is that of the subtask.
      (if (i32.ne (local.get $status) (i32.const 2)) (then
        (local.set $set (call $set))
        (call $join (i32.shr_u (local.get $status) (i32.const 4)) (local.get $set))
        (drop (call $wait (local.get $set) (i32.const 128)))))
      (i32.load8_u (i32.const 64)))
    (func (export "plain-from-sync") (result i32)
      (call $plain (call $opened) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 64))
      (i32.load8_u (i32.const 64)))
    (func (export "plain-from-async") (result i32)
      (call $plain (call $opened) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 64))
      (call $return (i32.load8_u (i32.const 64)))
      (i32.const 0))
    (func (export "lost") (result i32)
      (local $lock i32)
      (local.set $lock (call $opened))
      (call $plain (local.get $lock) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 64))
      (call $return (call $lost (local.get $lock)))
      (i32.const 0))
    (func (export "break") (result i32)
      (call $break (i32.const 0) (i32.const 8) (i32.const 64))
      (i32.load8_u (i32.const 64)))
    (func (export "callback") (param i32 i32 i32) (result i32) unreachable))
  (core instance $main (instantiate $main (with "" (instance
    (export "memory" (memory $m))
    (export "open" (func $open))
    (export "plain" (func $plain))
    (export "acquire" (func $acquire))
    (export "set" (func $set))
    (export "join" (func $join))
    (export "wait" (func $wait))
    (export "lost" (func $lost))
    (export "break" (func $break))
    (export "return" (func $return))))))
  (alias core export $main "callback" (core func $callback))

  (func (export "async-from-sync") (result u32)
    (canon lift (core func $main "async-from-sync")))
  (func (export "plain-from-sync") (result u32)
    (canon lift (core func $main "plain-from-sync")))
  (func (export "plain-from-async") async (result u32)
    (canon lift (core func $main "plain-from-async") async (callback (core func $callback))))
  (func (export "lost") async (result u32)
    (canon lift (core func $main "lost") async (callback (core func $callback))))
  (func (export "break") (result u32)
    (canon lift (core func $main "break")))
)
"#;

async fn export(store: &mut Store<State>, name: &str) -> wasmtime::Result<u32> {
    let component = Component::new(runtime(), wat::parse_str(EXPORTS).unwrap())?;
    let instance = linker().instantiate_async(&mut *store, &component).await?;
    let function = instance.get_typed_func::<(), (u32,)>(&mut *store, name)?;
    Ok(function.call_async(store, ()).await?.0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_async_acquire_from_a_sync_export_traps_where_it_would_wait() {
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
        // Linked, but not granted.
        assert_eq!(export(&mut host.store(), "break").await.unwrap(), 1);
        assert!(lock.is_locked().unwrap());
        assert_eq!(export(&mut all, "break").await.unwrap(), 0);
    });
    assert_eq!(lost.unwrap().unwrap(), 1, "broken");
    assert!(host.is_free("a"));
    drop((lock, holder, all));
    nothing_is_left(&host);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_instances_of_a_store_one_holds_one_waits_plainly_is_a_deadlock() {
    let host = Host::new();
    let mut store = host.store();
    let (first, second) = (bare(&mut store).await, bare(&mut store).await);
    assert_eq!(hold(&mut store, &first).await, "ok");
    let start = Instant::now();
    assert_eq!(run(&mut store, &second, None).await.unwrap(), "deadlock");
    assert_eq!(
        run(&mut store, &second, Some(10_000)).await.unwrap(),
        "deadlock"
    );
    assert_eq!(
        run(&mut store, &second, Some(0)).await.unwrap(),
        "would-block"
    );
    println!("{:?}", start.elapsed());
    assert!(start.elapsed() < AT_ONCE);
    drop(store);
    nothing_is_left(&host);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_tasks_of_a_store_hand_a_lock_over() {
    let host = Host::new();
    let (mut store, command, stdout) = tasks(&host, &["handover", "/locks/a"]).await;
    timeout(STUCK, call(&mut store, &command))
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(
        printed(&stdout),
        "ok first-acquired first-releases second-acquired"
    );
    drop(store);
    nothing_is_left(&host);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_instances_of_a_store_one_holds_one_waits_async_is_none() {
    let host = Host::new();
    let (mut store, command, stdout) = tasks(&host, &["race", "/locks/a", "100"]).await;
    let first = bare(&mut store).await;
    assert_eq!(hold(&mut store, &first).await, "ok");
    timeout(STUCK, call(&mut store, &command))
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(
        printed(&stdout),
        "ok timer held=true",
        "the store holds it, by its other instance"
    );
    drop(store);
    nothing_is_left(&host);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_instances_of_a_store_take_turns_async() {
    let host = Host::new();
    let (mut store, first, stdout) = tasks(&host, &["handover", "/locks/a"]).await;
    let component = component("tasks");
    let second = Command::instantiate_async(&mut store, &component, linker())
        .await
        .unwrap();
    let both = store.run_concurrent(async |store| {
        let first = first.wasi_cli_run();
        let second = second.wasi_cli_run();
        tokio::join!(first.call_run(store), second.call_run(store))
    });
    let (first, second) = timeout(STUCK, both).await.unwrap().unwrap();
    assert_eq!((first.unwrap(), second.unwrap()), (Ok(()), Ok(())));
    assert_eq!(printed(&stdout).matches("first-releases").count(), 2);
    drop(store);
    nothing_is_left(&host);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_locks_awaited_at_once_are_both_had() {
    let host = Host::new();
    let guard = host.lock("b").acquire(EX, None).unwrap();
    let (mut store, command, stdout) = tasks(&host, &["join", "/locks/a", "/locks/b"]).await;
    let (result, ()) = tokio::join!(timeout(STUCK, call(&mut store, &command)), async {
        let lock = host.lock("b");
        while waiters(&lock) == 0 {
            tokio::task::yield_now().await;
        }
        guard.release().unwrap();
    });
    result.unwrap().unwrap().unwrap();
    assert_eq!(printed(&stdout), "ok held=true,true");
    drop(store);
    assert!(host.is_free("b"));
    nothing_is_left(&host);
}

/// A guest that waits for the lock `a` when its epoch ends, and what `meanwhile` does.
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
    let lock: LockFile = host.lock("a");
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
