//! Guests that mean harm, and how to notice it.

pub mod attacker;
pub mod bystander;
pub mod canary;
pub mod secrets;
pub mod usage;
