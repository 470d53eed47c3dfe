//! Calls for one lock, on a file system that stops: one that hangs with it does not hold up the others.

use locket::Guard;

use super::file_system::{Stand, stands};
use super::*;

type Call = fn(&LockFile) -> Option<Guard>;

/// Every way to acquire, each on a thread of its own.
const CALLS: [Call; 3] = [
    |lock| lock.try_acquire(EX).unwrap(),
    |lock| lock.acquire(EX, BRIEF).ok(),
    |lock| block_on(lock.acquire_async(EX, BRIEF)).ok(),
];

/// Runs `test` while a call hangs in the file system.
fn while_a_call_hangs(test: impl Fn(&LockFile)) {
    for call in CALLS {
        for mut stand in stands() {
            // The engine knows the file already.
            stand.lock.acquire(EX, STUCK).unwrap().release().unwrap();
            stand.files.stop();
            let lock = stand.lock.clone();
            let hangs = thread::spawn(move || call(&lock).map(Guard::release));
            fuse::hang(1);
            test(&stand.lock);
            let returned = stand.others_go_on();
            if let Some(released) = hangs.join().unwrap() {
                released.unwrap();
            }
            returned.proves_sound();
        }
    }
}

#[test]
fn a_task_times_out_while_another_acquire_hangs() {
    while_a_call_hangs(|lock| {
        let lock = lock.clone();
        must_end("the timeout of a task", move || {
            let late = block_on(lock.acquire_async(EX, BRIEF)).unwrap_err();
            assert!(late.is_timeout(), "{late}");
        });
    });
}

#[test]
fn a_future_is_dropped_while_another_acquire_hangs() {
    while_a_call_hangs(|lock| {
        let lock = lock.clone();
        must_end("the drop of a future", move || {
            let mut waits = lock.acquire_async(EX, None);
            assert!(poll(&mut waits).is_pending());
        });
    });
}

#[test]
fn waits_are_canceled_while_an_acquire_hangs() {
    while_a_call_hangs(|lock| {
        let lock = lock.clone();
        must_end("the cancellation", move || lock.cancel_waits());
    });
}

/// The waiter is in line before the calls that hang.
#[test]
fn a_waiter_in_line_times_out_while_acquires_hang() {
    for call in CALLS {
        for mut stand in stands() {
            let guard = stand.held_by_another();
            let waits = stand.waits(BRIEF);
            let lock = stand.lock.clone();
            stand.files.stop();
            let hangs = thread::spawn(move || call(&lock).map(Guard::release));
            must_end("the timeout", move || {
                let late = block_on(waits).unwrap_err();
                assert!(late.is_timeout(), "{late}");
            });
            end(stand, guard, hangs);
        }
    }
}

type Released = Option<locket::Result<()>>;

fn end(stand: Stand, guard: Guard, hangs: thread::JoinHandle<Released>) {
    let returned = stand.others_go_on();
    guard.release().unwrap();
    if let Some(released) = hangs.join().unwrap() {
        released.unwrap();
    }
    returned.proves_sound();
}
