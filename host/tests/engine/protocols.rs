//! Which locks of other programs each kernel protocol excludes, and how protocols meet on one file.

use std::fs::File;

use super::*;

#[test]
fn engines_share_and_exclude_like_processes() {
    let dir = Dir::new();
    for protocol in KERNEL {
        let open = || {
            let options = Options::new().protocol(protocol);
            Engine::new().open_with(dir.path("lock"), &options).unwrap()
        };
        let (a, b) = (open(), open());
        let reader = a.acquire(SH, None).unwrap();
        b.acquire(SH, Duration::ZERO).unwrap().release().unwrap();
        assert!(b.try_acquire(EX).unwrap().is_none());
        assert_eq!(b.holder().unwrap().unwrap().mode, SH);
        reader.release().unwrap();
        let writer = a.acquire(EX, None).unwrap();
        assert!(b.try_acquire(SH).unwrap().is_none());
        assert_eq!(b.holder().unwrap().unwrap().mode, EX);
        assert!(!b.holder().unwrap().unwrap().is_self);
        assert!(a.holder().unwrap().unwrap().is_self);
        writer.release().unwrap();
    }
}

#[test]
#[cfg(target_os = "linux")]
fn native_excludes_both_families_and_is_excluded_by_both() {
    let dir = Dir::new();
    let lock = dir.lock(&Engine::new());
    let foreign = || {
        File::options()
            .read(true)
            .write(true)
            .open(dir.path("lock"))
            .unwrap()
    };

    let guard = lock.acquire(EX, None).unwrap();
    assert!(foreign().try_lock().is_err());
    assert!(fcntl_lock(foreign(), FlockOperation::NonBlockingLockExclusive).is_err());
    guard.release().unwrap();
    let guard = lock.acquire(SH, None).unwrap();
    foreign().try_lock_shared().unwrap();
    assert!(foreign().try_lock().is_err());
    assert!(fcntl_lock(foreign(), FlockOperation::NonBlockingLockExclusive).is_err());
    guard.release().unwrap();

    let file = foreign();
    flock(&file, FlockOperation::LockExclusive).unwrap();
    assert!(lock.try_acquire(EX).unwrap().is_none());
    assert!(lock.is_locked().unwrap());
    flock(&file, FlockOperation::Unlock).unwrap();
    fcntl_lock(&file, FlockOperation::LockExclusive).unwrap();
    assert!(lock.try_acquire(EX).unwrap().is_none());
    assert!(lock.is_locked().unwrap());
    fcntl_lock(&file, FlockOperation::Unlock).unwrap();
    assert!(!lock.is_locked().unwrap());
}

#[test]
#[cfg(target_os = "linux")]
fn waiting_for_one_family_does_not_hold_the_other() {
    let dir = Dir::new();
    let lock = dir.lock(&Engine::new());
    let file = File::options()
        .read(true)
        .write(true)
        .open(dir.path("lock"))
        .unwrap();
    fcntl_lock(&file, FlockOperation::LockExclusive).unwrap();
    let waiter = {
        let lock = lock.clone();
        thread::spawn(move || lock.acquire(EX, None).unwrap())
    };
    eventually("it waits for the record lock", || {
        kernel_waiters(lock.path()) == 1
    });
    // A second descriptor: closing it must not drop the record lock of this process.
    let other = std::mem::ManuallyDrop::new(File::open(dir.path("lock")).unwrap());
    eventually("it lets the first lock go", || {
        flock(&*other, FlockOperation::NonBlockingLockExclusive).is_ok()
    });
    flock(&*other, FlockOperation::Unlock).unwrap();
    fcntl_lock(&file, FlockOperation::Unlock).unwrap();
    waiter.join().unwrap().release().unwrap();
}

/// `flock` in the engine and the locks of `std::fs::File` exclude each other.
#[test]
fn the_locks_of_the_standard_library_are_excluded() {
    let dir = Dir::new();
    let options = Options::new().protocol(Protocol::Flock);
    let lock = Engine::new().open_with(dir.path("lock"), &options).unwrap();
    let file = File::options().read(true).write(true).open(lock.path());
    let file = file.unwrap();
    let guard = lock.acquire(EX, None).unwrap();
    assert!(file.try_lock_shared().is_err());
    guard.release().unwrap();
    let guard = lock.acquire(SH, None).unwrap();
    assert!(file.try_lock().is_err());
    file.try_lock_shared().unwrap();
    file.unlock().unwrap();
    guard.release().unwrap();
    file.try_lock().unwrap();
    assert!(lock.try_acquire(SH).unwrap().is_none());
    let waiter = {
        let lock = lock.clone();
        thread::spawn(move || lock.acquire(EX, STUCK).unwrap())
    };
    let task = lock.acquire_async(SH, STUCK);
    thread::sleep(QUIESCENT);
    file.unlock().unwrap();
    waiter.join().unwrap().release().unwrap();
    block_on(task).unwrap().release().unwrap();
    file.lock().unwrap();
    assert!(lock.acquire(EX, QUIESCENT).unwrap_err().is_timeout());
}

/// Neither joins the other, and neither contends in the kernel, which would not make them exclude each
/// other.
#[cfg(target_os = "linux")]
#[test]
fn readers_of_different_protocols_do_not_mix() {
    let dir = Dir::new();
    let engine = Engine::new();
    let open = |protocol| {
        let options = Options::new().protocol(protocol);
        engine.open_with(dir.path("lock"), &options).unwrap()
    };
    let (flock, native) = (open(Protocol::Flock), open(Protocol::Native));
    let guard = flock.acquire(SH, None).unwrap();
    let mut both = pending(&native, SH);
    thread::sleep(QUIESCENT);
    assert!(poll(&mut both).is_pending());
    guard.release().unwrap();
    let both = block_on(both).unwrap();
    // A lock that excludes more also serves a request that needs less.
    flock
        .acquire(SH, Duration::ZERO)
        .unwrap()
        .release()
        .unwrap();
    both.release().unwrap();
}
