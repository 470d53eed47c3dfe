//! Proof under faults, and against attackers.
//!
//! A run goes through the [stages](stage::STAGES), each of which does something to locks many times over, and
//! counts how often a promise was broken. What is done by chance follows from a seed; a run says its
//! seed, and can be done again with it. What each participant asks for, in which order, follows from the
//! seed alone; who gets ahead of whom is up to the system and its load, and differs.
//!
//! The stages that put locks under load have a [crew](crew::Crew) of processes, whose workers follow a
//! [plan](plan::Plan) and keep a [journal](journal::Event) each. What each lock protects is an
//! [object](object::Object) that two at once would spoil. In the end it is all put together into a
//! [history](history::History), which tells exactly whether any two held a lock at once.

#[cfg(feature = "components")]
pub mod attacker;
#[cfg(feature = "components")]
pub mod bystander;
#[cfg(feature = "components")]
pub mod canary;
pub mod cargo;
pub mod crew;
#[cfg(feature = "components")]
mod guest;
pub mod history;
pub mod journal;
pub mod judge;
pub mod mutations;
pub mod object;
pub mod participant;
pub mod plan;
pub mod scene;
#[cfg(feature = "components")]
pub mod secrets;
pub mod stage;
mod stages;
pub mod strace;
pub mod sweep;
pub mod usage;
pub mod victim;
