//! The stages, one file each.

pub(crate) mod fuzz;
pub(crate) mod interleavings;
pub(crate) mod model;
