//! Files that guests have open in WASI 0.2 (guest `ranges`) and 0.3 (guest `lent`), and lock by their
//! descriptors.

use std::fs::{self, File};

use locket::Protocol;
use locket::sandbox::Limits;
use locket_tests::harness::{Guest, Host, State, component, eventually, runtime};
use locket_wasmtime::{LocketCtx, LocketCtxBuilder};
use wasmtime::Store;
use wasmtime_wasi::{FsPerms, WasiCtxBuilder};

use super::process;

/// A guest that may lock what it has open. No directory is granted for locks.
fn lends(host: &Host) -> LocketCtxBuilder {
    LocketCtx::builder(&host.locks).lock_open_files(true)
}

/// The same, and the guest may only read what is in the directory.
async fn reader(name: &str, host: &Host) -> Guest {
    let store = |wasi: &mut WasiCtxBuilder| {
        wasi.preopened_dir(host.dir.path(), "/locks", FsPerms::ReadOnly)
            .unwrap();
        let mut store = Store::new(runtime(), State::new(wasi.build(), lends(host).build()));
        store.set_epoch_deadline(1 << 60);
        store
    };
    Guest::start(component(name), store).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_right_to_an_open_file_is_the_right_to_its_lock() {
    let host = Host::new();
    fs::write(host.path("a"), "content").unwrap();
    let mut guest = host.guest("ranges", lends(&host).build()).await;
    assert_eq!(guest.err("open a /locks/a").await, "access-denied");
    guest.ok("lend r /locks/a read").await;
    guest.ok("lend w /locks/a write").await;
    guest.ok("lock r shared 0 10 0").await;
    // The owner is the guest, which may write the file, and has it open for that.
    guest.ok("lock w exclusive 5 10 0").await;
    let mut process = process(&host);
    assert_eq!(process.ask("get 0 0"), "held 0 5");
    assert_eq!(process.ask("try 12 1"), "held");
    assert_eq!(guest.err("lend d /locks/. directory").await, "invalid-path");
    guest.ok("drop w").await;
    guest.ok("drop r").await;
    assert_eq!(process.ask("try 0 0"), "ok");

    guest.ok("flock f /locks/a read exclusive").await;
    // Not by ranges, which the process has.
    let native = fs::File::open(host.path("a")).unwrap();
    let is_free = || native.try_lock_shared().is_ok();
    assert!(!is_free());
    guest.ok("drop f").await;
    eventually("it is free", is_free);

    // A guest that may only read the directory shares.
    process.kill();
    let mut guest = reader("ranges", &host).await;
    guest.ok("lend r /locks/a read").await;
    guest.ok("lock r shared 0 10 0").await;
    assert_eq!(guest.err("lock r exclusive 0 10 0").await, "access-denied");
    let refused = guest.err("flock f /locks/a read exclusive").await;
    assert_eq!(refused, "access-denied");
    assert_eq!(fs::read_to_string(host.path("a")).unwrap(), "content");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_open_in_wasi_0_3_excludes_processes_and_guests_of_0_2() {
    let host = Host::new();
    fs::write(host.path("a"), "content").unwrap();
    let mut three = host.guest("lent", lends(&host).build()).await;
    let mut two = host.guest("ranges", lends(&host).build()).await;
    let native = File::open(host.path("a")).unwrap();

    three.ok("lock l /locks/a write flock keep").await;
    three.ok("acquire l exclusive none").await;
    assert!(native.try_lock_shared().is_err());
    let refused = two.err("flock f /locks/a read shared").await;
    assert_eq!(refused, "would-block");
    three.ok("release l").await;
    two.ok("flock f /locks/a read exclusive").await;
    assert_eq!(three.err("acquire l shared 0").await, "would-block");
    three.wait("acquire l shared none").await;
    two.ok("drop f").await;
    assert_eq!(three.reply().await, "ok");
    native.try_lock_shared().unwrap();
    three.ok("release l").await;
    assert_eq!(three.err("acquire l exclusive 30").await, "timeout");
    three.wait("acquire l exclusive none").await;
    native.unlock().unwrap();
    assert_eq!(three.reply().await, "ok");
    assert!(native.try_lock_shared().is_err());
    three.ok("drop l").await;
    three.ok("release l").await;
    native.try_lock().unwrap();
    native.unlock().unwrap();

    // Both families of locks.
    let mut process = process(&host);
    three.ok("lock n /locks/a write native keep").await;
    three.ok("acquire n exclusive 0").await;
    assert!(native.try_lock_shared().is_err());
    assert_eq!(process.ask("try 0 1"), "held");
    three.kill().await;
    eventually("the lock is free", || native.try_lock().is_ok());
    assert_eq!(process.ask("try 0 1"), "ok");
    assert_eq!(fs::read_to_string(host.path("a")).unwrap(), "content");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ranges_of_a_file_open_in_wasi_0_3_exclude_processes_and_guests_of_0_2() {
    let host = Host::new();
    let mut three = host.guest("lent", lends(&host).build()).await;
    let mut two = host.guest("ranges", lends(&host).build()).await;
    three.ok("ranges r /locks/a write").await;
    two.ok("lend w /locks/a write").await;
    let mut process = process(&host);

    three.ok("lock-range r exclusive 0 100 0").await;
    assert_eq!(process.ask("try 99 5"), "held");
    assert_eq!(process.ask("get 50 0"), "held 0 100");
    assert_eq!(two.err("lock w shared 50 1 0").await, "would-block");
    two.wait("lock w exclusive 90 20 none").await;
    three.ok("unlock-range r 90 10").await;
    assert_eq!(two.reply().await, "ok");
    three.wait("lock-range r shared 100 5 none").await;
    two.ok("unlock w 90 20").await;
    assert_eq!(three.reply().await, "ok");
    process.send("lock 0 0");
    three.ok("unlock-range r 0 90").await;
    three.ok("drop r").await;
    assert_eq!(process.answer(), "ok");

    three.ok("ranges r /locks/a write").await;
    assert_eq!(three.err("lock-range r exclusive 7 1 30").await, "timeout");
    three.wait("lock-range r exclusive 7 1 none").await;
    process.kill();
    assert_eq!(three.reply().await, "ok");
    assert_eq!(two.ok("query w shared 0 0").await, "exclusive 7 1");
    three.kill().await;
    two.ok("lock w exclusive 0 0 none").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_open_in_wasi_0_3_has_the_rules_of_0_2() {
    let host = Host::new();
    fs::write(host.path("a"), "content").unwrap();
    let mut guest = reader("lent", &host).await;
    guest.ok("lock l /locks/a read flock keep").await;
    assert_eq!(guest.err("acquire l exclusive 0").await, "access-denied");
    guest.ok("acquire l shared 0").await;
    guest.ok("ranges r /locks/a read").await;
    let refused = guest.err("lock-range r exclusive 0 1 0").await;
    assert_eq!(refused, "access-denied");
    guest.ok("lock-range r shared 0 1 0").await;

    let mut guest = host.guest("lent", lends(&host).build()).await;
    for command in [
        "lock d /locks/. directory flock keep",
        "ranges d /locks/. directory",
    ] {
        assert_eq!(guest.err(command).await, "invalid-path", "{command}");
    }
    for command in [
        "lock l /locks/a write link keep",
        "lock l /locks/a write flock remove",
    ] {
        assert_eq!(guest.err(command).await, "not-supported", "{command}");
    }

    let fcntl = lends(&host).protocol(Protocol::Fcntl).protocols([]).build();
    let mut guest = host.guest("lent", fcntl).await;
    let refused = guest.err("lock l /locks/a write flock keep").await;
    assert_eq!(refused, "access-denied");
    guest.ok("lock l /locks/a write fcntl keep").await;

    // The grant of a directory is not that of the files in it.
    let mut guest = host.guest("lent", host.ctx().build()).await;
    for command in [
        "lock l /locks/a write flock keep",
        "ranges r /locks/a write",
    ] {
        assert_eq!(guest.err(command).await, "not-supported", "{command}");
    }

    let bounded = lends(&host).limits(Limits::new().handles(2)).build();
    let mut guest = host.guest("lent", bounded).await;
    guest.ok("lock l /locks/a write flock keep").await;
    guest.ok("ranges r /locks/a write").await;
    for command in [
        "lock m /locks/a write flock keep",
        "ranges s /locks/a write",
    ] {
        assert_eq!(guest.err(command).await, "limit-exceeded", "{command}");
    }
    guest.ok("drop l").await;
    guest.ok("ranges s /locks/a write").await;
    assert_eq!(fs::read_to_string(host.path("a")).unwrap(), "content");
}
