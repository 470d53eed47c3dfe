//! Promise 7: A guard releases on every way out: return, error, panic, trap, dropped store, killed
//! process.

use crate::not_tested;
use crate::subject::{AnySubject, End, Stand};

/// The promise.
pub fn is_kept(stand: &dyn Stand) {
    a_guard_releases(stand);
    if is_dead_for_certain(stand) {
        the_end_of_a_holder_frees_the_lock(stand);
    }
}

fn a_guard_releases(stand: &dyn Stand) {
    let site = stand.site();
    let mut subject = stand.subject();
    for release in ["drop g", "unguard g"] {
        subject.ok("guard g a exclusive 0");
        assert!(!site.is_free());
        assert_eq!(subject.ok("state a"), "Held");
        subject.ok(release);
        assert_eq!(subject.ok("state a"), "Unlocked");
        assert!(site.is_free());
    }
}

fn the_end_of_a_holder_frees_the_lock(stand: &dyn Stand) {
    let mut waiter = stand.subject();
    let before = stand.site().dir.names();
    for way in stand.ends() {
        for acquire in stand.acquires() {
            let mut holder = stand.subject();
            holder.ok("acquire a exclusive 0");
            waiter.waits(&format!("{acquire} a exclusive none"));
            end(holder, way);
            assert_eq!(waiter.answer(), "ok", "{way:?}");
            assert_eq!(waiter.ok("state a"), "Held");
            waiter.ok("release a");
        }
        // And without a waiter.
        let mut holder = stand.subject();
        holder.ok("acquire a exclusive 0");
        end(holder, way);
        assert!(stand.site().is_free(), "{way:?}");
    }
    assert_eq!(stand.site().dir.names(), before, "nothing is left behind");
}

fn end(mut subject: AnySubject, way: End) {
    match way {
        End::Finish => subject.finish(),
        End::Kill => subject.kill(),
        End::Command(command) => {
            subject.send(command);
            subject.ended();
        }
    }
}

/// Whether a lock shows that its holder is dead: a pid file has a number only, which in a container
/// of Linux may be that of a process outside.
fn is_dead_for_certain(stand: &dyn Stand) -> bool {
    const INITIAL_NAMESPACE: &str = "pid:[4026531836]";
    let namespace = std::fs::read_link("/proc/self/ns/pid");
    let certain = cfg!(windows)
        || stand.protocol() != locket::Protocol::PidFile
        || namespace.is_ok_and(|namespace| namespace.as_os_str() == INITIAL_NAMESPACE);
    if !certain {
        not_tested(format_args!("in a container, no number proves a death"));
    }
    certain
}
