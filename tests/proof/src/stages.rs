//! The stages, one file each.

#[cfg(feature = "components")]
pub(crate) mod attackers;
#[cfg(feature = "components")]
pub(crate) mod leaks;
