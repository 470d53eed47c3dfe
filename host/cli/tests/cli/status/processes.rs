//! What is told of each holder and waiter.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use locket_test_support::not_tested;
use rustix::process::{Signal, geteuid};
use serde_json::{Value, json};

use super::{assert_holder, status, status_when, words};
use crate::support::{Dir, Holder, exec, locket};

/// The whole answer, as it is documented. What differs from run to run is checked and taken out.
#[test]
fn a_holder_and_a_waiter_have_exactly_the_documented_fields() {
    let dir = Dir::new();
    let lock = dir.path("lock");
    let holder = Holder::exec(&[], &lock);
    let mut waiter = locket(&["exec", lock.to_str().unwrap(), "--", "true"])
        .spawn()
        .unwrap();
    let mut status = status_when(&lock, |status| status["waiters"] != json!([]));
    assert_holder(&status, "exclusive", "native", holder.pid());
    assert!(words(&lock).contains("; 1 waiter"));
    for process in ["holders", "waiters"] {
        let process = &mut status[process][0];
        for field in ["command", "started"] {
            let value = process.as_object_mut().unwrap().remove(field);
            assert!(value.is_some(), "{field}");
        }
    }
    // It waits for one family after the other, and an open file description is no process.
    let waiting = &mut status["waiters"][0];
    let pid = waiting["pid"].take();
    assert!(pid.is_null() || pid == json!(waiter.id()), "{pid}");
    waiting["stopped"].take();
    let protocol = waiting["protocol"].take();
    assert!(protocol == json!("flock") || protocol == json!("fcntl"));
    let expected = json!({
        "path": lock, "path_bytes": null, "exists": true, "held": true, "unknown": null,
        "removable": null,
        "mode": "exclusive",
        "holders": [{
            "pid": holder.pid(), "stopped": false, "protocol": "native", "mode": "exclusive",
            "ranges": [], "acquired_by": null, "since": null, "host": null, "elsewhere": false,
        }],
        "waiters": [{ "pid": null, "stopped": null, "protocol": null, "mode": "exclusive" }],
    });
    assert_eq!(status, expected);
    holder.end();
    assert!(waiter.wait().unwrap().success());
}

/// The lock table names no process for it.
#[test]
fn a_waiter_for_an_open_file_description_lock_is_named() {
    if !geteuid().is_root() {
        return not_tested(format_args!(
            "only root may look at the calls of any process"
        ));
    }
    let dir = Dir::new();
    let lock = dir.path("lock");
    let options = ["--protocol", "fcntl"];
    let holder = Holder::exec(&options, &lock);
    let mut waiters = [(); 2].map(|()| exec(&options, &lock, &["true"]).spawn().unwrap());
    let expected: BTreeSet<_> = waiters
        .iter()
        .map(|waiter| u64::from(waiter.id()))
        .collect();
    status_when(&lock, |status| {
        let seen = status["waiters"].as_array().unwrap().iter();
        let seen: BTreeSet<_> = seen.filter_map(|waiter| waiter["pid"].as_u64()).collect();
        seen == expected
    });
    holder.end();
    for waiter in &mut waiters {
        assert!(waiter.wait().unwrap().success());
    }
}

/// Whether a time in an answer is one of this test.
fn is_recent(seconds: &Value) -> bool {
    let then = Duration::from_secs(seconds.as_u64().unwrap());
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.unwrap().abs_diff(then) < Duration::from_secs(600)
}

#[test]
fn a_process_is_shown_with_its_command_and_start() {
    let dir = Dir::new();
    let lock = dir.path("lock");
    let holder = Holder::exec(&[], &lock);
    let status = status(&lock);
    let row = &status["holders"][0];
    let command = row["command"].as_str().unwrap();
    assert!(command.ends_with("-- sh -c echo ready; cat"), "{status}");
    assert!(is_recent(&row["started"]), "{status}");
    let words = words(&lock);
    let start = format!("held exclusively by process {}, ", holder.pid());
    assert!(
        words.starts_with(&start) && words.contains("(native, process started "),
        "{words}"
    );
    holder.end();
    status_when(&lock, |status| status["held"] == json!(false));
}

#[test]
fn an_existence_lock_tells_since_when_it_is_held() {
    let dir = Dir::new();
    let lock = dir.path("lock");
    let holder = Holder::exec(&["--protocol", "link"], &lock);
    let status = status(&lock);
    assert!(is_recent(&status["holders"][0]["since"]), "{status}");
    let words = words(&lock);
    assert!(words.contains(" (link, held for "), "{words}");
    holder.end();
}

