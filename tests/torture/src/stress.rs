//! Locks under load.
//!
//! A [group](workers::WorkerGroup) of processes runs workers. Each worker follows a [plan](plan::Plan)
//! and keeps a [journal](journal::Event). Each lock protects an [object](object::Object) that two
//! holders at once would spoil. In the end the journals make up a [history](history::History), which
//! shows whether any two workers held a lock at once.

pub mod history;
pub mod journal;
mod lockers;
pub mod object;
pub mod plan;
pub mod process;
pub mod workers;
