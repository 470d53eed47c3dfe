//! A granted directory with much that a guest may stumble upon.

use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;

use super::*;

/// A directory that is granted, and one outside.
pub(crate) struct TrapTree {
    pub(crate) host: Host,
    pub(crate) outside: tempfile::TempDir,
    _socket: UnixListener,
}

pub(crate) fn trap_tree() -> TrapTree {
    let host = Host::new();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("there"), "outside").unwrap();
    fs::write(host.path("data"), "some bytes").unwrap();
    fs::create_dir(host.path("dir")).unwrap();
    fs::create_dir(host.path("dir/deep")).unwrap();
    symlink(outside.path().join("there"), host.path("out-there")).unwrap();
    symlink(outside.path().join("missing"), host.path("out-missing")).unwrap();
    symlink(outside.path(), host.path("out")).unwrap();
    symlink("../../../../../../../../etc/passwd", host.path("up-there")).unwrap();
    symlink("missing", host.path("dangling")).unwrap();
    symlink("loop", host.path("loop")).unwrap();
    symlink("../data", host.path("dir/data")).unwrap();
    symlink("/dev/null", host.path("null")).unwrap();
    symlink("/proc/self/fd", host.path("magic")).unwrap();
    let fifo = Command::new("mkfifo")
        .arg(host.path("fifo"))
        .status()
        .unwrap();
    assert!(fifo.success());
    let socket = UnixListener::bind(host.path("socket")).unwrap();
    TrapTree {
        host,
        outside,
        _socket: socket,
    }
}
