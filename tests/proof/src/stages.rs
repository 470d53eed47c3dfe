//! The stages, one file each.

pub(crate) mod fuzz;
pub(crate) mod hand_off;
pub(crate) mod interleavings;
pub(crate) mod killed;
pub(crate) mod mixed;
pub(crate) mod model;
pub(crate) mod stopped;
