//! What the tests of the engine share.
#![allow(dead_code, unused_imports, reason = "each test binary uses its share")]

pub(crate) use locket_test_support::files::*;
pub(crate) use locket_test_support::not_tested;
#[cfg(target_os = "linux")]
pub(crate) use locket_test_support::proc_locks::*;
pub(crate) use locket_test_support::protocols::*;
pub(crate) use locket_test_support::waits::*;

/// A small pseudorandom number generator.
pub(crate) fn numbers(mut seed: u64) -> impl FnMut(u64) -> u64 {
    move |limit| {
        seed = seed
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (seed >> 33) % limit
    }
}
