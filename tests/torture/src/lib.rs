//! Proof under faults, and against attackers.
//!
//! A run goes through the [stages](stage::STAGES), each of which does something to locks many times
//! over, and counts how often a promise was broken. What is done by chance follows from a seed; a run
//! says its seed, and can be done again with it. What each participant asks for, in which order, follows
//! from the seed alone; who gets ahead of whom is up to the system and its load, and differs.

#[cfg(feature = "components")]
pub mod attacks;
pub mod cargo;
pub mod faults;
pub mod mutations;
pub mod stage;
mod stages;
pub mod stress;
