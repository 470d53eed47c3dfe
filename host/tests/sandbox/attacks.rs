//! Attacks by an untrusted guest on its host and on other guests, as far as they need no component:
//! each comes from a review. `tests/tests/safe_to_grant` has the others.
#![cfg(all(target_os = "linux", feature = "sandbox"))]

mod busy;
#[path = "../common/mod.rs"]
mod common;
mod fork;
mod signals;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::*;
use locket::sandbox::{GuestLock, Limits, Rights, Sandbox};
use locket::{Engine, OnRelease, Protocol};

/// A guest with a name that knows `dir` as `/l`.
fn guest(engine: &Engine, dir: &Path, limits: Limits) -> Sandbox {
    let guest = Sandbox::builder(engine).label("guest").limits(limits);
    let guest = guest.grant_dir(dir, "/l", Rights::READ_WRITE);
    guest.unwrap().build()
}

fn open(guest: &Sandbox, name: &str, protocol: Protocol) -> GuestLock {
    let path = format!("/l/{name}");
    guest.open(&path, Some(protocol), OnRelease::Keep).unwrap()
}

/// Runs this program under `strace` in one of its roles, and returns its exit code; none if there is no
/// `strace`, which CI must have.
fn traced(options: &[&str], role: &str, dir: &Path) -> Option<i32> {
    let mut strace = Command::new("strace");
    strace
        .arg("-f")
        .args(options)
        .arg(std::env::current_exe().unwrap())
        .args(["as_another_process", "--exact", "--ignored", "--nocapture"])
        .env("ROLE", role)
        .env("FOLDER", dir)
        .stdin(Stdio::null());
    match strace.status() {
        Ok(status) => status.code(),
        Err(e) => {
            assert!(std::env::var_os("CI").is_none(), "CI must have strace: {e}");
            not_tested(format_args!("no strace here: {e}"));
            None
        }
    }
}

#[test]
#[ignore = "started by other tests"]
fn as_another_process() {
    let Ok(role) = std::env::var("ROLE") else {
        return;
    };
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL)).unwrap();
    let dir = PathBuf::from(std::env::var("FOLDER").unwrap());
    match role.as_str() {
        "wait beside a slow try" => busy::wait_beside_a_slow_try(&dir),
        "look" => busy::look(&dir),
        other => panic!("no such role: {other}"),
    }
}
