//! The contracts of the predecessors between processes, in every protocol: what `host/tests/contract.rs`
//! has under the same numbers for the threads of one, and what only processes can show.

use std::time::{Duration, Instant};

use locket::Protocol;
use locket_tests::process::{Dir, Process, QUIESCENT, STUCK, eventually, kernel_waiters};

/// Processes that lock one file in one protocol.
struct Site {
    dir: Dir,
    protocol: Protocol,
}

impl Site {
    fn peer(&self) -> Process {
        let database = self.dir.path().join("locks.db");
        self.dir.peer_with(&[
            "--protocol",
            self.protocol.name(),
            "--database",
            database.to_str().unwrap(),
        ])
    }

    /// Has a process wait for the lock, and returns when it does.
    fn wait(&self, peer: &mut Process, acquire: &str) {
        peer.send(acquire);
        if self.protocol.is_existence_lock() {
            // Nobody but itself knows that it waits.
            assert_eq!(peer.answer_within(QUIESCENT), None);
        } else {
            eventually("it waits", || kernel_waiters(&self.dir.lock()) == 1);
        }
    }
}

fn each_protocol(test: impl Fn(&Site)) {
    for &protocol in Protocol::ALL {
        println!("protocol {protocol}");
        let dir = Dir::new();
        if protocol.is_existence_lock() {
            // There may be no file while the lock is free.
            std::fs::remove_file(dir.lock()).unwrap();
        }
        test(&Site { dir, protocol });
    }
}

const ACQUIRES: [&str; 2] = ["acquire exclusive", "acquire-async exclusive"];

#[test]
fn pylockfile_02_03_acquire_timeout() {
    each_protocol(|site| {
        let (mut a, mut b) = (site.peer(), site.peer());
        assert_eq!(a.ask("acquire exclusive none"), "ok");
        for acquire in ACQUIRES {
            let start = Instant::now();
            assert_eq!(b.ask(&format!("{acquire} 100")), "err timeout");
            assert!(start.elapsed() >= Duration::from_millis(100));
        }
        assert_eq!(a.ask("state"), "ok Held");
    });
}

#[test]
fn pylockfile_05_release() {
    each_protocol(|site| {
        let (mut a, mut b) = (site.peer(), site.peer());
        assert_eq!(a.ask("release"), "err not-locked");
        assert_eq!(a.ask("acquire exclusive none"), "ok");
        assert_eq!(b.ask("release"), "err not-owner");
        assert_eq!(a.ask("release"), "ok");
        for peer in [&mut a, &mut b] {
            assert_eq!(peer.ask("is-locked"), "ok false");
            assert_eq!(peer.ask("state"), "ok Unlocked");
            assert_eq!(peer.ask("release"), "err not-locked");
        }
    });
}

#[test]
fn pylockfile_07_i_am_locking_and_others_see_it() {
    each_protocol(|site| {
        let (mut a, mut b) = (site.peer(), site.peer());
        assert_eq!(a.ask("acquire exclusive none"), "ok");
        assert_eq!(a.ask("holder"), format!("ok {} true", a.id()));
        assert_eq!(b.ask("is-locked"), "ok true");
        assert_eq!(b.ask("state"), "ok Unlocked");
        let seen = b.ask("holder");
        // The kernel does not tell whose its lock is.
        let known = format!("ok {} false", a.id());
        let unknown = !site.protocol.is_existence_lock() && seen == "ok unknown false";
        assert!(seen == known || unknown, "{seen}");
        assert_eq!(a.ask("release"), "ok");
        assert_eq!(b.ask("holder"), "ok none");
    });
}

/// There the first owner is told that it is not locked, and if another has locked it since, he
/// loses it.
#[test]
fn pylockfile_08_break_lock() {
    each_protocol(|site| {
        let (mut a, mut b, mut c) = (site.peer(), site.peer(), site.peer());
        assert_eq!(b.ask("break"), "err not-locked");
        assert_eq!(a.ask("acquire exclusive none"), "ok");
        if !site.protocol.is_existence_lock() {
            assert_eq!(b.ask("break"), "err unsupported");
            assert_eq!(a.ask("state"), "ok Held");
            return;
        }
        assert_eq!(b.ask("break"), "ok");
        assert_eq!(b.ask("is-locked"), "ok false");
        assert_eq!(c.ask("acquire exclusive 0"), "ok");
        eventually("the owner learns it", || {
            a.ask("state") == "ok Lost(Broken)"
        });
        assert_eq!(a.ask("release"), "err lost");
        assert_eq!(a.ask("release"), "err not-owner");
        assert_eq!(c.ask("state"), "ok Held");
        assert_eq!(c.ask("release"), "ok");
        assert_eq!(b.ask("is-locked"), "ok false");
    });
}

