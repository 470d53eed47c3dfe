//! The command-line tool `locket`, as users and scripts see it.

// On Linux, what only Linux shows, too.
#[cfg(target_os = "linux")]
mod break_lock;
#[cfg(target_os = "linux")]
mod check;
#[cfg(all(target_os = "linux", feature = "run"))]
mod componentize;
#[cfg(all(target_os = "linux", feature = "run"))]
mod demo;
mod every_system;
#[cfg(target_os = "linux")]
mod exec;
#[cfg(target_os = "linux")]
mod generate;
#[cfg(all(target_os = "linux", feature = "remote"))]
mod remote;
#[cfg(all(target_os = "linux", feature = "run"))]
mod run;
#[cfg(target_os = "linux")]
mod status;
#[cfg(target_os = "linux")]
mod support;
#[cfg(target_os = "linux")]
mod trace;
