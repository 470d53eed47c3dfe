//! What the tests of the engine share.
#![allow(unused_imports, reason = "each test binary uses its share")]

pub(crate) use locket_test_support::files::*;
pub(crate) use locket_test_support::not_tested;
#[cfg(target_os = "linux")]
pub(crate) use locket_test_support::proc_locks::*;
pub(crate) use locket_test_support::protocols::*;
pub(crate) use locket_test_support::waits::*;
