//! Ranges of a file's bytes, locked by guests, beside native programs and one another.

mod descriptors;

use std::fs;
use std::time::Duration;

use locket::Mode;
use locket::sandbox::{Limits, Rights};
use locket_test_support::process::Process;
use locket_tests::harness::{
    Guest, Host, QUIESCENT, STUCK, component, eventually, linker, waiters,
};
use tokio::time::timeout;
use wasmtime_wasi::WasiCtx;
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;
use wasmtime_wasi::p3::bindings::Command;

/// A process with the classic locks of POSIX: locks, unlocks and asks as it is told.
const PROCESS: &str = r#"
import fcntl, os, struct, sys
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
print('ready', flush=True)
for line in sys.stdin:
    command, start, length = line.split()
    start, length = int(start), int(length)
    try:
        if command == 'get':
            lock = struct.pack('hhqqi', fcntl.F_WRLCK, 0, start, length, 0)
            kind, _, start, length, _ = struct.unpack('hhqqi', fcntl.fcntl(fd, fcntl.F_GETLK, lock))
            print('none' if kind == fcntl.F_UNLCK else f'held {start} {length}', flush=True)
            continue
        flags = {'lock': fcntl.LOCK_EX, 'try': fcntl.LOCK_EX | fcntl.LOCK_NB, 'unlock': fcntl.LOCK_UN}
        fcntl.lockf(fd, flags[command], length, start)
        print('ok', flush=True)
    except BlockingIOError:
        print('held', flush=True)
"#;

async fn guest(host: &Host) -> Guest {
    let mut guest = host.guest("ranges", host.ctx().build()).await;
    guest.ok("open a /locks/a").await;
    guest
}

