//! The end of all waits of an engine.

use super::*;

fn soft() -> Options {
    Options::new().protocol(Protocol::Soft)
}

/// Locks of an engine that another one holds: of the kernel, and one that is a name.
fn busy(dir: &Dir, engine: &Engine, foreign: &Engine) -> [(LockFile, locket::Guard); 2] {
    [("kernel", Options::new()), ("soft", soft())].map(|(name, options)| {
        let open = |engine: &Engine| engine.open_with(dir.path(name), &options).unwrap();
        (open(engine), open(foreign).acquire(EX, STUCK).unwrap())
    })
}

#[test]
fn every_wait_is_canceled_and_later_ones_are_not() {
    let dir = Dir::new();
    let (engine, foreign) = (Engine::new(), Engine::new());
    let [(kernel, held), (soft, another)] = busy(&dir, &engine, &foreign);
    // One that waits for this engine.
    let own = dir.lock(&engine);
    let hold = own.acquire(EX, STUCK).unwrap();
    let tasks = [&kernel, &soft, &own].map(|lock| pending(lock, EX));
    thread::scope(|scope| {
        let threads = [&kernel, &soft, &own].map(|lock| scope.spawn(|| lock.acquire(EX, None)));
        for lock in [&kernel, &soft, &own] {
            eventually("both wait", || waiters(lock) == 2);
        }
        engine.cancel_all();
        for thread in threads {
            assert!(thread.join().unwrap().unwrap_err().is_canceled());
        }
    });
    for task in tasks {
        assert!(block_on(task).unwrap_err().is_canceled());
    }
    // Holds stay, also those of the other engine, and new waits begin.
    assert!(kernel.try_acquire(SH).unwrap().is_none());
    let waits = [&kernel, &soft, &own].map(|lock| pending(lock, EX));
    drop((hold, held, another));
    for wait in waits {
        block_on(wait).unwrap().release().unwrap();
    }
}

#[test]
fn after_the_end_nothing_waits_and_all_else_goes_on() {
    let dir = Dir::new();
    // With a pause after each hold, in which a free lock is left alone.
    let engine = Engine::builder().fairness_pause(Duration::ZERO, Duration::from_secs(1));
    let (engine, foreign) = (engine.build(), Engine::new());
    let [(kernel, held), (soft, _another)] = busy(&dir, &engine, &foreign);
    let own = dir.lock(&engine);
    let hold = own.acquire(EX, STUCK).unwrap();
    let tasks = [&kernel, &soft, &own].map(|lock| pending(lock, EX));
    engine.shut_down();
    for task in tasks {
        assert!(block_on(task).unwrap_err().is_canceled());
    }
    for lock in [
        &kernel,
        &soft,
        &own,
        &engine.open(dir.path("kernel")).unwrap(),
    ] {
        assert!(lock.acquire(EX, None).unwrap_err().is_canceled());
        assert!(lock.acquire(EX, STUCK).unwrap_err().is_canceled());
        let waits = block_on(lock.acquire_async(EX, None));
        assert!(waits.unwrap_err().is_canceled());
        let tried = lock.acquire(EX, Duration::ZERO).unwrap_err();
        assert!(tried.is_would_block(), "{tried}");
        assert_eq!(waiters(lock), 0);
    }
    hold.release().unwrap();
    own.acquire(EX, None).unwrap().release().unwrap();
    drop(held);
    kernel.acquire(EX, None).unwrap().release().unwrap();
    engine.cancel_all();
    let again = dir.lock(&foreign).acquire(EX, STUCK).unwrap();
    assert!(own.acquire(EX, None).unwrap_err().is_canceled());
    drop(again);
}

/// However the end and the beginning of a wait meet.
#[test]
fn no_wait_is_left_behind() {
    let dir = Dir::new();
    for _ in 0..200 {
        let (engine, foreign) = (Engine::new(), Engine::new());
        let _held = dir.lock(&foreign).acquire(EX, STUCK).unwrap();
        let lock = dir.lock(&engine);
        let begun = std::sync::Barrier::new(3);
        thread::scope(|scope| {
            let ends = || {
                begun.wait();
                assert!(lock.acquire(EX, None).unwrap_err().is_canceled());
                let waits = block_on(lock.acquire_async(SH, None));
                assert!(waits.unwrap_err().is_canceled());
            };
            scope.spawn(ends);
            scope.spawn(ends);
            begun.wait();
            engine.shut_down();
        });
    }
}
