//! The command-line tool `locket`, as users and scripts see it.

mod break_lock;
mod check;
mod componentize;
mod demo;
mod exec;
mod generate;
mod run;
mod status;
mod support;
mod trace;
