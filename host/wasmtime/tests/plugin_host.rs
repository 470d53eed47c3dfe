//! The example `plugin_host` does what it shows.
#![cfg(target_os = "linux")]

#[path = "../examples/plugin_host/main.rs"]
#[allow(dead_code, reason = "the example is a program of its own")]
mod plugin_host;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use locket::Mode;
use locket_test_support::proc_locks::descriptors_below;
use locket_test_support::waits::{STUCK, eventually};
use locket_wasmtime::bindings::api;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use plugin_host::config::Config;
use plugin_host::demo::{self, LOCKS};
use plugin_host::host::{Answer, Host};

/// The settings of the example.
fn config() -> Config {
    let mut config = Config::example().unwrap();
    config.plugin = build_guests::path("plugin");
    config
}

fn host(config: &Config, data: &Path) -> Arc<Host> {
    Arc::new(Host::new(config, data).unwrap())
}

/// Begins calls that add to the first number.
fn calls(host: &Arc<Host>, tenant: &'static str, count: usize) -> Vec<JoinHandle<Answer>> {
    let call = |_| {
        let host = Arc::clone(host);
        tokio::spawn(async move { host.call(tenant, LOCKS[0], 0).await })
    };
    (0..count).map(call).collect()
}

async fn answers(calls: Vec<JoinHandle<Answer>>) -> Vec<Answer> {
    let mut answers = Vec::new();
    for call in calls {
        let answer = timeout(STUCK, call).await;
        answers.push(answer.expect("the call ends").unwrap());
    }
    answers
}

/// Until so many calls wait.
async fn waiting(host: &Host, count: usize) {
    let all = demo::until(|| host.counts().1 == count);
    timeout(STUCK, all).await.expect("all of them wait");
}

/// No call holds or awaits a lock.
fn nothing_is_left(host: &Host) {
    assert_eq!(host.counts(), (0, 0));
    assert!(host.calls.list().is_empty());
    for tenant in host.tenants.values() {
        let usage = tenant.locks.usage();
        assert_eq!((usage.handles, usage.held, usage.waiters), (0, 0, 0));
        assert!(tenant.metrics.counts().add_up());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_calls_a_reload_and_a_shutdown() {
    let data = tempfile::tempdir().unwrap();
    let config = config();
    assert_eq!(config.running_time, Duration::from_secs(2));
    let host = host(&config, data.path());
    let report = demo::run(&host, 2000).await.unwrap();
    println!("{report}");
    assert!(report.is_right(), "{report:#?}");
    let all = |count: fn(&demo::Ends) -> u64| report.ends.values().map(count).sum::<u64>();
    assert_eq!(all(|ends| ends.added), 2000);
    // The call that was in the way of the new plugin, and the one in the way of the shutdown.
    assert_eq!(all(|ends| ends.lost), 2);
    assert_eq!(all(|ends| ends.canceled), 10);
    let (_, listing) = report.listings.last().unwrap();
    assert!(listing.contains("awaited by 6 of alice"), "{listing}");

    nothing_is_left(&host);
    // However many calls there were, each directory was opened once.
    assert_eq!(descriptors_below(data.path()), config.directories.len());
    drop(host);
    eventually("all is closed", || descriptors_below(data.path()) == 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_tenant_is_not_behind_the_queue_of_a_big_one() {
    let data = tempfile::tempdir().unwrap();
    let host = host(&config(), data.path());
    let lock = host.locks.open(data.path().join("shared/a")).unwrap();
    let guard = lock.acquire(Mode::Exclusive, None).unwrap();
    // More than have an instance at a time.
    let big = calls(&host, "alice", 100);
    waiting(&host, 40).await;
    let small = calls(&host, "carol", 1);
    waiting(&host, 41).await;
    guard.release().unwrap();

    // The sum tells the order.
    let small = answers(small).await;
    assert!(matches!(small[..], [Answer::Added(1 | 2)]), "{small:?}");
    let big = answers(big).await;
    let added = |answer: &Answer| matches!(answer, Answer::Added(_));
    assert!(big.iter().all(added), "{big:?}");
    assert_eq!(host.ledger.all()[LOCKS[0]], 101);
    drop(lock);
    nothing_is_left(&host);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_lasts_too_long_leaves_no_wait() {
    let data = tempfile::tempdir().unwrap();
    let mut config = config();
    config.longest_call = Duration::from_millis(100);
    let host = host(&config, data.path());
    let lock = host.locks.open(data.path().join("shared/a")).unwrap();
    let guard = lock.acquire(Mode::Exclusive, None).unwrap();
    let late = answers(calls(&host, "alice", 1)).await;
    assert!(matches!(late[..], [Answer::TimedOut]), "{late:?}");
    guard.release().unwrap();
    nothing_is_left(&host);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_cancels_waits_and_refuses_what_has_not_begun() {
    let data = tempfile::tempdir().unwrap();
    let host = host(&config(), data.path());
    let lock = host.locks.open(data.path().join("shared/a")).unwrap();
    let guard = lock.acquire(Mode::Exclusive, None).unwrap();
    let begun = calls(&host, "alice", 100);
    waiting(&host, 40).await;
    timeout(STUCK, host.shut_down())
        .await
        .expect("all calls end");
    let answers = answers(begun).await;
    let canceled = |answer: &&Answer| matches!(answer, Answer::Failed(api::Error::Canceled));
    let refused = |answer: &&Answer| matches!(answer, Answer::Refused);
    assert_eq!(answers.iter().filter(canceled).count(), 40, "{answers:?}");
    assert_eq!(answers.iter().filter(refused).count(), 60, "{answers:?}");
    guard.release().unwrap();
    nothing_is_left(&host);
}
