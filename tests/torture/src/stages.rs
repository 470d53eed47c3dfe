//! The stages, one file each.

pub(crate) mod errors;
pub(crate) mod fuzz;
pub(crate) mod hand_off;
pub(crate) mod interleavings;
pub(crate) mod killed;
pub(crate) mod kills_at_calls;
#[cfg(feature = "components")]
pub(crate) mod leaks;
pub(crate) mod mixed;
pub(crate) mod model;
pub(crate) mod stopped;
