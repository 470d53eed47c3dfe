//! A forked child shares the descriptors of its parent, and is refused.

use super::*;

#[test]
#[cfg(unix)]
#[expect(unsafe_code, reason = "fork has no safe binding")]
fn a_forked_child_cannot_touch_its_parents_locks() {
    let dir = Dir::new();
    let engine = Engine::new();
    let lock = dir.lock(&engine);
    let guard = lock.acquire(EX, None).unwrap();
    let mut waiting = pending(&lock, EX);
    // Granted, but the task has not been polled since.
    let other = engine.open(dir.path("other")).unwrap();
    let held = other.acquire(EX, None).unwrap();
    let granted = pending(&other, EX);
    held.release().unwrap();
    let free = engine.open(dir.path("free")).unwrap();
    // SAFETY: the child touches only what it inherited, and leaves by `_exit`.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let refused = lock.release().is_err()
            && lock.acquire(EX, Duration::ZERO).is_err()
            && free.acquire(EX, Duration::ZERO).is_err()
            && engine.open(dir.path("lock")).is_err()
            && matches!(poll(&mut waiting), Poll::Ready(Err(_)));
        lock.cancel_waits();
        drop((guard, waiting, granted));
        // SAFETY: ends the process.
        unsafe { libc::_exit(if refused { 0 } else { 1 }) };
    }
    let mut status = 0;
    // SAFETY: `status` is valid for writes.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert_eq!(status, 0, "the child was not refused");
    let foreign = Engine::new();
    assert!(dir.lock(&foreign).try_acquire(EX).unwrap().is_none());
    let foreign_other = foreign.open(dir.path("other")).unwrap();
    assert!(foreign_other.try_acquire(EX).unwrap().is_none());
    block_on(granted).unwrap().release().unwrap();
    guard.release().unwrap();
    block_on(waiting).unwrap().release().unwrap();
    assert!(dir.lock(&foreign).try_acquire(EX).unwrap().is_some());
}
