//! Torture tests: locks under load, faults and attacks, and mutation tests of the suite itself.
//!
//! A run goes through the [stages](stage::STAGES). Each does something to locks many times and counts
//! how often a promise was broken. All random choices follow from a seed, which a run prints and can be
//! repeated with. The seed decides what each worker asks for, and in which order; which worker gets
//! ahead of which is up to the system and its load.

#[cfg(feature = "components")]
pub mod attacks;
pub mod cargo;
pub mod faults;
pub mod mutations;
pub mod report;
pub mod stage;
mod stages;
pub mod stress;

#[cfg(feature = "servers")]
pub use stages::servers::worker::Role as ServerRole;
