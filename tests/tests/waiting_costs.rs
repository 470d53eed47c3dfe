//! What locks cost between processes, with waiting and without: order, wake-ups, system calls.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use locket_tests::process::{Dir, Process, QUIESCENT, can_trace, eventually, kernel_waiters, peer};

/// For each thread of a process, whether it sleeps and how often it went to sleep. A higher count means
/// that it was woken meanwhile.
fn threads(process: &Process) -> BTreeMap<PathBuf, (bool, u64)> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", process.id())).unwrap();
    let threads = tasks.filter_map(|task| {
        let task = task.unwrap().path();
        // None if it has ended in the meantime.
        let status = std::fs::read_to_string(task.join("status")).ok()?;
        let value = |name| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap().trim()
        };
        let sleeps = value("voluntary_ctxt_switches:").parse().unwrap();
        Some((task, (value("State:").starts_with('S'), sleeps)))
    });
    threads.collect()
}

/// Fifty processes wait in every way. Each release wakes the one that came first, and no other.
#[test]
fn fifty_processes_are_served_in_the_order_of_arrival_with_one_wakeup_each() {
    let dir = Dir::new();
    let mut holder = dir.peer();
    assert_eq!(holder.ask("acquire exclusive none"), "ok");
    let mut queue: Vec<_> = (0..50).map(|_| dir.peer()).collect();
    let manners = [
        "acquire exclusive none",
        "acquire-async exclusive none",
        "acquire exclusive 60000",
        "acquire-async exclusive 60000",
    ];
    for (i, peer) in queue.iter_mut().enumerate() {
        // Started, and reading its input.
        assert_eq!(peer.ask("state"), "ok Unlocked");
        peer.send(manners[i % manners.len()]);
        eventually("the peer is in the queue", || {
            kernel_waiters(&dir.lock()) == i + 1
        });
    }
    // Wait until the other threads of the waiting processes sleep as well: if all are found asleep twice
    // and none was woken in between, none is left that could wake another.
    let mut before: Vec<_> = queue.iter().map(threads).collect();
    eventually("all sleep", || {
        let now: Vec<_> = queue.iter().map(threads).collect();
        let asleep = now.iter().flatten().all(|(_, (asleep, _))| *asleep);
        let before = std::mem::replace(&mut before, now.clone());
        asleep && before == now
    });
    assert_eq!(holder.ask("release"), "ok");
    for i in 0..queue.len() {
        assert_eq!(queue[i].answer(), "ok", "out of order");
        for (later, before) in queue[i + 1..].iter().zip(&before[i + 1..]) {
            assert_eq!(threads(later), *before, "woken before its turn");
        }
        assert_eq!(queue[i].ask("release"), "ok");
    }
}

/// Waiting does not poll: once it waits, a process makes no system call at all.
#[test]
fn waiting_makes_no_system_call() {
    if !can_trace() {
        return;
    }
    for acquire in ["acquire exclusive none", "acquire-async exclusive none"] {
        let dir = Dir::new();
        let trace = dir.path().join("trace");
        let mut holder = dir.peer();
        assert_eq!(holder.ask("acquire exclusive none"), "ok");
        let mut strace = Command::new("strace");
        strace.args(["-f", "-o"]).arg(&trace).arg(peer());
        let mut waiter = Process::spawn(strace.arg(dir.lock()));
        waiter.send(acquire);
        eventually("it waits", || kernel_waiters(&dir.lock()) == 1);
        let calls = || std::fs::read_to_string(&trace).unwrap().lines().count();
        // Wait until its other threads sleep as well.
        let mut before = calls();
        eventually("the waiter makes no system calls", || {
            let quiet = waiter.answer_within(QUIESCENT).is_none() && calls() == before;
            before = calls();
            quiet
        });
        assert_eq!(waiter.answer_within(Duration::from_millis(300)), None);
        assert_eq!(
            calls(),
            before,
            "{acquire}: {}",
            std::fs::read_to_string(&trace).unwrap()
        );
        assert_eq!(holder.ask("release"), "ok");
        assert_eq!(waiter.answer(), "ok");
        assert!(waiter.finish());
    }
}

/// A waiter for an existence lock does not look while the system reports whatever frees it.
#[test]
fn waiting_for_an_existence_lock_checks_nothing_that_is_reported() {
    /// How long it is watched.
    const WATCHED: Duration = Duration::from_secs(2);
    if !can_trace() {
        return;
    }
    for protocol in ["link", "mkdir"] {
        let dir = Dir::new();
        let trace = dir.path().join("trace");
        let mut holder = dir.peer_with(&["--protocol", protocol]);
        assert_eq!(holder.ask("acquire exclusive none"), "ok");
        let mut strace = Command::new("strace");
        strace.args(["-f", "-o"]).arg(&trace).arg(peer());
        strace.args(["--protocol", protocol]);
        let mut waiter = Process::spawn(strace.arg(dir.lock()));
        waiter.send("acquire exclusive none");
        let trace = || std::fs::read_to_string(&trace).unwrap_or_default();
        // It watches the directory and the end of the holder.
        eventually("it waits", || {
            trace().matches("inotify_add_watch").count() >= 3
        });
        let calls = || trace().lines().count();
        let mut before = calls();
        eventually("the waiter makes no system calls", || {
            let quiet = waiter.answer_within(QUIESCENT).is_none() && calls() == before;
            before = calls();
            quiet
        });
        assert_eq!(waiter.answer_within(WATCHED), None);
        assert_eq!(calls(), before, "{protocol}: {}", trace());
        assert_eq!(holder.ask("release"), "ok");
        assert_eq!(waiter.answer(), "ok");
        assert!(waiter.finish());
    }
}

