//! Hostile guests and databases, and how to notice harm.

pub mod answer;
pub mod attacker;
pub mod call;
pub mod canary;
pub mod control_guest;
pub mod database;
pub mod enclosure;
pub mod secrets;
pub mod stop;
pub mod usage;
