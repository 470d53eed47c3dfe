//! Promise 3: Acquiring a held lock waits until the lock is released or the timeout expires. No
//! timeout waits indefinitely; zero tries once.

use super::{took, was_at_once};
use crate::subject::{Stand, Subject};
use crate::waits::{QUIESCENT, eventually};

/// The promise.
pub fn is_kept(stand: &dyn Stand) {
    let (mut a, mut b) = (stand.subject(), stand.subject());
    until_it_is_released(stand, &mut *a, &mut *b);
    until_the_timeout(stand, &mut *a, &mut *b);
    // And the other way round, because they may differ in kind.
    until_it_is_released(stand, &mut *b, &mut *a);
    until_the_timeout(stand, &mut *b, &mut *a);
    if stand.is_kernel_lock() {
        readers_share_and_a_writer_waits(stand);
    }
}

fn until_it_is_released(stand: &dyn Stand, holder: &mut dyn Subject, waiter: &mut dyn Subject) {
    for acquire in stand.acquires() {
        for timeout in ["none", "60000"] {
            holder.ok("acquire a exclusive 0");
            waiter.waits(&format!("{acquire} a exclusive {timeout}"));
            assert_eq!(holder.ok("state a"), "Held");
            holder.ok("release a");
            waiter.granted();
            assert_eq!(holder.ok("state a"), "Unlocked");
            assert_eq!(waiter.ok("state a"), "Held");
            assert_eq!(holder.err("acquire a exclusive 0"), "would-block");
            waiter.ok("release a");
        }
    }
}

fn until_the_timeout(stand: &dyn Stand, holder: &mut dyn Subject, waiter: &mut dyn Subject) {
    holder.ok("acquire a exclusive none");
    for acquire in stand.acquires() {
        assert_eq!(
            waiter.err(&format!("{acquire} a exclusive 0")),
            "would-block"
        );
        was_at_once(waiter);
        waiter.waits(&format!("{acquire} a exclusive 150"));
        assert_eq!(waiter.answer(), "err timeout");
        took(waiter, 150);
        assert_eq!(holder.ok("state a"), "Held");
        assert_eq!(waiter.ok("state a"), "Unlocked");
    }
    assert_eq!(waiter.err("acquire a exclusive 0"), "would-block");
    holder.ok("release a");
    // What has failed stays so, although the lock is free now.
    assert_eq!(waiter.ok("state a"), "Unlocked");
    assert_eq!(holder.ok("is-locked a"), "false");
    assert!(stand.site().is_free());
}

fn readers_share_and_a_writer_waits(stand: &dyn Stand) {
    let (mut first, mut second) = (stand.subject(), stand.subject());
    let mut writer = stand.subject();
    first.ok("acquire a shared 0");
    second.ok("acquire a shared 0");
    let shared = stand.site().foreign().try_acquire(locket::Mode::Shared);
    assert!(shared.expect("the lock can be tried").is_some());
    assert_eq!(writer.err("acquire a exclusive 0"), "would-block");
    // Silence alone does not show that it is in the queue.
    let in_queue = |count| {
        eventually("it is in the queue", || {
            stand.waiting().is_none_or(|waiting| waiting == count)
        });
    };
    writer.waits("acquire a exclusive none");
    in_queue(1);
    // Within a queue, a waiting writer is not overtaken; elsewhere the kernel decides.
    let mut late = stand.is_one_queue().then(|| stand.subject());
    if let Some(late) = &mut late {
        late.waits("acquire a shared none");
        in_queue(2);
    }
    first.ok("release a");
    assert_eq!(writer.answer_within(QUIESCENT), None);
    second.ok("release a");
    writer.granted();
    if let Some(late) = &mut late {
        assert_eq!(late.answer_within(QUIESCENT), None);
        writer.ok("release a");
        late.granted();
    }
}
