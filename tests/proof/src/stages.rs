//! The stages, one file each.

pub(crate) mod errors;
pub(crate) mod kills_at_calls;
