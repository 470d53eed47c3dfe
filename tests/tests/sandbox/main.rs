//! What a guest can do wrong: each is a typed error at once, changes nothing, and tells nothing.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::task::{Context, Waker};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use locket::sandbox::{Limits, Rights, Sandbox};
use locket::{Engine, Mode, OnRelease, Protocol};
use locket_tests::harness::{
    AT_ONCE, Foreign, Guest, Host, component, descriptors, eventually, waiters,
};
use locket_wasmtime::LocketCtx;
use wasmtime_wasi::{FsPerms, WasiView};

const EX: Mode = Mode::Exclusive;

/// Asks for something wrong; the answer is the error, at once, and has nothing of the host in it.
async fn refused(guest: &mut Guest, host: &Host, command: &str) -> String {
    let start = Instant::now();
    let reason = guest.err(command).await;
    let time = start.elapsed();
    let shown: String = command.chars().take(60).collect();
    println!("{time:>10.1?}  {shown}: {reason}");
    assert!(time < Duration::from_secs(1), "{shown}: {time:?}");
    tells_nothing(host, &reason);
    reason
}

fn tells_nothing(host: &Host, text: &str) {
    let dir = host.dir.path().to_str().unwrap();
    let pid = std::process::id().to_string();
    assert!(
        !text.contains(dir) && !text.contains(&pid) && !text.contains("os error"),
        "{text}"
    );
}

/// Everything below a directory, with what is in it and when that changed.
fn snapshot(dir: &Path) -> Vec<(String, u64, SystemTime, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let metadata = fs::symlink_metadata(&path).unwrap();
        let content = if metadata.is_file() {
            fs::read(&path).unwrap()
        } else {
            Vec::new()
        };
        let name = path.to_str().unwrap().to_owned();
        all.push((name, metadata.len(), metadata.modified().unwrap(), content));
        if metadata.is_dir() {
            all.extend(snapshot(&path));
        }
    }
    all.sort();
    all
}

/// A directory with a grant, `in`, and much that a guest may stumble upon.
struct Maze {
    host: Host,
    outside: tempfile::TempDir,
    _socket: UnixListener,
}

