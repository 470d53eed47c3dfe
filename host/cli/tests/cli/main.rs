//! The command-line tool `locket`, as users and scripts see it.

mod break_lock;
mod check;
#[cfg(feature = "run")]
mod componentize;
#[cfg(feature = "run")]
mod demo;
mod exec;
mod generate;
#[cfg(feature = "run")]
mod run;
mod status;
mod support;
mod trace;