/// The system calls of one round, between two answers of a traced peer.
fn calls(dir: &Dir, args: &[&str], round: &[&str]) -> BTreeMap<String, usize> {
    const ROUNDS: usize = 3;
    let trace = dir.path().join("trace");
    let mut strace = Command::new("strace");
    strace.arg("-o").arg(&trace).arg(peer()).arg(dir.lock());
    let mut peer = Process::spawn(strace.args(args));
    for _ in 0..ROUNDS {
        for command in round {
            assert_eq!(peer.ask(command), "ok");
        }
    }
    assert!(peer.finish());
    let trace = std::fs::read_to_string(&trace).unwrap();
    // With debug assertions the standard library checks that the descriptors it closes are open.
    let lines = trace.lines().filter(|line| !line.contains("F_GETFD"));
    let names = lines.filter_map(|line| line.split_once('('));
    let names: Vec<_> = names.map(|(name, _)| name).collect();
    // Each command ends with writing its answer; then the next one is read.
    let mut commands = names.split(|name| *name == "write").rev().skip(1);
    let mut last: Vec<_> = commands.by_ref().take(round.len()).collect();
    last.reverse();
    let mut count = BTreeMap::new();
    for name in last.into_iter().flatten().filter(|name| **name != "read") {
        *count.entry((*name).to_owned()).or_default() += 1;
    }
    count
}

/// Without contention there are no system calls but those that the guarantee needs.
#[test]
fn uncontended_calls_are_those_that_the_guarantee_needs() {
    if !can_trace() {
        return;
    }
    let dir = Dir::new();
    let handle = &["acquire exclusive none", "let-go"][..];
    let checked = &["acquire exclusive none", "release"][..];
    let tasks = &["acquire-async exclusive none", "let-go"][..];
    let path = &["by-path"][..];
    let (open, lock, check, named) = (3, [2, 4], 1, 1);
    let cases = [
        ("on a handle, without identity check", "--pinned", handle, 0),
        (
            "on a handle, as a task, without identity check",
            "--pinned",
            tasks,
            0,
        ),
        ("on a handle", "", handle, check),
        (
            "on a handle, with a checked release",
            "",
            checked,
            check + named,
        ),
        ("by path, without identity check", "--pinned", path, open),
        ("by path", "", path, open + check),
    ];
    for (protocol, lock) in ["flock", "native"].into_iter().zip(lock) {
        for (what, arg, round, more) in cases {
            let mut args = vec!["--protocol", protocol];
            args.extend(Some(arg).filter(|arg| !arg.is_empty()));
            let count = calls(&dir, &args, round);
            println!("{protocol}, {what}: {count:?}");
            assert_eq!(
                count.values().sum::<usize>(),
                lock + more,
                "{protocol}, {what}"
            );
        }
    }
}

/// Once the lock has two open files, one that holds and one that waits, they take turns. A contended
/// acquire opens nothing.
#[test]
fn a_contended_acquire_opens_no_file() {
    if !can_trace() {
        return;
    }
    let dir = Dir::new();
    let trace = dir.path().join("trace");
    let mut holder = dir.peer();
    let mut strace = Command::new("strace");
    strace.arg("-o").arg(&trace).arg(peer()).arg(dir.lock());
    let mut waiter = Process::spawn(strace.args(["--protocol", "flock"]));
    for _ in 0..3 {
        assert_eq!(holder.ask("acquire exclusive none"), "ok");
        waiter.send("acquire exclusive none");
        eventually("it waits", || kernel_waiters(&dir.lock()) == 1);
        assert_eq!(holder.ask("release"), "ok");
        assert_eq!(waiter.answer(), "ok");
        assert_eq!(waiter.ask("release"), "ok");
    }
    assert!(waiter.finish());
    let trace = std::fs::read_to_string(&trace).unwrap();
    let (_, last) = trace.rsplit_once("read(0, \"acquire").unwrap();
    let (last, _) = last.split_once("write(1").unwrap();
    let calls: Vec<_> = last
        .lines()
        .skip(1)
        .filter_map(|line| line.split_once('('))
        .map(|(name, _)| name)
        .collect();
    println!("{calls:?}");
    // Two tries, the second of which follows when it takes its place in the queue. These prepare the signal that would cancel the wait, and check the file that the path leads to.
    let known = [
        "flock",
        "flock",
        "rt_sigaction",
        "rt_sigprocmask",
        "gettid",
        "flock",
        "newfstatat",
    ];
    assert_eq!(calls, known);
}
