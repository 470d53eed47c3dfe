//! Tests.

pub mod guests;
pub mod harness;
pub mod process;
