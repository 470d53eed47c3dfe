//! Other processes that hold, try and break locks: this program again, each time in a role.

use std::fs::{File, TryLockError};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::process::{Child, Command, Stdio};
use std::thread;

use super::*;

/// A command that runs this program in a role.
pub(crate) fn child(role: &str, protocol: Protocol, dir: &Path) -> Command {
    let mut child = Command::new(std::env::current_exe().unwrap());
    as_child(&mut child, role, protocol, dir);
    child
}

pub(crate) fn as_child(command: &mut Command, role: &str, protocol: Protocol, dir: &Path) {
    command
        .args([
            "processes::as_another_process",
            "--exact",
            "--ignored",
            "--nocapture",
        ])
        .env("ROLE", role)
        .env("PROTOCOL", protocol.name())
        .env("FOLDER", dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
}

#[test]
#[ignore = "started by other tests"]
fn as_another_process() {
    let Ok(role) = std::env::var("ROLE") else {
        return;
    };
    // Most roles do not end by themselves if the test that started them fails.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL)).unwrap();
    let protocol = std::env::var("PROTOCOL").unwrap().parse().unwrap();
    let dir = PathBuf::from(std::env::var("FOLDER").unwrap());
    match role.as_str() {
        "contend" => contend(protocol, &dir),
        "break" => break_by_hand(protocol, &dir),
        "die" => {
            std::mem::forget(open_at(&dir, protocol).acquire(EX, STUCK).unwrap());
            // No destructor runs, so the lock stays.
            std::process::exit(0);
        }
        "once" => open_at(&dir, protocol)
            .acquire(EX, STUCK)
            .unwrap()
            .release()
            .unwrap(),
        "hold" => {
            let guard = open_at(&dir, protocol).acquire(EX, STUCK).unwrap();
            fs::write(dir.join("held"), "").unwrap();
            eventually("the test ends", || dir.join("end").exists());
            guard.release().unwrap();
        }
        "wait" => {
            fs::write(dir.join("waiting"), "").unwrap();
            let guard = open_at(&dir, protocol).acquire(EX, STUCK).unwrap();
            fs::write(dir.join("granted"), "").unwrap();
            guard.release().unwrap();
        }
        "pass on" => {
            use std::os::fd::AsFd;
            let guard = open_at(&dir, protocol).acquire(EX, STUCK).unwrap();
            rustix::io::fcntl_setfd(guard.as_fd(), rustix::io::FdFlags::empty()).unwrap();
            // Also if the test fails, which removes the folder.
            let until_end =
                "until [ -e \"$FOLDER/end\" ] || ! [ -e \"$FOLDER\" ]; do sleep 0.01; done";
            let mut next = Command::new("sh");
            next.args(["-c", until_end]).spawn().unwrap();
            std::process::exit(0);
        }
        "give back" => {
            let guard = open_at(&dir, protocol).acquire(EX, STUCK).unwrap();
            let released = guard.release().map_err(|e| e.to_string());
            fs::write(dir.join("released"), format!("{released:?}")).unwrap();
        }
        "try" => {
            let free = open_at(&dir, protocol).try_acquire(EX).unwrap().is_some();
            fs::write(dir.join("free"), free.to_string()).unwrap();
        }
        "run out" => {
            let guard = open_at(&dir, protocol).acquire(EX, STUCK).unwrap();
            let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
            let none = rustix::process::Rlimit {
                current: Some(0),
                ..limit
            };
            rustix::process::setrlimit(rustix::process::Resource::Nofile, none).unwrap();
            let released = guard.release();
            rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
            released.unwrap();
        }
        other => panic!("no such role: {other}"),
    }
}

/// Acquires and releases on some threads until it is killed. A kernel lock that is held for as long
/// shows if there is another holder; if so, it leaves a trace.
fn contend(protocol: Protocol, dir: &Path) {
    /// More than the files that a process has open here.
    const HIGH: i32 = 500;
    let trace = |name: &str, what: String| fs::write(dir.join(name), what).unwrap();
    // The kernel lets go of the files of a process that dies in the reverse order of their numbers.
    // So the witnesses have higher ones than those of the locks.
    let witnesses = [(); 3].map(|()| {
        let witness = File::open(dir.join("witness")).unwrap();
        File::from(rustix::io::fcntl_dupfd_cloexec(witness, HIGH).unwrap())
    });
    thread::scope(|scope| {
        for witness in &witnesses {
            scope.spawn(|| {
                let lock = open_at(dir, protocol);
                loop {
                    let guard = match lock.acquire(EX, STUCK) {
                        Ok(guard) => guard,
                        Err(e) => return trace("failed", format!("{e:?}")),
                    };
                    assert!(guard.as_fd().as_raw_fd() < HIGH);
                    if let Err(TryLockError::WouldBlock) = witness.try_lock() {
                        trace("twice", format!("{lock:?}"));
                    }
                    let _ = fs::write(dir.join("granted"), "");
                    witness.unlock().unwrap();
                    if let Err(e) = guard.release() {
                        trace("failed", format!("{e:?}"));
                    }
                }
            });
        }
    });
}

fn break_by_hand(protocol: Protocol, dir: &Path) {
    let lock = open_at(dir, protocol);
    while !dir.join("end").exists() {
        match lock.break_lock() {
            Ok(()) => {}
            Err(e) if e.is_not_locked() => {}
            Err(e) => fs::write(dir.join("failed"), format!("{e:?}")).unwrap(),
        }
    }
}

/// A process that is killed when dropped.
pub(crate) struct Killed(pub(crate) Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[track_caller]
pub(crate) fn assert_no_trace(dir: &Dir) {
    for trace in ["twice", "failed"] {
        if let Ok(what) = fs::read_to_string(dir.path(trace)) {
            panic!("{trace}: {what}");
        }
    }
}

/// Leaves a lock of a dead holder behind.
pub(crate) fn leave_behind(protocol: Protocol, dir: &Dir) {
    assert!(
        child("die", protocol, dir.0.path())
            .status()
            .unwrap()
            .success()
    );
}
