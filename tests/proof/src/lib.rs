//! Proof under faults, and against attackers.
//!
//! A run goes through the [stages](stage::STAGES), each of which does something to locks many times over, and
//! counts how often a promise was broken. What is done by chance follows from a seed; a run says its
//! seed, and can be done again with it.

pub mod judge;
pub mod scene;
pub mod stage;
mod stages;
pub mod strace;
pub mod sweep;
pub mod victim;
