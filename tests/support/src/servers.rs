//! Lock servers that a test starts and stops: real ones, on free ports of the loopback interface.
//!
//! - [`etcd`]: a cluster of one member or more, and `etcdctl`, which locks, too.
//! - [`postgres`](mod@postgres): a PostgreSQL server, `psql`, which locks, too, and PgBouncer.
//! - [`clock`]: a wall clock that is set, for some programs alone.
//! - [`proxy`]: a connection that swallows answers, stalls, or breaks.

pub mod clock;
pub mod etcd;
pub mod postgres;
pub mod proxy;

use std::fmt::Display;
use std::net::TcpListener;
use std::ops::Range;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::PathBuf;
use std::process;
use std::sync::{Mutex, PoisonError};

use crate::not_tested;

/// A port that no program listens on, and that no other caller gets while this process lives: a server
/// may take it later, and again.
///
/// # Panics
///
/// If there is none.
pub fn free_port() -> u16 {
    // Below those that the system gives to clients.
    const PORTS: Range<u16> = 10_000..32_000;
    static RESERVED: Mutex<Vec<UnixListener>> = Mutex::new(Vec::new());
    let mut reserved = RESERVED.lock().unwrap_or_else(PoisonError::into_inner);
    let first = process::id() as usize * 61;
    let offsets = (0..PORTS.len()).map(|next| (first + next) % PORTS.len());
    let mut ports = offsets.filter_map(|offset| PORTS.clone().nth(offset));
    let port = ports.find(|port| {
        // A name without a file, which goes with the process, and counts where the port does.
        let name = SocketAddr::from_abstract_name(format!("locket-test-port-{port}"));
        let name = UnixListener::bind_addr(&name.expect("the name is short"));
        let Ok(name) = name else { return false };
        reserved.push(name);
        TcpListener::bind(("127.0.0.1", *port)).is_ok()
    });
    port.expect("a port is free")
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
