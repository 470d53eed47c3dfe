//! Which handles share a queue, and which do not.

use locket_tests::harness::{QUIESCENT, eventually, waiters};

use super::*;

/// A handle that is open for writing and one that is not, on one file, are one lock with one queue.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handles_of_both_kinds_are_one_queue() {
    let host = Host::new();
    fs::write(host.path("f"), "data").unwrap();
    for [first, second] in [["native", "flock"], ["flock", "native"]] {
        println!("{first}, then {second}");
        let mut guests = Vec::new();
        for protocol in [first, second, first, second] {
            let mut guest = guest(&host, &host.locks, Rights::LOCKS).await;
            guest.ok(&format!("open f /locks/f keep {protocol}")).await;
            guests.push(guest);
        }
        guests[0].ok("acquire f exclusive 0").await;
        // The same goes for another handle of the same guest, which would wait for itself.
        guests[0]
            .ok(&format!("open g /locks/f keep {second}"))
            .await;
        assert_eq!(guests[0].err("acquire g exclusive 0").await, "would-block");
        assert_eq!(guests[0].err("acquire g exclusive none").await, "deadlock");
        let lock = host.lock("f");
        for (ahead, guest) in guests[1..].iter_mut().enumerate() {
            guest.wait("acquire f exclusive none").await;
            eventually("it is in the queue", || waiters(&lock) == ahead + 1);
        }
        drop(lock);
        for i in 0..guests.len() - 1 {
            guests[i].ok("release f").await;
            assert!(guests[i + 1].reply().await.starts_with("ok"));
            for later in guests.iter_mut().skip(i + 2) {
                let reply = later.reply_within(QUIESCENT / 2).await;
                assert_eq!(reply, None, "out of order");
            }
        }
        guests[3].ok("release f").await;
        for guest in guests {
            guest.end().await.result.unwrap().unwrap();
        }
    }
    assert_eq!(fs::read(host.path("f")).unwrap(), b"data");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_of_its_own_is_another_process() {
    let host = Host::new();
    let mut guest = host.remote().await;
    guest.ok("open a /locks/a").await;
    guest.ok("acquire a exclusive 0").await;
    let other = LocketCtx::builder(&Engine::new());
    let other = other
        .grant_dir(&host.dir, "/locks", Rights::ALL)
        .unwrap()
        .build();
    let mut foreign = host.guest("remote", other).await;
    foreign.ok("open a /locks/a").await;
    assert_eq!(foreign.err("acquire a exclusive 0").await, "would-block");
    assert_eq!(
        foreign.ok("holder a").await,
        "label=none mode=exclusive self=false"
    );
    drop(guest.end().await);
    foreign.ok("acquire a exclusive none").await;
}
