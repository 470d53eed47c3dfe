//! Attacks by an untrusted guest to which locks are granted. Each comes from a review, and the name of
//! each test is the claim that holds against it. `host/tests/safe_to_grant` has the attacks that need no
//! component.

mod created;
mod database;
mod files;
mod host;
mod quota;
mod takeover;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use locket::Engine;
use locket::sandbox::{Limits, Rights};
use locket_tests::harness::{Guest, Host};
use locket_wasmtime::LocketCtx;

/// Kernel locks, and removal on release.
const REMOVES: Rights = Rights::READ_WRITE.without(Rights::EXISTENCE);

/// A guest that knows the directory of `host` as `/locks`, with these rights.
async fn guest(host: &Host, engine: &Engine, rights: Rights) -> Guest {
    limited(host, engine, rights, Limits::new()).await
}

async fn limited(host: &Host, engine: &Engine, rights: Rights, limits: Limits) -> Guest {
    let ctx = LocketCtx::builder(engine).limits(limits);
    let ctx = ctx.grant_dir(&host.dir, "/locks", rights).unwrap();
    host.guest("remote", ctx.build()).await
}

/// What can be seen of everything below a directory: name, mode, number of names, time, content.
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