fn maze() -> Maze {
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
    Maze {
        host,
        outside,
        _socket: socket,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_paths_are_refused_and_leave_no_trace() {
    let Maze { host, outside, .. } = &maze();
    let device = Command::new("mknod")
        .arg(host.path("device"))
        .args(["c", "1", "3"])
        .status();
    let device = device.unwrap().success();
    let mut guest = host.remote().await;
    let (before, beyond) = (snapshot(host.dir.path()), snapshot(outside.path()));
    let long = format!("/locks/{}", "x".repeat(64 << 10));
    let real = format!("{}/data", host.dir.path().display());
    let cases = [
        ("/locks/missing/a", "no-entry"),
        ("/locks/data/a", "no-entry"),
        ("/locks/dir", "invalid-path"),
        ("/locks/dir/deep", "invalid-path"),
        ("/locks", "invalid-path"),
        ("/locks/", "invalid-path"),
        ("/locks/.", "invalid-path"),
        ("/locks/dir/..", "invalid-path"),
        ("/locks/data/", "invalid-path"),
        ("/locks/data/.", "invalid-path"),
        ("/locks/missing/", "invalid-path"),
        ("/locks/fifo", "invalid-path"),
        ("/locks/socket", "invalid-path"),
        ("/locks/null", "invalid-path"),
        ("/locks/magic/0", "invalid-path"),
        ("/locks/loop", "invalid-path"),
        ("/locks/out-there", "invalid-path"),
        ("/locks/out-missing", "invalid-path"),
        ("/locks/out/there", "invalid-path"),
        ("/locks/out/missing", "invalid-path"),
        ("/locks/out/missing/deeper", "invalid-path"),
        ("/locks/up-there", "invalid-path"),
        ("/locks/../data", "invalid-path"),
        ("/locks/../locks/data", "invalid-path"),
        ("/locks/dir/../../data", "invalid-path"),
        ("/locks/../../../../../../etc/passwd", "invalid-path"),
        ("/locks/a%00b", "invalid-path"),
        ("%00", "invalid-path"),
        (&long, "invalid-path"),
        ("/etc/passwd", "access-denied"),
        ("/etc/missing", "access-denied"),
        ("/", "access-denied"),
        ("/..", "access-denied"),
        ("/locksmith/a", "access-denied"),
        ("/lock", "access-denied"),
        ("data", "access-denied"),
        ("../data", "access-denied"),
        (".", "access-denied"),
        (&real, "access-denied"),
        ("C:\\locks\\a", "access-denied"),
    ];
    for (path, reason) in cases {
        for how in ["keep", "remove"] {
            let command = format!("open x {path} {how}");
            let shown: String = path.chars().take(60).collect();
            assert_eq!(refused(&mut guest, host, &command).await, reason, "{shown}");
        }
    }
    if device {
        assert_eq!(
            refused(&mut guest, host, "open x /locks/device").await,
            "invalid-path"
        );
    } else {
        println!("SKIPPED: no permission to make a device node");
    }
    // There is no word for the empty path on the command line of the guest.
    let sandbox = sandbox(host, Rights::READ_WRITE, Limits::new());
    assert!(
        sandbox
            .open("", None, OnRelease::Keep)
            .unwrap_err()
            .is_invalid_path()
    );
    assert_eq!(snapshot(host.dir.path()), before);
    assert_eq!(snapshot(outside.path()), beyond);
    assert_eq!(descriptors(host.dir.path()), 0);
    drop(guest.end().await);
}

fn sandbox(host: &Host, rights: Rights, limits: Limits) -> Sandbox {
    let sandbox = Sandbox::builder(&host.locks).limits(limits);
    let sandbox = sandbox.grant_dir(&host.dir, "/locks", rights);
    sandbox.unwrap().build()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dangling_link_creates_nothing() {
    let Maze { host, .. } = &maze();
    let mut guest = host.remote().await;
    let reason = refused(&mut guest, host, "open x /locks/dangling").await;
    assert!(
        ["no-entry", "invalid-path", "io other"].contains(&&*reason),
        "{reason}"
    );
    assert!(!host.path("missing").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_within_the_grant_are_followed() {
    let Maze { host, .. } = &maze();
    let mut guest = host.remote().await;
    guest.ok("open a /locks/dir/data").await;
    guest.ok("acquire a exclusive 0").await;
    assert!(!host.is_free("data"));
    guest.ok("open b /locks/dir/deep/../../data").await;
    assert_eq!(guest.err("acquire b exclusive 0").await, "would-block");
    guest.ok("release b").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lock_changes_nothing_in_a_file() {
    let Maze { host, .. } = &maze();
    let before = snapshot(host.dir.path());
    let mut guest = host.remote().await;
    for (mode, protocol) in [
        ("exclusive", "native"),
        ("shared", "native"),
        ("exclusive", "flock"),
    ] {
        guest
            .ok(&format!("open a /locks/data keep {protocol}"))
            .await;
        guest.ok(&format!("acquire a {mode} 0")).await;
        guest.ok("release a").await;
        guest.ok("drop a").await;
    }
    drop(guest.end().await);
    assert_eq!(snapshot(host.dir.path()), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_granted_by_default() {
    let host = Host::new();
    let mut guest = host
        .guest("remote", LocketCtx::builder(&host.locks).build())
        .await;
    for path in ["/locks/a", "a", "/", ".", "/etc/passwd"] {
        let command = format!("open a {path}");
        assert_eq!(
            refused(&mut guest, &host, &command).await,
            "access-denied",
            "{path}"
        );
    }
    assert!(!host.path("a").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_longest_name_of_a_grant_counts() {
    let host = Host::new();
    for name in ["root", "dot", "data", "deep"] {
        fs::create_dir(host.path(name)).unwrap();
    }
    let ctx = LocketCtx::builder(&host.locks);
    let ctx = ctx
        .grant_dir(host.path("root"), "/", Rights::READ_WRITE)
        .unwrap();
    let ctx = ctx
        .grant_dir(host.path("dot"), ".", Rights::READ_WRITE)
        .unwrap();
    let ctx = ctx
        .grant_dir(host.path("data"), "/data", Rights::READ_WRITE)
        .unwrap();
    let ctx = ctx
        .grant_dir(host.path("deep"), "/data/deep/", Rights::READ_WRITE)
        .unwrap();
    let mut guest = host.guest("remote", ctx.build()).await;
    for (path, file) in [
        ("/a", "root/a"),
        ("b", "dot/b"),
        ("./c", "dot/c"),
        ("/data/d", "data/d"),
        ("data/e", "data/e"),
        ("/data/deep/f", "deep/f"),
        ("/datadeep", "root/datadeep"),
        ("//data///deep//./g", "deep/g"),
    ] {
        guest.ok(&format!("open a {path}")).await;
        assert!(host.path(file).exists(), "{path} is not {file}");
    }
    assert_eq!(guest.err("open a /data/deep/../h").await, "invalid-path");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rights_are_kept_to() {
    let host = Host::new();
    fs::write(host.path("old"), "").unwrap();
    let guest = |rights| {
        let ctx = LocketCtx::builder(&host.locks)
            .grant_dir(&host.dir, "/g", rights)
            .unwrap();
        host.guest("remote", ctx.build())
    };
    let mut reader = guest(Rights::READ_ONLY).await;
    assert_eq!(
        refused(&mut reader, &host, "open a /g/new").await,
        "no-entry"
    );
    assert_eq!(
        refused(&mut reader, &host, "open a /g/old remove").await,
        "access-denied"
    );
    reader.ok("open a /g/old").await;
    reader.ok("acquire a shared 0").await;
    assert_eq!(
        refused(&mut reader, &host, "acquire a exclusive 0").await,
        "access-denied"
    );
    assert_eq!(
        refused(&mut reader, &host, "acquire a exclusive none").await,
        "access-denied"
    );
    assert!(host.lock("old").try_acquire(EX).unwrap().is_none());

    let mut writer = guest(Rights::EXCLUSIVE).await;
    assert_eq!(
        refused(&mut writer, &host, "open a /g/new").await,
        "no-entry"
    );
    assert_eq!(
        refused(&mut writer, &host, "open a /g/old remove").await,
        "access-denied"
    );
    writer.ok("open a /g/old").await;
    assert_eq!(
        refused(&mut writer, &host, "acquire a shared 0").await,
        "access-denied"
    );
    assert_eq!(
        refused(&mut writer, &host, "acquire a exclusive 0").await,
        "would-block"
    );

    for rights in [Rights::NONE, Rights::CREATE, Rights::BREAK] {
        let mut nobody = guest(rights).await;
        for path in ["/g/old", "/g/new"] {
            let command = format!("open a {path}");
            assert_eq!(refused(&mut nobody, &host, &command).await, "access-denied");
        }
    }
    assert!(!host.path("new").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn preopens_are_taken_over_with_their_permissions() {
    let host = Host::new();
    fs::create_dir(host.path("rw")).unwrap();
    fs::create_dir(host.path("ro")).unwrap();
    fs::write(host.path("ro/old"), "").unwrap();
    let mut guest = Guest::start(component("remote"), |wasi| {
        wasi.preopened_dir(host.path("rw"), "/rw", FsPerms::ReadWrite)
            .unwrap();
        wasi.preopened_dir(host.path("ro"), "ro", FsPerms::ReadOnly)
            .unwrap();
        let mut store = host.store_with(LocketCtx::builder(&host.locks).build(), wasi);
        let mut ctx = LocketCtx::builder(&host.locks).build();
        ctx.grant_preopens(store.data_mut().ctx()).unwrap();
        store.data_mut().set_locket(ctx);
        assert_eq!(store.data_mut().resources(), 0);
        store
    })
    .await;
    // The same strings open the files and their locks.
    for path in ["/rw/a", "rw/b", "/rw/../rw/a"] {
        let opened = guest.ask(&format!("write {path} text")).await;
        let locked = guest.ask(&format!("open a {path}")).await;
        assert_eq!(
            opened.starts_with("ok"),
            locked.starts_with("ok"),
            "{path}: {opened}, {locked}"
        );
    }
    guest.ok("open a /rw/new").await;
    guest.ok("acquire a exclusive 0").await;
    for path in ["ro/old", "/ro/old"] {
        guest.ok(&format!("read {path}")).await;
        guest.ok(&format!("open a {path}")).await;
        guest.ok("acquire a shared 0").await;
        guest.ok("release a").await;
        assert_eq!(guest.err("acquire a exclusive 0").await, "access-denied");
    }
    assert_eq!(guest.err("open a ro/new").await, "no-entry");
    assert_eq!(guest.err("open a ro/old remove").await, "access-denied");
    assert!(host.path("ro/old").exists() && !host.path("ro/new").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_and_directories_that_may_only_be_read() {
    if rustix_is_root() {
        println!("SKIPPED: root may write everywhere; what follows runs as another user");
        run_inner(
            "inner_read_only",
            &[
                "setpriv",
                "--reuid=65534",
                "--regid=65534",
                "--clear-groups",
            ],
        );
    } else {
        read_only().await;
    }
}

fn rustix_is_root() -> bool {
    fs::read_to_string("/proc/self/status")
        .unwrap()
        .contains("Uid:\t0\t0\t0\t0")
}

async fn read_only() {
    let host = Host::new();
    fs::create_dir(host.path("dir")).unwrap();
    fs::write(host.path("dir/old"), "text").unwrap();
    fs::write(host.path("dir/secret"), "text").unwrap();
    fs::set_permissions(host.path("dir/old"), PermissionsExt::from_mode(0o444)).unwrap();
    fs::set_permissions(host.path("dir/secret"), PermissionsExt::from_mode(0o000)).unwrap();
    fs::set_permissions(host.path("dir"), PermissionsExt::from_mode(0o555)).unwrap();
    let mut guest = host.remote().await;
    assert_eq!(
        refused(&mut guest, &host, "open a /locks/dir/new").await,
        "access-denied"
    );
    assert_eq!(
        refused(&mut guest, &host, "open a /locks/dir/secret").await,
        "access-denied"
    );
    guest.ok("open a /locks/dir/old").await;
    guest.ok("acquire a shared 0").await;
    guest.ok("release a").await;
    assert_eq!(
        refused(&mut guest, &host, "acquire a exclusive 0").await,
        "access-denied"
    );
    guest.ok("open b /locks/dir/old keep flock").await;
    guest.ok("acquire b exclusive 0").await;
    fs::set_permissions(host.path("dir"), PermissionsExt::from_mode(0o755)).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by `files_and_directories_that_may_only_be_read` as another user"]
async fn inner_read_only() {
    assert!(!rustix_is_root());
    read_only().await;
}

/// Runs a test of this file in a process of its own, by way of another program.
fn run_inner(name: &str, by: &[&str]) {
    // A place that another user may read, too.
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

fn limited(host: &Host, limits: Limits) -> LocketCtx {
    host.ctx().limits(limits).build()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_quota_of_handles_is_kept_and_given_back() {
    let host = Host::new();
    let mut guest = host
        .guest("remote", limited(&host, Limits::new().handles(3)))
        .await;
    for name in 0..3 {
        guest.ok(&format!("open {name} /locks/a")).await;
    }
    assert_eq!(
        refused(&mut guest, &host, "open x /locks/new").await,
        "limit-exceeded"
    );
    assert!(!host.path("new").exists());
    // What failed to open counts not.
    assert_eq!(
        refused(&mut guest, &host, "open x /locks/none/a").await,
        "limit-exceeded"
    );
    guest.ok("drop 0").await;
    for _ in 0..3 {
        assert_eq!(
            refused(&mut guest, &host, "open x /locks/none/a").await,
            "no-entry"
        );
    }
    guest.ok("open x /locks/new").await;
    assert_eq!(
        refused(&mut guest, &host, "open y /locks/a").await,
        "limit-exceeded"
    );
    // One guest's quota is not another's.
    host.remote().await.ok("open a /locks/a").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_million_handles_are_64() {
    let host = Host::new();
    let mut guest = host.remote().await;
    for name in 0..64 {
        guest.ok(&format!("open {name} /locks/{name}")).await;
        guest.ok(&format!("leak {name}")).await;
    }
    let open = descriptors(host.dir.path());
    assert_eq!(open, 64);
    for _ in 0..100 {
        assert_eq!(guest.err("open x /locks/x").await, "limit-exceeded");
    }
    assert_eq!(descriptors(host.dir.path()), open);
    guest.kill().await;
    assert_eq!(descriptors(host.dir.path()), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_quota_of_holds_is_kept_and_given_back() {
    let host = Host::new();
    let limits = Limits::new()
        .held(2)
        .longest_hold(Some(Duration::from_millis(600)));
    let mut guest = host.guest("remote", limited(&host, limits)).await;
    for name in ["a", "b", "c"] {
        guest.ok(&format!("open {name} /locks/{name}")).await;
    }
    guest.ok("open again /locks/a").await;
    guest.ok("acquire a shared 0").await;
    guest.ok("acquire again shared 0").await;
    assert_eq!(
        refused(&mut guest, &host, "acquire b exclusive 0").await,
        "limit-exceeded"
    );
    assert_eq!(
        refused(&mut guest, &host, "acquire b exclusive none").await,
        "limit-exceeded"
    );
    assert!(host.is_free("b"));
    // Given back by a release through another handle, by a drop, and by the end of its time.
    guest.ok("release again").await;
    guest.ok("release again").await;
    assert!(host.is_free("a"));
    guest.ok("acquire b exclusive 0").await;
    guest.ok("acquire c exclusive 0").await;
    assert_eq!(
        refused(&mut guest, &host, "acquire a shared 0").await,
        "limit-exceeded"
    );
    guest.ok("drop b").await;
    guest.ok("acquire a shared 0").await;
    assert_eq!(
        refused(&mut guest, &host, "acquire again shared 0").await,
        "limit-exceeded"
    );
    let start = Instant::now();
    while guest.ask("state a").await != "ok lost expired" {
        assert!(start.elapsed() < AT_ONCE);
    }
    while guest.ask("state c").await != "ok lost expired" {
        assert!(start.elapsed() < AT_ONCE);
    }
    guest.ok("acquire a exclusive 0").await;
    assert_eq!(guest.err("release c").await, "lost expired");
    guest.ok("acquire c exclusive 0").await;
    assert_eq!(
        refused(&mut guest, &host, "acquire again shared 0").await,
        "limit-exceeded"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_quota_of_holds_is_kept_by_waits_that_began_within_it() {
    let host = Host::new();
    let guards = ["a", "b"].map(|name| host.lock(name).acquire(EX, None).unwrap());
    let mut guest = host
        .guest("poll", limited(&host, Limits::new().held(1)))
        .await;
    guest.ok("start a /locks/a exclusive none").await;
    guest.ok("start b /locks/b exclusive none").await;
    drop(guards);
    let mut answers = Vec::new();
    for name in ["a", "b"] {
        let start = Instant::now();
        let answer = loop {
            let answer = guest.ask(&format!("finish {name}")).await;
            if answer != "ok none" {
                break answer;
            }
            assert!(start.elapsed() < AT_ONCE);
        };
        answers.push(answer);
    }
    assert_eq!(
        answers,
        ["ok token=none valid-for=none", "err limit-exceeded"]
    );
    assert!(!host.is_free("a") && host.is_free("b"));
    guest.ok("release a").await;
    guest.ok("start c /locks/b exclusive none").await;
    guest.ok("finish c").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_lock_can_be_had_again_any_number_of_times() {
    let host = Host::new();
    let limits = Limits::new()
        .held(1)
        .longest_hold(Some(Duration::from_millis(15)));
    let mut guest = host.guest("remote", limited(&host, limits)).await;
    guest.ok("open a /locks/a").await;
    for _ in 0..20 {
        guest.ok("acquire a exclusive 2000").await;
        eventually("it expires", || host.is_free("a"));
    }
    assert_eq!(guest.ok("state a").await, "lost expired");
    assert_eq!(guest.err("release a").await, "lost expired");
    assert_eq!(guest.ok("state a").await, "unlocked");
    assert_eq!(guest.err("release a").await, "not-locked");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_quota_of_waiters_is_kept_and_given_back() {
    let host = Host::new();
    let guards = ["a", "b", "c"].map(|name| host.lock(name).acquire(EX, None).unwrap());
    let mut guest = host
        .guest("poll", limited(&host, Limits::new().waiters(2).handles(12)))
        .await;
    guest.ok("start a /locks/a exclusive none").await;
    guest.ok("start b /locks/b exclusive 60").await;
    guest.ok("start c /locks/c exclusive none").await;
    assert_eq!(
        refused(&mut guest, &host, "finish c").await,
        "limit-exceeded"
    );
    // A lock that is free needs no wait.
    guest.ok("start d /locks/d exclusive none").await;
    assert_eq!(guest.ok("finish d").await, "token=none valid-for=none");
    guest.ok("drop c").await;
    assert_eq!(guest.ok("wait none").await, "b");
    assert_eq!(refused(&mut guest, &host, "finish b").await, "timeout");
    guest.ok("start c /locks/c exclusive none").await;
    assert_eq!(guest.ok("finish c").await, "none");
    guest.ok("abandon a").await;
    guest.ok("drop b").await;
    guest.ok("start b /locks/b exclusive none").await;
    assert_eq!(guest.ok("finish b").await, "none");
    drop(guards);
    for name in ["b", "c"] {
        while guest.ok(&format!("finish {name}")).await == "none" {
            guest.ok("wait none").await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_longest_wait_ends_a_wait_with_an_error_of_its_own() {
    let host = Host::new();
    let _guard = host.lock("a").acquire(EX, None).unwrap();
    let limits = Limits::new().longest_wait(Some(Duration::from_millis(60)));
    let mut guest = host.guest("remote", limited(&host, limits)).await;
    guest.ok("open a /locks/a").await;
    assert_eq!(guest.err("acquire a exclusive 0").await, "would-block");
    assert_eq!(guest.err("acquire a exclusive 20").await, "timeout");
    assert_eq!(guest.err("acquire a exclusive none").await, "canceled");
    assert_eq!(guest.err("acquire a exclusive 60000").await, "canceled");
    let time: u64 = guest.ok("elapsed").await.parse().unwrap();
    assert!(
        (60..60 + AT_ONCE.as_millis() as u64).contains(&time),
        "{time}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_that_nobody_polls_ends_at_its_time() {
    let host = Host::new();
    let lock = host.lock("a");
    let guard = lock.acquire(EX, None).unwrap();
    let mut guest = host.guest("poll", host.ctx().build()).await;
    guest.ok("start a /locks/a exclusive 30").await;
    eventually("the wait ends", || waiters(&lock) == 0);
    drop(guard);
    assert!(host.is_free("a"));
    assert_eq!(guest.ok("wait none").await, "a");
    assert_eq!(guest.err("finish a").await, "timeout");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hold_that_nobody_looks_at_ends_at_its_time() {
    let host = Host::new();
    let limits = Limits::new().longest_hold(Some(Duration::from_millis(60)));
    let guard = host.lock("a").acquire(EX, None).unwrap();
    let mut guest = host.guest("poll", limited(&host, limits)).await;
    guest.ok("start a /locks/a exclusive none").await;
    drop(guard);
    assert!(!host.is_free("a"));
    eventually("the hold ends", || host.is_free("a"));
    // It was neither told of the grant nor of the loss.
    assert_eq!(guest.ok("wait none").await, "a");
    assert_eq!(guest.err("finish a").await, "canceled");
    guest.ok("drop a").await;
    guest.ok("start a /locks/a exclusive none").await;
    let granted = guest.ok("finish a").await;
    let valid: u64 = granted
        .strip_prefix("token=none valid-for=")
        .unwrap()
        .parse()
        .unwrap();
    assert!(valid <= 60, "{granted}");
}

#[test]
fn release_all_ends_waits_and_takes_holds_away() {
    let host = Host::new();
    let guest = sandbox(&host, Rights::READ_WRITE, Limits::new());
    let (a, b) = (open(&guest, "/locks/a"), open(&guest, "/locks/b"));
    let guard = host.lock("b").acquire(EX, None).unwrap();
    let hold = a.acquire(EX, None).unwrap();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| b.acquire(EX, None).unwrap_err());
        eventually("it waits", || waiters(&host.lock("b")) == 1);
        guest.release_all();
        assert!(waiting.join().unwrap().is_canceled());
    });
    assert!(host.is_free("a"));
    assert_eq!(a.state(), locket::State::Lost(locket::LostReason::Broken));
    assert!(hold.release().unwrap_err().is_lost());
    assert_eq!(a.state(), locket::State::Unlocked);
    guard.release().unwrap();
    let _both = (a.acquire(EX, None).unwrap(), b.acquire(EX, None).unwrap());
}

fn open(guest: &Sandbox, path: &str) -> locket::sandbox::GuestLock {
    guest.open(path, None, OnRelease::Keep).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_lock_is_lost_and_whoever_waited_has_it() {
    let host = Host::new();
    let mut holder = host.remote().await;
    let mut waiter = host.remote().await;
    let breaker = sandbox(&host, Rights::BREAK, Limits::new());
    let refusal = |path| breaker.break_lock(path).unwrap_err();
    assert!(refusal("/locks/a").is_not_locked() && !host.path("a").exists());
    assert!(refusal("/locks/missing/a").is_not_found());
    for guest in [&mut holder, &mut waiter] {
        guest.ok("open a /locks/a").await;
    }
    assert!(refusal("/locks/a").is_not_locked());
    assert!(refusal("/else/a").is_denied());
    holder.ok("acquire a exclusive 0").await;
    waiter.wait("acquire a exclusive none").await;
    let timid = sandbox(&host, Rights::READ_WRITE, Limits::new());
    assert!(timid.break_lock("/locks/a").unwrap_err().is_denied());
    breaker.break_lock("/locks/a").unwrap();
    assert!(waiter.reply().await.starts_with("ok"));
    assert_eq!(holder.ok("state a").await, "lost broken");
    assert_eq!(holder.err("release a").await, "lost broken");
    assert_eq!(holder.err("release a").await, "not-owner");
    waiter.ok("release a").await;
    let foreign = Foreign::hold(&host.path("a"), "flock");
    assert!(refusal("/locks/a").is_unsupported());
    foreign.release();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loss_is_told_to_whoever_polls_for_it() {
    let host = Host::new();
    let mut guest = host.guest("poll", host.ctx().build()).await;
    guest.ok("start a /locks/a exclusive none").await;
    guest.ok("finish a").await;
    guest.ok("lost l a").await;
    assert_eq!(guest.ok("wait 20").await, "timer");
    sandbox(&host, Rights::BREAK, Limits::new())
        .break_lock("/locks/a")
        .unwrap();
    assert_eq!(guest.ok("wait none").await, "l");
    assert_eq!(guest.ok("wait none").await, "l");
    assert_eq!(guest.ok("state a").await, "lost broken");
    assert_eq!(guest.err("release a").await, "lost broken");
    assert_eq!(guest.ok("wait 20").await, "timer");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_removed_or_replaced_while_it_is_held() {
    let host = Host::new();
    let (mut guest, mut other) = (host.remote().await, host.remote().await);
    for replace in [false, true] {
        guest.ok("open a /locks/a").await;
        guest.ok("acquire a exclusive 0").await;
        fs::remove_file(host.path("a")).unwrap();
        if replace {
            fs::write(host.path("a"), "new").unwrap();
        }
        // The file that is there now is another lock.
        other.ok("open a /locks/a").await;
        other.ok("acquire a exclusive none").await;
        assert_eq!(guest.err("release a").await, "lost broken");
        assert_eq!(guest.err("acquire a exclusive 0").await, "would-block");
        other.ok("release a").await;
        guest.ok("acquire a exclusive none").await;
        guest.ok("release a").await;
        if replace {
            assert_eq!(fs::read(host.path("a")).unwrap(), b"new");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_removed_or_replaced_while_it_is_awaited() {
    let host = Host::new();
    let mut guest = host.remote().await;
    guest.ok("open a /locks/a").await;
    for (foreign, replace) in [(false, false), (false, true), (true, false), (true, true)] {
        let lock = if foreign {
            host.foreign("a")
        } else {
            host.lock("a")
        };
        let guard = lock.acquire(EX, None).unwrap();
        guest.wait("acquire a exclusive none").await;
        fs::remove_file(host.path("a")).unwrap();
        if replace {
            fs::write(host.path("a"), "new").unwrap();
        }
        drop(guard);
        assert!(guest.reply().await.starts_with("ok"));
        assert!(
            host.path("a").exists() && !host.is_free("a"),
            "it is the file of that name"
        );
        guest.ok("release a").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_becomes_something_else_while_it_is_awaited() {
    let Maze { host, outside, .. } = &maze();
    let beyond = snapshot(outside.path());
    let mut guest = host.remote().await;
    for what in ["escape", "directory", "dangling escape", "no directory"] {
        fs::create_dir_all(host.path("w")).unwrap();
        guest.ok("open a /locks/w/a").await;
        let guard = host.lock("w/a").acquire(EX, None).unwrap();
        guest.wait("acquire a exclusive none").await;
        fs::remove_file(host.path("w/a")).unwrap();
        let expected = match what {
            "escape" => {
                symlink(outside.path().join("there"), host.path("w/a")).unwrap();
                "err invalid-path"
            }
            "dangling escape" => {
                symlink(outside.path().join("missing"), host.path("w/a")).unwrap();
                "err invalid-path"
            }
            "directory" => {
                fs::create_dir(host.path("w/a")).unwrap();
                "err invalid-path"
            }
            _ => {
                fs::remove_dir(host.path("w")).unwrap();
                "err no-entry"
            }
        };
        drop(guard);
        assert_eq!(guest.reply().await, expected, "{what}");
        let _ = fs::remove_dir_all(host.path("w"));
    }
    assert_eq!(snapshot(outside.path()), beyond);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_holder_is_never_told_by_number_or_path() {
    let host = Host::new();
    let mut guest = host.remote().await;
    guest.ok("open a /locks/a").await;
    let foreign = Foreign::hold(&host.path("a"), "lockf");
    for command in [
        "holder a",
        "state a",
        "guarantee a",
        "is-locked a",
        "path a",
        "release a",
        "acquire a exclusive 0",
    ] {
        tells_nothing(&host, &guest.ask(command).await);
    }
    foreign.release();
    for command in ["acquire a exclusive 0", "holder a", "state a", "release a"] {
        tells_nothing(&host, &guest.ask(command).await);
    }
}

#[test]
fn without_descriptors_a_guest_is_told_so() {
    run_inner(
        "inner_descriptors",
        &["sh", "-c", "ulimit -n 128; exec \"$@\"", "sh"],
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by `without_descriptors_a_guest_is_told_so` with a limit on descriptors"]
async fn inner_descriptors() {
    let host = Host::new();
    let mut guest = host.remote().await;
    guest.ok("open a /locks/a").await;
    let guard = host.lock("a").acquire(EX, None).unwrap();
    // Whatever the process opens on its first wait, it has opened.
    assert_eq!(guest.err("acquire a exclusive 20").await, "timeout");
    drop(guard);
    let mut files = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        files.push(file);
    }
    assert!(files.len() < 128);
    assert_eq!(
        refused(&mut guest, &host, "open b /locks/b").await,
        "io too-many-files"
    );
    assert!(!host.path("b").exists());
    // What is open can be used.
    guest.ok("acquire a exclusive none").await;
    guest.ok("release a").await;
    drop(files);
    guest.ok("open b /locks/b").await;
    guest.ok("acquire b exclusive 0").await;
}

#[test]
fn on_a_full_disk_a_guest_is_told_so() {
    let may = Command::new("unshare").args(["-m", "true"]).status();
    if !may.is_ok_and(|status| status.success()) {
        assert!(
            std::env::var_os("CI").is_none(),
            "CI may mount a file system, and must"
        );
        println!(
            "SKIPPED: no permission for a mount namespace; full and read-only disks are untested"
        );
        return;
    }
    run_inner("inner_full_disk", &["unshare", "-m"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by `on_a_full_disk_a_guest_is_told_so` in a mount namespace"]
async fn inner_full_disk() {
    let host = Host::new();
    let disk = host.path("disk");
    fs::create_dir(&disk).unwrap();
    let mount = |options: &str| {
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", options, "none"])
            .arg(&disk)
            .status()
            .unwrap()
            .success()
    };
    if !mount("size=4k,nr_inodes=3") {
        assert!(
            std::env::var_os("CI").is_none(),
            "CI may mount a file system, and must"
        );
        println!("SKIPPED: no permission to mount; full and read-only disks are untested");
        return;
    }
    fs::write(disk.join("old"), "").unwrap();
    let full = File::create(disk.join("full")).unwrap();
    while full
        .write_at(&[1; 4096], full.metadata().unwrap().len())
        .is_ok()
    {}
    drop(full);
    let mut guest = host.remote().await;
    assert_eq!(
        refused(&mut guest, &host, "open a /locks/disk/new").await,
        "io no-space"
    );
    guest.ok("open a /locks/disk/old").await;
    guest.ok("acquire a exclusive 0").await;
    guest.ok("release a").await;
    guest.ok("drop a").await;
    assert!(mount("remount,ro,size=4k"));
    assert_eq!(
        refused(&mut guest, &host, "open b /locks/disk/new").await,
        "io read-only"
    );
    guest.ok("open b /locks/disk/old").await;
    guest.ok("acquire b shared 0").await;
    drop(guest.end().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_of_its_own_is_another_host() {
    let host = Host::new();
    let mut guest = host.remote().await;
    guest.ok("open a /locks/a").await;
    guest.ok("acquire a exclusive 0").await;
    let other = LocketCtx::builder(&Engine::new());
    let other = other
        .grant_dir(&host.dir, "/locks", Rights::ALL)
        .unwrap()
        .build();
    let mut stranger = host.guest("remote", other).await;
    stranger.ok("open a /locks/a").await;
    assert_eq!(stranger.err("acquire a exclusive 0").await, "would-block");
    assert_eq!(
        stranger.ok("holder a").await,
        "label=none mode=exclusive self=false"
    );
    drop(guest.end().await);
    stranger.ok("acquire a exclusive none").await;
}

/// The check for deadlocks looks at each waiter once, and only where somebody could be waiting for
/// the guest that asks; guests cannot make it a burden.
#[test]
fn thousands_of_guests_wait_for_one_lock() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::new();
    let held = Engine::new().open(dir.path().join("lock")).unwrap();
    let held = held.acquire(EX, None).unwrap();
    let mut cx = Context::from_waker(Waker::noop());
    let guest = || {
        let guest = Sandbox::builder(&engine).protocol(Protocol::Flock);
        let guest = guest.grant_dir(dir.path(), "/l", Rights::ALL);
        guest.unwrap().build()
    };
    let open = |guest: &Sandbox, name: &str| {
        let path = format!("/l/{name}");
        guest.open(&path, None, OnRelease::Keep).unwrap()
    };
    // In line before all others, and goes on.
    let first = guest();
    let lock = open(&first, "lock");
    let mut ahead = Box::pin(lock.acquire_async(EX, None).unwrap());
    assert!(ahead.as_mut().poll(&mut cx).is_pending());
    let mut guests = Vec::new();
    for i in 0..5_000 {
        let guest = guest();
        // Some hold another lock, for which somebody may be waiting.
        let other = (i % 10 == 9).then(|| {
            let other = open(&guest, &i.to_string());
            other.acquire(EX, Duration::ZERO).unwrap()
        });
        let lock = open(&guest, "lock");
        let mut wait = Box::pin(lock.acquire_suspended(EX, None).unwrap());
        assert!(wait.as_mut().poll(&mut cx).is_pending());
        guests.push((guest, other, lock, wait));
    }
    // Held by the last of them, who cannot go on before the first is through.
    let circle = open(&first, "4999");
    let error = circle.acquire(EX, Duration::from_secs(60)).unwrap_err();
    assert!(error.is_deadlock(), "{error}");
    drop(guests);
    held.release().unwrap();
}