#[test]
fn a_process_with_several_ranges_is_shown_once() {
    let dir = Dir::new();
    let lock = dir.path("lock");
    let calls = "fcntl.lockf(f, fcntl.LOCK_EX, 11, 5)\nfcntl.lockf(f, fcntl.LOCK_SH, 1, 20)\n\
                 fcntl.lockf(f, fcntl.LOCK_SH, 0, 100)";
    let holder = Holder::python(calls, &lock);
    let status = status(&lock);
    assert_holder(&status, "exclusive", "fcntl", holder.pid());
    let ranges = json!([
        { "mode": "exclusive", "from": 5, "to": 15 },
        { "mode": "shared", "from": 20, "to": 20 },
        { "mode": "shared", "from": 100, "to": null },
    ]);
    assert_eq!(status["holders"][0]["ranges"], ranges);
    let words = words(&lock);
    assert!(words.starts_with("held by process "), "{words}");
    let expected = "(fcntl, bytes 5-15 exclusive, byte 20 shared, bytes from 100 shared, ";
    assert!(words.contains(expected), "{words}");
    holder.end();
}

#[test]
fn each_holder_is_shown_with_its_mode_if_they_differ() {
    let dir = Dir::new();
    let lock = dir.path("lock");
    let reader = Holder::python("fcntl.flock(f, fcntl.LOCK_SH)", &lock);
    let writer = Holder::python("fcntl.lockf(f, fcntl.LOCK_EX)", &lock);
    let words = words(&lock);
    assert!(words.starts_with("held by process "), "{words}");
    assert!(
        words.contains("(flock, shared, process started "),
        "{words}"
    );
    assert!(
        words.contains("(fcntl, exclusive, process started "),
        "{words}"
    );
    reader.end();
    writer.end();
}

#[test]
fn a_stopped_holder_is_shown_as_stopped() {
    let dir = Dir::new();
    let lock = dir.path("lock");
    let holder = Holder::exec(&[], &lock);
    holder.signal(Signal::STOP);
    status_when(&lock, |status| {
        status["holders"][0]["stopped"] == json!(true)
    });
    let expected = format!("process {} (stopped), ", holder.pid());
    assert!(words(&lock).contains(&expected));
    holder.signal(Signal::CONT);
    status_when(&lock, |status| {
        status["holders"][0]["stopped"] == json!(false)
    });
    holder.end();
}

#[test]
fn a_process_that_inherited_the_lock_is_named_if_the_holder_was_killed() {
    let dir = Dir::new();
    let lock = dir.path("lock");
    let holder = Holder::exec(&[], &lock);
    let killed = holder.pid();
    holder.signal(Signal::KILL);
    let (_, input) = holder.ended();
    let status = status(&lock);
    assert_eq!(status["mode"], json!("exclusive"));
    let holders = status["holders"].as_array().unwrap();
    assert!(!holders.is_empty());
    for holder in holders {
        assert_eq!(holder["protocol"], json!("native"), "{status}");
        assert_ne!(holder["pid"], json!(killed), "{status}");
        assert_eq!(holder["acquired_by"], json!(killed), "{status}");
        assert!(
            holder["command"].as_str().unwrap().contains("cat"),
            "{status}"
        );
    }
    let expected = format!(", acquired by process {killed}, process started ");
    assert!(words(&lock).contains(&expected));
    drop(input);
    status_when(&lock, |status| status["held"] == json!(false));
}

/// It lives, and so does one to which it passed the lock on.
#[test]
fn a_process_that_closed_its_descriptor_is_not_a_holder() {
    let dir = Dir::new();
    let lock = dir.path("lock");
    let call = "import subprocess\nfcntl.flock(f, fcntl.LOCK_EX)\n\
                heir = subprocess.Popen('cat', stdin=0, pass_fds=[f.fileno()])\nf.close()";
    let parent = Holder::python(call, &lock);
    let status = status(&lock);
    assert_eq!(status["held"], json!(true));
    let heir = &status["holders"][0];
    assert_eq!(heir["command"], json!("cat"), "{status}");
    assert_eq!(heir["acquired_by"], json!(parent.pid()), "{status}");
    parent.end();
    status_when(&lock, |status| status["held"] == json!(false));
}
