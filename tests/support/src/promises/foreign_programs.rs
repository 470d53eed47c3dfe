//! Programs that do not know Locket take part: those that lock with `flock(2)`, those that lock
//! with `fcntl(2)`, and in the protocol `native` both.

use std::fs;

use locket::Protocol;

use super::{took, was_at_once};
use crate::process::{Foreign, Process};
use crate::subject::{Stand, Subject};
use crate::waits::{QUIESCENT, eventually};

/// The promise.
pub fn is_kept(stand: &dyn Stand) {
    let functions: &[&str] = match stand.protocol() {
        Protocol::Flock => &["flock"],
        Protocol::Fcntl => &["lockf"],
        _ => &["flock", "lockf"],
    };
    let mut subject = stand.subject();
    let path = stand.site().lock_path();
    fs::hard_link(path, stand.site().dir.path("hard-link")).expect("a file can be linked");
    for function in functions {
        is_excluded_by_a_program(stand, &mut *subject, function);
        takes_turns_with_programs(stand, &mut *subject, function);
    }
}

fn is_excluded_by_a_program(stand: &dyn Stand, subject: &mut dyn Subject, function: &str) {
    let foreign = Foreign::hold(&stand.site().dir.path("hard-link"), function);
    assert_eq!(
        subject.err("acquire a exclusive 0"),
        "would-block",
        "{function}"
    );
    was_at_once(subject);
    assert_eq!(subject.err("acquire a exclusive 100"), "timeout");
    took(subject, 100);
    assert_eq!(subject.err("release a"), "not-owner");
    assert_eq!(subject.ok("is-locked a"), "true");
    assert_eq!(subject.ok("state a"), "Unlocked");
    let seen = subject.ok("holder a");
    assert!(seen.starts_with("mode=exclusive self=false"), "{seen}");
    foreign.release();
    subject.ok("acquire a exclusive 0");
    subject.ok("release a");
}

fn takes_turns_with_programs(stand: &dyn Stand, subject: &mut dyn Subject, function: &str) {
    let path = stand.site().lock_path();
    for acquire in stand.acquires() {
        for end in [Foreign::release as fn(Foreign), Foreign::kill] {
            let foreign = Foreign::hold(&path, function);
            subject.send(&format!("{acquire} a exclusive none"));
            eventually("it waits", || stand.waiting() == Some(1));
            end(foreign);
            assert_eq!(subject.answer(), "ok", "{function} {acquire}");
            let mut next = Process::python_lock(function, &path);
            assert_eq!(next.answer_within(QUIESCENT), None, "{function}");
            subject.ok("release a");
            assert_eq!(next.answer(), "ok");
            next.kill();
        }
    }
}
