//! Lock servers that a test starts and stops: real ones, on free ports of the loopback interface.
//!
//! - [`etcd`]: a cluster of one member or more, and `etcdctl`, which locks, too.
//! - [`postgres`](mod@postgres): a PostgreSQL server, `psql`, which locks, too, and PgBouncer.
//! - [`clock`]: a wall clock that is set, for PostgreSQL alone.
//! - [`proxy`]: a connection that swallows answers, stalls, or breaks.

pub mod clock;
pub mod etcd;
pub mod postgres;
pub mod proxy;

use std::fmt::Display;
use std::net::TcpListener;
use std::path::PathBuf;

use crate::not_tested;

/// A port that no program listens on, for now.
///
/// # Panics
///
/// If there is none.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port is free");
    let address = listener.local_addr();
    address.expect("a listener has an address").port()
}

/// Finds a program: in the folder that the environment variable `variable` names, in the folders of
/// cargo's target folder into which `tests/peers` installs such programs, and in the search path.
fn find(variable: &str, below_target: &[&str], program: &str) -> Option<PathBuf> {
    let named = std::env::var_os(variable).map(PathBuf::from);
    let tests = std::env::current_exe().unwrap_or_default();
    let installed = tests
        .ancestors()
        .flat_map(|folder| below_target.iter().map(|below| folder.join(below)));
    let path = std::env::var_os("PATH").unwrap_or_default();
    named
        .into_iter()
        .chain(installed)
        .chain(std::env::split_paths(&path))
        .map(|folder| folder.join(program))
        .find(|program| program.is_file())
}

/// Reports what cannot be tested without a program.
///
/// # Panics
///
/// In CI.
fn missing(what: impl Display, remedy: impl Display) {
    let ci = std::env::var_os("CI");
    assert!(ci.is_none(), "CI must have {what}: {remedy}");
    not_tested(format_args!("{what} is not installed: {remedy}"));
}