/// There the pid-file does not wait if there is no timeout; here it does.
#[test]
fn pylockfile_11_and_lock_file_02_03_one_try_and_waiting_for_ever() {
    each_protocol(|site| {
        for acquire in ACQUIRES {
            let (mut a, mut b) = (site.peer(), site.peer());
            assert_eq!(a.ask("acquire exclusive none"), "ok");
            assert_eq!(b.ask(&format!("{acquire} 0")), "err would-block");
            site.wait(&mut b, &format!("{acquire} none"));
            assert_eq!(a.ask("release"), "ok");
            assert_eq!(b.answer(), "ok");
            assert_eq!(a.ask("acquire exclusive 0"), "err would-block");
        }
    });
}

/// There a lock that is a name stays for ever when its holder is killed.
#[test]
fn lock_file_13_and_locket_py_13_a_killed_holder_frees_the_lock() {
    const INITIAL_NAMESPACE: &str = "pid:[4026531836]";
    let namespace = std::fs::read_link("/proc/self/ns/pid").unwrap();
    each_protocol(|site| {
        if site.protocol == Protocol::PidFile && namespace.as_os_str() != INITIAL_NAMESPACE {
            println!("NOT TESTED: in a container a number alone proves nobody dead");
            return;
        }
        for acquire in ACQUIRES {
            let (mut a, mut b) = (site.peer(), site.peer());
            assert_eq!(a.ask("acquire exclusive none"), "ok");
            site.wait(&mut b, &format!("{acquire} none"));
            assert_eq!(b.answer_within(QUIESCENT), None);
            a.kill();
            assert_eq!(b.answer_within(STUCK).as_deref(), Some("ok"));
            assert_eq!(b.ask("state"), "ok Held");
            // And one that asks only when it is dead.
            b.kill();
            assert_eq!(site.peer().ask("acquire exclusive 0"), "ok");
        }
    });
}

#[test]
fn locket_py_12_a_waiter_gets_it_as_soon_as_it_is_released() {
    each_protocol(|site| {
        for acquire in ACQUIRES {
            let (mut a, mut b) = (site.peer(), site.peer());
            assert_eq!(a.ask("acquire exclusive none"), "ok");
            site.wait(&mut b, &format!("{acquire} none"));
            assert_eq!(a.ask("state"), "ok Held");
            assert_eq!(a.ask("release"), "ok");
            assert_eq!(a.ask("state"), "ok Unlocked");
            assert_eq!(b.answer(), "ok");
            assert_eq!(b.ask("state"), "ok Held");
        }
    });
}

#[test]
fn locket_py_14_an_error_at_once_stays_one_when_the_lock_is_released() {
    each_protocol(|site| {
        let (mut a, mut b) = (site.peer(), site.peer());
        assert_eq!(a.ask("acquire exclusive none"), "ok");
        assert_eq!(b.ask("acquire exclusive 0"), "err would-block");
        assert_eq!(a.ask("release"), "ok");
        assert_eq!(b.ask("state"), "ok Unlocked");
        assert_eq!(a.ask("is-locked"), "ok false");
    });
}

#[test]
fn locket_py_15_an_error_after_the_timeout_and_the_holder_keeps_it() {
    each_protocol(|site| {
        let (mut a, mut b) = (site.peer(), site.peer());
        assert_eq!(a.ask("acquire exclusive none"), "ok");
        let start = Instant::now();
        b.send("acquire exclusive 500");
        assert_eq!(b.answer_within(Duration::from_millis(100)), None);
        assert_eq!(b.answer(), "err timeout");
        assert!(start.elapsed() >= Duration::from_millis(500));
        assert_eq!(a.ask("state"), "ok Held");
        assert_eq!(b.ask("state"), "ok Unlocked");
    });
}

#[test]
fn locket_py_16_a_waiter_with_a_timeout_gets_it_when_it_is_released() {
    each_protocol(|site| {
        for acquire in ACQUIRES {
            let (mut a, mut b) = (site.peer(), site.peer());
            assert_eq!(a.ask("acquire exclusive none"), "ok");
            site.wait(&mut b, &format!("{acquire} 60000"));
            assert_eq!(a.ask("release"), "ok");
            assert_eq!(b.answer(), "ok");
            assert_eq!(a.ask("is-locked"), "ok true");
        }
    });
}