fn process(host: &Host) -> Process {
    let mut process = Process::python(PROCESS, &host.path("a"));
    assert_eq!(process.answer(), "ready");
    process
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_and_a_process_exclude_each_other_range_by_range() {
    let host = Host::new();
    let mut guest = guest(&host).await;
    let mut process = process(&host);
    guest.ok("lock a exclusive 0 100 0").await;
    assert_eq!(process.ask("try 99 5"), "held");
    assert_eq!(process.ask("get 50 0"), "held 0 100");
    assert_eq!(process.ask("lock 100 50"), "ok");
    assert_eq!(guest.err("lock a shared 100 1 0").await, "would-block");
    assert_eq!(guest.ok("query a shared 0 0").await, "exclusive 100 50");
    guest.ok("lock a shared 20 10 0").await;
    assert_eq!(process.ask("get 0 0"), "held 0 20");
    guest.ok("unlock a 0 50").await;
    assert_eq!(process.ask("get 0 0"), "held 50 50");

    // Each waits for the other.
    guest.wait("lock a exclusive 120 100 none").await;
    assert_eq!(process.ask("unlock 100 50"), "ok");
    assert_eq!(guest.reply().await, "ok");
    process.send("lock 0 0");
    assert_eq!(process.answer_within(QUIESCENT), None);
    guest.ok("unlock a 50 0").await;
    assert_eq!(process.answer(), "ok");

    assert_eq!(guest.err("lock a exclusive 7 1 30").await, "timeout");
    // The system releases what a process that is killed holds.
    process.kill();
    guest.ok("lock a exclusive 0 0 0").await;
    let mut last = self::process(&host);
    assert_eq!(last.ask("try 5 1"), "held");
    guest.kill().await;
    eventually("the guest's ranges are free", || {
        last.ask("try 5 1") == "ok"
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guests_wait_for_one_another_and_notice_a_circle() {
    let host = Host::new();
    let ctx = host.ctx().build();
    let (mut one, mut two) = (guest(&host).await, host.guest("ranges", ctx.clone()).await);
    two.ok("open a /locks/a").await;
    one.ok("lock a exclusive 0 1 0").await;
    two.ok("lock a exclusive 1 1 0").await;
    two.wait("lock a exclusive 0 1 none").await;
    eventually("it is in the queue", || ctx.usage().waiters == 1);
    assert_eq!(one.err("lock a exclusive 1 1 none").await, "deadlock");
    assert_eq!(one.err("lock a exclusive 1 1 0").await, "would-block");
    one.ok("unlock a 0 1").await;
    assert_eq!(two.reply().await, "ok");
    // The same file twice is one owner.
    two.ok("open b /locks/a").await;
    two.ok("lock b shared 0 2 0").await;
    two.ok("drop a").await;
    assert_eq!(one.ok("query a exclusive 0 0").await, "shared 0 2");
    two.ok("drop b").await;
    assert_eq!(one.ok("query a exclusive 0 0").await, "none");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poll_waits_for_a_range() {
    let host = Host::new();
    let mut guest = guest(&host).await;
    let native = host.locks.open_ranges(host.path("a")).unwrap();
    native.lock(Mode::Exclusive, 0..10, None).unwrap();
    guest.ok("lock a shared 10 10 0").await;
    guest.ok("start p a exclusive 5 10 none").await;
    assert_eq!(guest.ok("finish p").await, "none");
    assert_eq!(guest.ok("wait p 20").await, "timer");
    guest.wait("wait p none").await;
    native.unlock(..).unwrap();
    assert_eq!(guest.reply().await, "ok ready");
    guest.ok("finish p").await;
    assert_eq!(guest.ok("finish p").await, "none");
    let held = native.query(Mode::Shared, ..).unwrap().unwrap();
    assert_eq!((held.mode, held.range), (Mode::Exclusive, (5..15).into()));

    // What is abandoned leaves what was there before.
    guest.ok("unlock a 0 0").await;
    native.lock(Mode::Exclusive, 0..10, None).unwrap();
    guest.ok("start p a exclusive 5 10 none").await;
    guest.ok("abandon p").await;
    native.unlock(..).unwrap();
    eventually("nothing is left", || {
        native.query(Mode::Exclusive, ..).unwrap().is_none()
    });
    guest.ok("start p a exclusive 5 10 0").await;
    assert_eq!(guest.ok("wait p none").await, "ready");
    guest.ok("finish p").await;

    // The wait is over, but nothing has looked at the answer.
    guest.ok("start p a exclusive 0 30 none").await;
    assert_eq!(guest.ok("wait p none").await, "ready");
    assert!(!native.try_lock(Mode::Shared, 20..21).unwrap());
    guest.ok("abandon p").await;
    let held = native.query(Mode::Shared, ..).unwrap().unwrap();
    assert_eq!((held.mode, held.range), (Mode::Exclusive, (5..15).into()));
    native
        .lock(Mode::Exclusive, 15..30, Duration::ZERO)
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_waits_for_a_range_while_others_run() {
    let host = Host::new();
    let native = host.locks.open_ranges(host.path("a")).unwrap();
    for (millis, expected) in [("20", "ok timer"), ("60000", "ok lock")] {
        native.lock(Mode::Exclusive, 10..11, None).unwrap();
        let stdout = MemoryOutputPipe::new(1 << 12);
        let mut wasi = WasiCtx::builder();
        let args = ["tasks", "range", "/locks/a", millis];
        wasi.inherit_stderr().stdout(stdout.clone()).args(&args);
        let ctx = host.ctx().build();
        let mut store = host.store_with(ctx.clone(), &mut wasi);
        let tasks = component("tasks");
        let command = Command::instantiate_async(&mut store, &tasks, linker());
        let command = command.await.unwrap();
        let guest = locket_wasmtime::p3::run_concurrent(&mut store, async |store| {
            command.wasi_cli_run().call_run(store).await
        });
        let release = async {
            if millis == "60000" {
                while ctx.usage().waiters == 0 {
                    tokio::task::yield_now().await;
                }
                native.unlock(..).unwrap();
            }
        };
        let (result, ()) = tokio::join!(timeout(STUCK, guest), release);
        result.unwrap().unwrap().unwrap().unwrap();
        let printed = String::from_utf8(stdout.contents().to_vec()).unwrap();
        assert_eq!(printed.trim_end(), expected);
        native.unlock(..).unwrap();
        drop(store);
        eventually("nothing is left", || {
            native.query(Mode::Exclusive, ..).unwrap().is_none()
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_million_small_ranges_are_bounded_and_the_ends_of_64_bits_refused() {
    let host = Host::new();
    let mut greedy = guest(&host).await;
    assert_eq!(greedy.ok("fill a 1000000").await, "1024 limit-exceeded");
    let mut other = guest(&host).await;
    other.ok("lock a exclusive 1 1 0").await;
    greedy.ok("drop a").await;
    other.ok("lock a exclusive 0 0 0").await;
    for (start, length) in [
        (u64::MAX, 1),
        (u64::MAX, u64::MAX),
        (1 << 63, 0),
        (i64::MAX.cast_unsigned(), 2),
        (0, u64::MAX),
    ] {
        let reason = other
            .err(&format!("lock a shared {start} {length} 0"))
            .await;
        assert_eq!(reason, "not-supported", "{start} {length}");
        let reason = other.err(&format!("unlock a {start} {length}")).await;
        assert_eq!(reason, "not-supported", "{start} {length}");
    }
    let end = i64::MAX;
    other.ok(&format!("lock a shared {end} 1 0")).await;
    other.ok(&format!("unlock a {end} 0")).await;

    let limits = Limits::new().ranges(2);
    let ctx = host.ctx().limits(limits).build();
    let mut bounded = host.guest("ranges", ctx).await;
    bounded.ok("open a /locks/a").await;
    other.ok("unlock a 0 0").await;
    assert_eq!(bounded.ok("fill a 10").await, "2 limit-exceeded");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn paths_of_ranges_are_those_of_locks() {
    let host = Host::new();
    fs::write(host.path("a"), "").unwrap();
    let dir = &host.dir;
    let ctx = locket_wasmtime::LocketCtx::builder(&host.locks);
    let ctx = ctx
        .grant_dir(dir, "/locks", Rights::READ_ONLY)
        .unwrap()
        .build();
    let mut guest = host.guest("ranges", ctx).await;
    assert_eq!(guest.err("open m /locks/missing").await, "no-entry");
    assert_eq!(guest.err("open m /locks/../a").await, "invalid-path");
    assert_eq!(guest.err("open m /etc/passwd").await, "access-denied");
    guest.ok("open a /locks/a").await;
    assert_eq!(guest.err("lock a exclusive 0 1 0").await, "access-denied");
    guest.ok("lock a shared 0 1 0").await;
    assert_eq!(waiters(&host.lock("a")), 0);
    let refused = host.lock("a").acquire(Mode::Exclusive, Duration::ZERO);
    assert!(refused.unwrap_err().is_would_block());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_have_the_locks_of_the_standard_library() {
    let host = Host::new();
    let native = fs::File::create(host.path("a")).unwrap();
    let (mut one, mut two) = (guest(&host).await, guest(&host).await);
    for guest in [&mut one, &mut two] {
        guest.ok("file f /locks/a").await;
    }
    one.ok("file-lock f exclusive").await;
    assert_eq!(two.err("file-try f shared").await, "fs WouldBlock");
    assert!(native.try_lock_shared().is_err());
    one.ok("file-lock f shared").await;
    two.ok("file-try f shared").await;
    native.try_lock_shared().unwrap();
    assert_eq!(one.err("file-try f exclusive").await, "fs WouldBlock");
    native.unlock().unwrap();
    two.ok("file-unlock f").await;
    two.ok("file-unlock f").await;
    one.ok("file-lock f exclusive").await;
    two.wait("file-lock f exclusive").await;
    one.ok("drop f").await;
    assert_eq!(two.reply().await, "ok");
    assert!(native.try_lock().is_err());

    // Two of one component exclude each other, and take nothing away from each other.
    two.ok("file g /locks/a").await;
    assert_eq!(two.err("file-try g exclusive").await, "fs WouldBlock");
    assert_eq!(two.err("file-lock g exclusive").await, "fs Deadlock");
    two.ok("file-unlock g").await;
    assert!(native.try_lock().is_err());
    two.ok("drop g").await;
    assert!(native.try_lock().is_err());
    two.ok("file-lock f shared").await;
    two.ok("file g /locks/a").await;
    two.ok("file-try g shared").await;
    two.ok("file-unlock f").await;
    assert!(native.try_lock().is_err());
    two.ok("file-unlock g").await;
    native.try_lock().unwrap();
}
