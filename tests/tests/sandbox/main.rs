//! What guests can and cannot do to their host, to its files and to each other. Each mistake and each
//! attack ends in a typed error at once, changes nothing and reveals nothing. `host/tests/sandbox` has
//! the tests that need no component.

mod database;
mod deadlock;
mod descriptors;
mod durations;
mod exhaustion;
mod files;
mod limits;
mod losses;
mod paths;
mod pollables;
mod programs;
mod queues;
mod replacement;
mod rights;
mod secrets;
mod takeover;
mod trap_tree;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use locket::sandbox::{GuestLock, Limits, Rights, Sandbox};
use locket::{Engine, Mode, OnRelease};
use locket_tests::harness::{AT_ONCE, Guest, Host};
use locket_wasmtime::LocketCtx;

const EX: Mode = Mode::Exclusive;

/// The rights for kernel locks and removal on release.
const REMOVES: Rights = Rights::READ_WRITE.without(Rights::EXISTENCE);

/// A guest that knows the directory of `host` as `/locks`, with these rights.
async fn guest(host: &Host, engine: &Engine, rights: Rights) -> Guest {
    limited(host, engine, rights, Limits::new()).await
}

/// The same with limits.
async fn limited(host: &Host, engine: &Engine, rights: Rights, limits: Limits) -> Guest {
    let ctx = LocketCtx::builder(engine).limits(limits);
    let ctx = ctx.grant_dir(&host.dir, "/locks", rights).unwrap();
    host.guest("remote", ctx.build()).await
}

/// The settings of a guest with limits, to which the directory is granted.
fn ctx_with(host: &Host, limits: Limits) -> LocketCtx {
    host.ctx().limits(limits).build()
}

fn sandbox(host: &Host, rights: Rights, limits: Limits) -> Sandbox {
    let sandbox = Sandbox::builder(&host.locks).limits(limits);
    let sandbox = sandbox.grant_dir(&host.dir, "/locks", rights);
    sandbox.unwrap().build()
}

fn open(guest: &Sandbox, path: &str) -> GuestLock {
    guest.open(path, None, OnRelease::Keep).unwrap()
}

/// Gives a command that is refused. Returns the error, which comes at once and reveals nothing of the
/// host.
async fn refused(guest: &mut Guest, host: &Host, command: &str) -> String {
    let start = Instant::now();
    let reason = guest.err(command).await;
    let time = start.elapsed();
    let shown: String = command.chars().take(60).collect();
    println!("{time:>10.1?}  {shown}: {reason}");
    assert!(time < AT_ONCE, "{shown}: {time:?}");
    reveals_nothing(host, &reason);
    reason
}

/// Checks that a text reveals nothing of the host.
#[track_caller]
fn reveals_nothing(host: &Host, text: &str) {
    let dir = host.dir.path().to_str().unwrap();
    let pid = std::process::id().to_string();
    assert!(
        !text.contains(dir) && !text.contains(&pid) && !text.contains("os error"),
        "{text}"
    );
}

/// Everything below a directory: path, mode, number of names, time and content.
type Seen = Vec<(PathBuf, u32, u64, i64, i64, Vec<u8>)>;

fn snapshot(dir: &Path) -> Seen {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let seen = fs::symlink_metadata(&path).unwrap();
        let content = match seen.is_file() {
            true => fs::read(&path).unwrap(),
            false => Vec::new(),
        };
        let (secs, nanos) = (seen.mtime(), seen.mtime_nsec());
        if seen.is_dir() {
            all.extend(snapshot(&path));
        }
        all.push((path, seen.mode(), seen.nlink(), secs, nanos, content));
    }
    all.sort();
    all
}

/// Fails if anything below a directory has changed since, and names it.
#[track_caller]
fn assert_unchanged(dir: &Path, before: &Seen, what: &str) {
    let after = snapshot(dir);
    let is_new = |seen: &&_| !before.contains(seen);
    let is_gone = |seen: &&_| !after.contains(seen);
    let changed = after.iter().filter(is_new);
    let changed = changed.chain(before.iter().filter(is_gone));
    let changed: Vec<_> = changed.map(|(path, ..)| path).collect();
    assert!(changed.is_empty(), "{what}: {changed:?}");
}

/// The paths of everything below the directory of `host`, as guests know them.
fn names(host: &Host) -> Vec<String> {
    let below = |path: PathBuf| {
        let path = path.strip_prefix(host.dir.path()).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let all = snapshot(host.dir.path()).into_iter();
    all.map(|(path, ..)| below(path)).collect()
}

/// Runs a program without privileges.
const AS_NOBODY: [&str; 4] = [
    "setpriv",
    "--reuid=65534",
    "--regid=65534",
    "--clear-groups",
];

fn is_root() -> bool {
    fs::read_to_string("/proc/self/status")
        .unwrap()
        .contains("Uid:\t0\t0\t0\t0")
}

/// Runs a test of this program in a process of its own, through another program.
fn run_inner(name: &str, by: &[&str]) {
    let exe = std::env::current_exe().unwrap();
    let output = Command::new(by[0])
        .args(&by[1..])
        .arg(exe)
        .args([
            "--exact",
            name,
            "--ignored",
            "--nocapture",
            "--test-threads=1",
        ])
        .output()
        .unwrap();
    print!("{}", String::from_utf8_lossy(&output.stdout));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{by:?}: {}\n{stderr}",
        output.status
    );
    assert!(
        String::from_utf8_lossy(&output.stdout).contains("1 passed"),
        "{stderr}"
    );
}
