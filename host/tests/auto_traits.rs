//! What may go to another thread, and what may be used by several.

use locket::{Acquire, Engine, Error, Guard, LockFile, Options};

fn is_send<T: Send>() {}
fn is_sync<T: Sync>() {}
fn is_unpin<T: Unpin>() {}
fn is_static<T: 'static>() {}

#[test]
fn locks_and_guards_go_to_other_threads() {
    is_send::<Engine>();
    is_sync::<Engine>();
    is_send::<LockFile>();
    is_sync::<LockFile>();
    is_send::<Guard>();
    is_sync::<Guard>();
    is_static::<Guard>();
    is_send::<Options>();
    is_send::<Error>();
    is_sync::<Error>();
}

#[test]
fn a_wait_can_be_polled_by_any_thread() {
    is_send::<Acquire>();
    is_unpin::<Acquire>();
    is_static::<Acquire>();
}

#[cfg(feature = "sandbox")]
#[test]
fn what_a_guest_has_goes_to_other_threads() {
    use locket::sandbox::{GuestAcquire, GuestGuard, GuestLock, Sandbox};

    is_send::<Sandbox>();
    is_sync::<Sandbox>();
    is_send::<GuestLock>();
    is_send::<GuestGuard>();
    is_send::<GuestAcquire>();
}
