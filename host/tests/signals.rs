//! The threads of the engine receive no signals of the program, from their first instruction on. One
//! that the program has blocked, in order to read it from a descriptor, would be lost in such a thread.
#![cfg(all(target_os = "linux", target_env = "gnu"))]

mod common;

use std::ffi::{c_int, c_void};
use std::mem::{MaybeUninit, transmute};
use std::ptr;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Waker};
use std::thread;

use common::*;
use locket::{Engine, Options, Protocol};

/// Of each new thread, whether it is born with the end of a child blocked. `None` before the test.
static BORN: Mutex<Option<Vec<bool>>> = Mutex::new(None);

type Start = extern "C" fn(*mut c_void) -> *mut c_void;

/// Replaces the function of the C library that the standard library starts threads by. A new thread
/// has the signal mask of the one that calls this.
#[unsafe(no_mangle)]
#[expect(unsafe_code, reason = "there is no other way to see a thread begin")]
extern "C" fn pthread_create(
    thread: *mut libc::pthread_t,
    attributes: *const libc::pthread_attr_t,
    start: Start,
    argument: *mut c_void,
) -> c_int {
    if let Some(born) = &mut *BORN.lock().unwrap_or_else(PoisonError::into_inner) {
        born.push(is_blocked(libc::SIGCHLD));
    }
    // SAFETY: the C library has a function of this name and type, and it gets what the caller passed.
    unsafe {
        let create = libc::dlsym(libc::RTLD_NEXT, c"pthread_create".as_ptr());
        let create: extern "C" fn(
            *mut libc::pthread_t,
            *const libc::pthread_attr_t,
            Start,
            *mut c_void,
        ) -> c_int = transmute(create);
        create(thread, attributes, start, argument)
    }
}

#[expect(unsafe_code, reason = "the mask has no safe binding here")]
fn is_blocked(signal: c_int) -> bool {
    // SAFETY: a success has written `mask`, and these arguments are valid.
    unsafe {
        let mut mask = MaybeUninit::uninit();
        let failed = libc::pthread_sigmask(libc::SIG_BLOCK, ptr::null(), mask.as_mut_ptr());
        failed == 0 && libc::sigismember(mask.as_ptr(), signal) == 1
    }
}

#[test]
fn threads_are_born_without_the_signals_of_the_program() {
    let dir = Dir::new();
    let (engine, other) = (Engine::new(), Engine::new());
    *BORN.lock().expect("no test has panicked") = Some(Vec::new());
    // Each waits by the threads that it needs: to wait in the kernel's queue, to keep time and to watch
    // a directory.
    for protocol in [Protocol::Native, Protocol::Soft] {
        let options = Options::new().protocol(protocol);
        let path = dir.path(&protocol.to_string());
        let open = |engine: &Engine| engine.open_with(&path, &options).expect("it can be opened");
        let guard = open(&other).acquire(EX, None).expect("it is free");
        let lock = open(&engine);
        let mut waits = Box::pin(lock.acquire_async(EX, STUCK));
        let mut context = Context::from_waker(Waker::noop());
        assert!(waits.as_mut().poll(&mut context).is_pending());
        eventually("the thread waits", || engine_threads() > 0);
        guard.release().expect("it is released");
        let granted = block_on(waits).expect("it is granted");
        granted.release().expect("it is released");
    }
    let born = BORN.lock().expect("no test has panicked").take();
    let born = born.expect("it was set");
    assert!(born.len() >= 3, "{born:?}");
    assert!(born.iter().all(|blocked| *blocked), "{born:?}");
    assert!(!is_blocked(libc::SIGCHLD), "the caller gets them again");
    let late = thread::spawn(|| is_blocked(libc::SIGCHLD));
    assert!(!late.join().expect("it does not panic"));
}
