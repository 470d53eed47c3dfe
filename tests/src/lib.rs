//! What the end-to-end tests share: guests in Wasmtime, native processes, foreign programs.

pub mod harness;
pub mod process;

pub use build_guests as guests;

#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
