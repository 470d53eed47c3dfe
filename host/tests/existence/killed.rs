//! Holders that really die.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

use super::*;

/// Other tests start this process and kill it. It holds the lock that its environment names.
#[test]
#[ignore = "started by other tests"]
fn holder() {
    let Some(path) = std::env::var_os("HOLD_PATH") else {
        return;
    };
    let protocol = std::env::var("HOLD_PROTOCOL").unwrap().parse().unwrap();
    let options = Options::new().protocol(protocol);
    let options = options.database(std::env::var_os("HOLD_DATABASE").unwrap());
    let lock = Engine::new().open_with(path, &options).unwrap();
    let _guard = lock.acquire(EX, STUCK).unwrap();
    println!("HELD");
    let _ = std::io::stdin().read(&mut [0]);
}

/// A child that holds the lock. Killed when dropped.
struct Holder(Child);

impl Holder {
    fn start(dir: &Dir, protocol: Protocol) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "killed::holder", "--ignored", "--nocapture"])
            .env("HOLD_PATH", dir.path("lock"))
            .env("HOLD_PROTOCOL", protocol.name())
            .env("HOLD_DATABASE", dir.path("locks.db"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let held = lines
            .map_while(Result::ok)
            .any(|line| line.contains("HELD"));
        assert!(held, "the child does not hold the lock");
        Self(child)
    }

    fn kill(&mut self) {
        self.0.kill().unwrap();
    }

    fn reap(&mut self) {
        self.0.wait().unwrap();
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a test for every protocol in which a child can hold the lock and be proven dead.
fn each_holder(test: impl Fn(&Dir, &LockFile, Holder)) {
    let kernel = KERNEL.into_iter();
    for protocol in kernel.chain(with_full_records()).chain([Protocol::PidFile]) {
        if protocol == Protocol::PidFile && !sees_all_processes() {
            continue;
        }
        println!("protocol {protocol}");
        let dir = Dir::new();
        let holder = Holder::start(&dir, protocol);
        let lock = open(&dir, protocol);
        assert!(lock.try_acquire(EX).unwrap().is_none());
        if protocol.is_existence_lock() {
            assert_eq!(lock.holder().unwrap().unwrap().pid, Some(holder.0.id()));
        }
        test(&dir, &lock, holder);
        assert!(!lock.is_locked().unwrap());
        let left = fs::read_dir(dir.0.path()).unwrap().count();
        let expected = if protocol.is_existence_lock() {
            rest(protocol).len()
        } else {
            1
        };
        assert_eq!(left, expected, "something was left behind");
    }
}

#[test]
fn a_killed_holder_is_displaced_at_once() {
    each_holder(|_, lock, mut holder| {
        holder.kill();
        holder.reap();
        assert!(!lock.is_locked().unwrap());
        assert!(lock.release().unwrap_err().is_not_locked());
        lock.acquire(EX, Duration::ZERO).unwrap().release().unwrap();
    });
}

#[test]
fn waiters_notice_that_the_holder_was_killed() {
    each_holder(|_, lock, mut holder| {
        let task = pending(lock, EX);
        let waiter = {
            let lock = lock.clone();
            std::thread::spawn(move || lock.acquire(EX, STUCK).unwrap().release().unwrap())
        };
        // Its end makes no notice, and it keeps its number until its parent waits for it.
        holder.kill();
        block_on(task).unwrap().release().unwrap();
        waiter.join().unwrap();
    });
}

#[test]
fn the_lock_of_a_killed_holder_can_be_broken() {
    each_holder(|dir, lock, mut holder| {
        holder.kill();
        holder.reap();
        let protocol = lock.protocol();
        if !protocol.is_existence_lock() {
            assert!(lock.break_lock().unwrap_err().is_not_locked());
        } else if let Protocol::Sqlite | Protocol::PidFile = protocol {
            // Nothing shows which database it is in, and a file with a number in it may be anything.
            lock.break_lock().unwrap();
        } else {
            let broken = Engine::new().break_lock(dir.path("lock")).unwrap();
            assert_eq!(broken, protocol);
        }
    });
}

#[test]
fn a_stopped_holder_keeps_its_lock() {
    each_holder(|_, lock, mut holder| {
        let pid = rustix::process::Pid::from_child(&holder.0);
        rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
        assert!(lock.acquire(EX, QUIESCENT).unwrap_err().is_timeout());
        assert!(lock.is_locked().unwrap());
        holder.kill();
        holder.reap();
        lock.acquire(EX, Duration::ZERO).unwrap().release().unwrap();
    });
}
