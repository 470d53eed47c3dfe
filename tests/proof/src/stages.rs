//! The stages, one file each.

pub(crate) mod hand_off;
pub(crate) mod killed;
pub(crate) mod mixed;
pub(crate) mod stopped;
