//! Running time: what a guest uses up, and what a wait does not.

use locket::Mode;
use locket_tests::harness::{Host, STUCK, runtime, waiters};
use locket_wasmtime::epochs::{Between, limit_running_time};

use super::{bare, bare_sync, run, run_sync};

/// Epochs that pass while a guest waits: more than it may run.
const MANY: u64 = 50;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_uses_up_no_running_time() {
    let host = Host::new();
    let guard = host.lock("a").acquire(Mode::Exclusive, None).unwrap();
    let (mut store, bare) = bare(&host).await;
    limit_running_time(&mut store, 3, Between::Yield);
    let meanwhile = async {
        while waiters(&host.lock("a")) == 0 {
            tokio::task::yield_now().await;
        }
        for _ in 0..MANY {
            runtime().increment_epoch();
        }
        guard.release().unwrap();
    };
    let (answer, ()) = tokio::join!(run(&mut store, &bare, "/locks/a", None), meanwhile);
    assert_eq!(answer.unwrap(), "ok");
}

#[test]
fn a_wait_uses_up_no_running_time_in_a_synchronous_call() {
    let host = Host::new();
    let guard = host.lock("a").acquire(Mode::Exclusive, None).unwrap();
    let (mut store, bare) = bare_sync(&host);
    limit_running_time(&mut store, 3, Between::Continue);
    std::thread::scope(|scope| {
        let guest = scope.spawn(|| run_sync(&mut store, &bare, "/locks/a", None));
        while waiters(&host.lock("a")) == 0 {
            std::thread::yield_now();
        }
        for _ in 0..MANY {
            runtime().increment_epoch();
        }
        guard.release().unwrap();
        assert_eq!(guest.join().unwrap().unwrap(), "ok");
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_that_runs_is_interrupted_when_its_time_is_up_and_not_before() {
    for ticks in [1, 5] {
        let host = Host::new();
        let mut guest = locket_tests::harness::Guest::start(
            locket_tests::harness::component("remote"),
            |wasi| {
                let mut store = host.store_with(host.ctx().build(), wasi);
                limit_running_time(&mut store, ticks, Between::Yield);
                store
            },
        )
        .await;
        // It has begun to run: making an instance takes time of its own.
        guest.tell("let-go").await;
        assert!(guest.reply_within(STUCK).await.is_some());
        guest.tell("spin").await;
        // Each time it runs into the end of an epoch, one tick is used up.
        let ends = guest.end();
        tokio::pin!(ends);
        let end = loop {
            tokio::select! {
                end = &mut ends => break end,
                () = tokio::task::yield_now() => runtime().increment_epoch(),
            }
        };
        let error = format!("{:?}", end.result.unwrap_err());
        assert!(error.contains("used up its running time"), "{error}");
    }
}
