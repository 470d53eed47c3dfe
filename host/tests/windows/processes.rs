//! This program again, in a role.

use std::process::Command;

use locket_test_support::process::Process;

use super::*;

const TIMES: usize = 20;

pub(crate) fn child(role: &str, protocol: Protocol, dir: &Path) -> Process {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([
            "processes::as_another_process",
            "--exact",
            "--ignored",
            "--nocapture",
        ])
        .env("ROLE", role)
        .env("PROTOCOL", protocol.name())
        .env("FOLDER", dir);
    Process::spawn(&mut command)
}

/// Skips what the test harness prints.
fn answer(child: &mut Process) -> String {
    loop {
        // Others may have the lock again and again before it.
        let line = child.answer_within(5 * STUCK);
        let line = line.expect("the process answers");
        if let Some((_, answer)) = line.split_once("answer: ") {
            return answer.to_owned();
        }
    }
}

fn count(lock: &LockFile, dir: &Path) {
    let counter = dir.join("counter");
    for _ in 0..TIMES {
        // Between processes, existence locks are not fair.
        let guard = lock.acquire(EX, None).unwrap();
        let before: usize = fs::read_to_string(&counter).unwrap().parse().unwrap();
        fs::write(&counter, (before + 1).to_string()).unwrap();
        guard.release().unwrap();
    }
}

#[test]
#[ignore = "started by other tests"]
fn as_another_process() {
    let Ok(role) = std::env::var("ROLE") else {
        return;
    };
    let protocol = std::env::var("PROTOCOL").unwrap().parse().unwrap();
    let dir = std::env::var("FOLDER").unwrap();
    let dir = Path::new(&dir);
    match role.as_str() {
        "count" => {
            count(&open(dir, protocol), dir);
            println!("\nanswer: counted");
        }
        "hold" => {
            let guard = open(dir, protocol).acquire(EX, STUCK).unwrap();
            println!("\nanswer: held");
            std::io::stdin().read_line(&mut String::new()).unwrap();
            guard.release().unwrap();
        }
        "range" => {
            let ranges = Engine::new().open_ranges(dir.join("file")).unwrap();
            ranges.lock(EX, 10..20, STUCK).unwrap();
            println!("\nanswer: held");
            std::io::stdin().read_line(&mut String::new()).unwrap();
            ranges.unlock(10..20).unwrap();
            println!("\nanswer: free");
            std::io::stdin().read_line(&mut String::new()).unwrap();
        }
        role => panic!("no role {role}"),
    }
}

pub(crate) fn holder(role: &str, protocol: Protocol, dir: &Path) -> Process {
    let mut holder = child(role, protocol, dir);
    assert_eq!(answer(&mut holder), "held");
    holder
}

#[test]
fn processes_and_threads_count_in_turns() {
    for protocol in all() {
        let dir = Dir::new();
        fs::write(dir.path("counter"), "0").unwrap();
        let mut others = [(); 2].map(|()| child("count", protocol, dir.0.path()));
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| count(&open(dir.0.path(), protocol), dir.0.path()));
            }
        });
        for other in &mut others {
            assert_eq!(answer(other), "counted");
        }
        let total = fs::read_to_string(dir.path("counter")).unwrap();
        assert_eq!(total, (4 * TIMES).to_string(), "{protocol}");
    }
}

/// The process that started it still has a handle of it, which keeps its number in use.
#[test]
fn the_lock_of_a_killed_process_is_taken_over() {
    for protocol in all() {
        let dir = Dir::new();
        let mut holder = holder("hold", protocol, dir.0.path());
        let lock = open(dir.0.path(), protocol);
        assert!(lock.try_acquire(EX).unwrap().is_none(), "{protocol}");
        if protocol.is_existence_lock() {
            let found = lock.holder().unwrap().unwrap();
            assert_eq!(found.pid, Some(holder.id()), "{protocol}");
        }
        let waits = pending(&lock, EX);
        holder.kill();
        block_on(waits).unwrap().release().unwrap();
        lock.acquire(EX, Duration::ZERO).unwrap().release().unwrap();
        if protocol.is_existence_lock() && protocol != Protocol::Sqlite {
            assert!(dir.names().is_empty(), "{protocol}: {:?}", dir.names());
        }
    }
}

#[test]
fn a_range_of_a_killed_process_is_free() {
    let dir = Dir::new();
    let ranges = Engine::new().open_ranges(dir.path("file")).unwrap();
    let mut holder = holder("range", Protocol::Fcntl, dir.0.path());
    assert!(!ranges.try_lock(SH, 15..30).unwrap());
    assert!(ranges.try_lock(EX, 20..30).unwrap());
    holder.kill();
    ranges.lock(EX, 0..30, STUCK).unwrap();
    ranges.unlock(..).unwrap();

    let mut holder = self::holder("range", Protocol::Fcntl, dir.0.path());
    let wait = ranges.lock_async(SH, .., STUCK);
    let mut wait = std::pin::pin!(wait);
    assert!(poll(&mut wait).is_pending());
    holder.send("unlock");
    assert_eq!(answer(&mut holder), "free");
    block_on(wait).unwrap();
}
