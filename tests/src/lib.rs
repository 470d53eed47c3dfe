//! Tests.

pub mod guests;
