//! What the end-to-end tests share: guests in Wasmtime, native processes, foreign programs.

pub mod breaker;
pub mod harness;
/// Native processes, and waiting for them.
pub mod process {
    pub use locket_test_support::proc_locks::kernel_waiters;
    pub use locket_test_support::process::{PeerDir as Dir, Process, can_trace, peer, tool};
    pub use locket_test_support::waits::{QUIESCENT, STUCK, eventually};
}
pub mod stands;

pub use build_guests as guests;

#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
