//! The signal that interrupts a blocked thread, and programs that block or reset signals.
#![expect(unsafe_code, reason = "signals have no safe binding")]

use std::mem::MaybeUninit;
use std::ptr;

use super::*;

#[test]
#[cfg(target_os = "linux")]
fn the_signal_can_be_chosen_unless_it_is_taken() {
    use std::io::ErrorKind;
    let dir = Dir::new();
    let signal = libc::SIGUSR2;
    let lock = dir.lock(&Engine::builder().wake_signal(signal).unwrap().build());
    let holder = dir.lock(&Engine::new());
    let guard = holder.acquire(EX, None).unwrap();
    thread::scope(|scope| {
        let canceled = scope.spawn(|| lock.acquire(EX, STUCK));
        eventually("it waits", || kernel_waiters(lock.path()) == 1);
        let caught = || {
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            let mask = status
                .lines()
                .find_map(|l| l.strip_prefix("SigCgt:"))
                .unwrap();
            u64::from_str_radix(mask.trim(), 16).unwrap() & (1 << (signal - 1)) != 0
        };
        assert!(caught());
        lock.cancel_waits();
        assert!(canceled.join().unwrap().unwrap_err().is_canceled());
    });
    drop(guard);
    // The same signal twice is no conflict; these are.
    assert!(Engine::builder().wake_signal(signal).is_ok());
    let taken = |number| Engine::builder().wake_signal(number).unwrap_err().kind();
    assert_eq!(
        taken(libc::SIGSEGV),
        ErrorKind::AddrInUse,
        "the runtime handles stack overflows"
    );
    assert_eq!(taken(libc::SIGKILL), ErrorKind::InvalidInput);
    assert_eq!(taken(libc::SIGRTMIN() + 9), ErrorKind::InvalidInput);
    assert_eq!(taken(1000), ErrorKind::InvalidInput);
}

/// Blocks or unblocks a signal for this thread.
fn mask(how: i32, signal: i32) {
    // SAFETY: `set` is initialized before it is read.
    unsafe {
        let mut set = MaybeUninit::uninit();
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), signal);
        let done = libc::pthread_sigmask(how, set.as_ptr(), ptr::null_mut());
        assert_eq!(done, 0);
    }
}

fn is_blocked(signal: i32) -> bool {
    // SAFETY: `now` is initialized by a call that succeeds.
    unsafe {
        let mut now = MaybeUninit::uninit();
        let done = libc::pthread_sigmask(libc::SIG_BLOCK, ptr::null(), now.as_mut_ptr());
        assert_eq!(done, 0);
        libc::sigismember(now.as_ptr(), signal) == 1
    }
}

#[test]
fn the_signal_mask_of_a_thread_that_waited_is_as_it_was() {
    let dir = Dir::new();
    let signal = libc::SIGUSR1;
    let engine = Engine::builder().wake_signal(signal).unwrap().build();
    let lock = dir.lock(&engine);
    let holder = dir.lock(&Engine::new());
    for how in [libc::SIG_BLOCK, libc::SIG_UNBLOCK] {
        mask(how, signal);
        let before = is_blocked(signal);
        assert_eq!(before, how == libc::SIG_BLOCK);
        // A wait times out, is granted, or is canceled.
        for end in ["timeout", "grant", "cancel"] {
            let mut guard = Some(holder.acquire(EX, STUCK).unwrap());
            let timeout = match end {
                "timeout" => QUIESCENT,
                _ => STUCK,
            };
            let waited = thread::scope(|scope| {
                scope.spawn(|| {
                    if end == "timeout" {
                        return;
                    }
                    eventually("it waits", || kernel_waiters(&dir.path("lock")) > 0);
                    match end {
                        "grant" => drop(guard.take()),
                        _ => lock.cancel_waits(),
                    }
                });
                lock.acquire(EX, timeout).map(drop)
            });
            drop(guard);
            match end {
                "timeout" => assert!(waited.unwrap_err().is_timeout()),
                "grant" => waited.unwrap(),
                _ => assert!(waited.unwrap_err().is_canceled()),
            }
            assert_eq!(is_blocked(signal), before, "{end}");
        }
    }
}

/// A library may restore the default handler, with which the signal would end the process.
#[test]
fn a_handler_that_was_reset_between_two_waits_is_installed_anew() {
    let dir = Dir::new();
    // No other test of this process uses it.
    let signal = libc::SIGVTALRM;
    let engine = Engine::builder().wake_signal(signal).unwrap().build();
    let lock = dir.lock(&engine);
    let _held = dir.lock(&Engine::new()).acquire(EX, STUCK).unwrap();
    let reset = || {
        // SAFETY: all zeroes is a value: the default, with an empty mask.
        unsafe {
            let default: libc::sigaction = MaybeUninit::zeroed().assume_init();
            assert_eq!(libc::sigaction(signal, &default, ptr::null_mut()), 0);
        }
    };
    for _ in 0..3 {
        assert!(lock.acquire(EX, QUIESCENT).unwrap_err().is_timeout());
        reset();
    }
    // A helper thread waits on behalf of a task. It may get the signal only after the task has its
    // answer, so the handler is not reset any more.
    let waits = lock.acquire_async(EX, QUIESCENT);
    assert!(block_on(waits).unwrap_err().is_timeout());
}
