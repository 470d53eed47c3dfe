//! What the engine adds to the promises. Each file is one subject.

mod acquire_all;
mod cancellation;
#[path = "../common/mod.rs"]
mod common;
mod fairness;
#[cfg(target_os = "linux")]
mod fencing;
#[cfg(unix)]
mod fork;
mod losses;
mod protocols;
mod removal;
mod replacement;
mod sharing;
mod shutdown;
#[cfg(target_os = "linux")]
mod signals;
mod snapshot;
mod wakers;

use std::task::Poll;
use std::thread;
use std::time::Duration;

use common::*;
use locket::{Engine, LockFile, Options, Protocol};
#[cfg(target_os = "linux")]
use rustix::fs::{FlockOperation, fcntl_lock, flock};

/// An engine that hands a lock on to its next waiter at once, however slowly this runs: no pause is
/// due, and no other engine is let in between.
fn that_hands_on() -> Engine {
    let builder = Engine::builder().hand_off(1000, STUCK);
    builder
        .fairness_pause(Duration::ZERO, Duration::ZERO)
        .build()
}

fn ready<F: Future<Output = locket::Result<T>> + Unpin, T>(future: &mut F) -> T {
    match poll(future) {
        Poll::Ready(result) => result.unwrap(),
        Poll::Pending => panic!("the wait is not over"),
    }
}
