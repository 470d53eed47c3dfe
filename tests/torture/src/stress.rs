//! Locks under load.
//!
//! A [crew](crew::Crew) of processes, whose workers follow a [plan](plan::Plan) and keep a
//! [journal](journal::Event) each. What each lock protects is an [object](object::Object) that two at
//! once would spoil. In the end it is all put together into a [history](history::History), which tells
//! exactly whether any two held a lock at once.

pub mod history;
pub mod journal;
mod lockers;
pub mod object;
pub mod plan;
pub mod process;
pub mod workers;
