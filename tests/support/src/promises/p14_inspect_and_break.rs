//! Promise 14: Anyone can ask whether a lock is held, who holds it, and what it guarantees. A lock can
//! be broken: its holder learns it, and the next holder's lock is safe from it. The kernel lock of
//! another process cannot be broken.

use crate::subject::{Stand, Subject};
use crate::waits::eventually;

/// The promise.
pub fn is_kept(stand: &dyn Stand) {
    everyone_sees_who_holds_the_lock(stand);
    if stand.is_kernel_lock() {
        and_in_which_mode(stand);
    }
    a_broken_lock_is_lost(stand);
    if !stand.is_kernel_lock() {
        // Now the other way round, if the subjects differ in kind: each time there are three.
        a_broken_lock_is_lost(stand);
    }
}

fn everyone_sees_who_holds_the_lock(stand: &dyn Stand) {
    let (mut holder, mut other) = (stand.subject(), stand.subject());
    holder.ok(&stand.open_as("again", "./lock"));
    assert_eq!(other.ok("holder a"), "none");
    assert_eq!(other.ok("is-locked a"), "false");
    for _ in 0..2 {
        holder.ok("acquire a exclusive none");
        for handle in ["a", "again"] {
            assert_eq!(holder.ok(&format!("is-locked {handle}")), "true");
            assert_eq!(holder.ok(&format!("state {handle}")), "Held");
            let seen = holder.ok(&format!("holder {handle}"));
            assert!(seen.starts_with("mode=exclusive self=true"), "{seen}");
            names_the_process(stand, &*holder, &seen, true);
        }
        assert_eq!(other.ok("is-locked a"), "true");
        assert_eq!(other.ok("state a"), "Unlocked");
        let seen = other.ok("holder a");
        assert!(seen.starts_with("mode=exclusive self=false"), "{seen}");
        names_the_process(stand, &*holder, &seen, false);
        holder.ok("release a");
        assert_eq!(other.ok("holder a"), "none");
        assert_eq!(holder.ok("is-locked again"), "false");
        assert_eq!(holder.ok("state again"), "Unlocked");
        other.ok(&stand.open_as("again", "./lock"));
        std::mem::swap(&mut holder, &mut other);
    }
    let fifo = stand.is_kernel_lock();
    let guarantee = holder.ok("guarantee a");
    let expected = format!("scope=host ttl=none fifo={fifo}");
    assert!(guarantee.starts_with(&expected), "{guarantee}");
}

/// If a holder is shown with its process, it is the right one. Guests see no process; others see
/// that of each existence lock, and of a kernel lock only if the kernel shows it.
fn names_the_process(stand: &dyn Stand, holder: &dyn Subject, seen: &str, own: bool) {
    if let Some((_, pid)) = seen.split_once(" pid=") {
        let unknown = !own && stand.is_kernel_lock() && pid == "none";
        assert!(pid == holder.pid().to_string() || unknown, "{seen}");
    }
}

fn and_in_which_mode(stand: &dyn Stand) {
    let mut holder = stand.subject();
    holder.ok("acquire a shared 0");
    let seen = holder.ok("holder a");
    assert!(seen.starts_with("mode=shared self=true"), "{seen}");
    let seen = stand.subject().ok("holder a");
    assert!(seen.starts_with("mode=shared self=false"), "{seen}");
    // The end of a guest that is dropped takes its time.
    holder.ok("release a");
}

fn a_broken_lock_is_lost(stand: &dyn Stand) {
    let (mut holder, mut breaker) = (stand.subject(), stand.subject());
    let before = stand.site().dir.names();
    assert_eq!(breaker.err("break a"), "not-locked");
    holder.ok("acquire a exclusive 0");
    if stand.is_kernel_lock() && !stand.is_one_queue() {
        assert_eq!(breaker.err("break a"), "unsupported");
        assert_eq!(holder.ok("state a"), "Held");
        holder.ok("release a");
        breaker.ok("acquire a exclusive 0");
        assert_eq!(holder.err("break a"), "unsupported");
        assert_eq!(breaker.ok("state a"), "Held");
        return;
    }
    breaker.ok("break a");
    assert_eq!(breaker.ok("is-locked a"), "false");
    eventually("the holder learns it", || {
        holder.ok("state a") == "Lost(Broken)"
    });
    assert_eq!(holder.err("release a"), "lost");
    assert_eq!(holder.ok("state a"), "Unlocked");
    assert_eq!(holder.err("release a"), "not-locked");
    assert_eq!(stand.site().dir.names(), before, "nothing is left behind");

    // The lock of the next holder is not the one that was lost.
    holder.ok("acquire a exclusive 0");
    breaker.ok("break a");
    assert!(stand.site().is_free());
    let mut third = stand.subject();
    // The queue of the former holder may not have heard of it yet.
    third.ok("acquire a exclusive 10000");
    eventually("the holder learns it", || {
        holder.ok("state a") == "Lost(Broken)"
    });
    let held = stand.site().dir.names();
    assert_eq!(holder.err("release a"), "lost");
    assert_eq!(holder.err("release a"), "not-owner");
    assert_eq!(holder.err("acquire a exclusive 0"), "would-block");
    assert_eq!(stand.site().dir.names(), held);
    assert_eq!(third.ok("state a"), "Held");
    third.ok("release a");
    assert!(stand.site().is_free());
}
