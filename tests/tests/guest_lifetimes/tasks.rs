//! Several tasks and instances in one store.

use super::*;

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
    eventually("the lock is free", || host.is_free("a"));
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
        // The store is still there. A helper thread that gets the lock just as its wait is canceled
        // gives it back a moment later.
        assert_eq!(waiters(&lock), 0);
        eventually("the lock is free", || host.is_free("a"));
    }
    println!("lock first {}, timer first {}", seen[0], seen[1]);
    drop(lock);
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
async fn two_locks_awaited_at_once_are_both_acquired() {
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plain_wait_for_another_instance_of_the_store_is_a_deadlock() {
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
async fn an_async_wait_for_another_instance_of_the_store_is_no_deadlock() {
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
        "the other instance of the store holds the lock"
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
