//! The stages, one file each.

pub(crate) mod interleavings;
pub(crate) mod model;
