//! Locks of ranges that a guest begins, and keeps or abandons.

use std::pin::Pin;

use super::ranges::{held, ranges};
use super::*;

#[test]
fn a_pending_range_is_abandoned_until_it_is_kept() {
    let dir = Dir::new();
    let engine = Engine::new();
    let [one, two] = [(); 2].map(|()| guest(&engine, dir.0.path(), Limits::new()));
    let (file, other) = (ranges(&one), ranges(&two));
    let complete = |range: std::ops::Range<u64>| {
        let mut pending = Box::pin(file.start(EX, range, None).unwrap());
        block_on(&mut pending).unwrap();
        Pin::into_inner(pending)
    };
    file.lock(Mode::Shared, 2..4, None).unwrap();
    other.lock(Mode::Shared, 8..9, None).unwrap();

    // What was held before is held again, and the kernel agrees.
    let pending = complete(0..6);
    assert_eq!(file.held(), [held(EX, 0..6)]);
    drop(pending);
    assert_eq!(file.held(), [held(Mode::Shared, 2..4)]);
    other.lock(Mode::Shared, 0..6, Duration::ZERO).unwrap();
    other.unlock(0..6).unwrap();

    // What was locked or unlocked since stays.
    let pending = complete(0..6);
    file.lock(Mode::Shared, 1..2, None).unwrap();
    file.unlock(3..4).unwrap();
    drop(pending);
    assert_eq!(file.held(), [held(Mode::Shared, 1..3)]);
    other.lock(EX, 3..6, Duration::ZERO).unwrap();
    other.unlock(3..6).unwrap();

    complete(0..6).keep();
    assert_eq!(file.held(), [held(EX, 0..6)]);

    // Two that overlap are abandoned in either order.
    file.unlock(..).unwrap();
    for first_first in [true, false] {
        let (first, second) = (complete(0..4), complete(2..6));
        let pair = if first_first {
            [first, second]
        } else {
            [second, first]
        };
        let [one, another] = pair;
        drop(one);
        let left = if first_first { 2..6 } else { 0..4 };
        assert_eq!(file.held(), [held(EX, left)]);
        drop(another);
        assert_eq!(file.held(), []);
        other.lock(EX, 0..6, Duration::ZERO).unwrap();
        other.unlock(0..6).unwrap();
    }
    // One that is kept is not undone by one before it.
    let (first, second) = (complete(0..4), complete(2..6));
    second.keep();
    drop(first);
    assert_eq!(file.held(), [held(EX, 2..6)]);

    // One that waits is abandoned, too.
    let mut pending = Box::pin(file.start(EX, 8..9, None).unwrap());
    assert!(poll(&mut pending).is_pending());
    drop(pending);
    other.unlock(..).unwrap();
    assert_eq!(file.held(), [held(EX, 2..6)]);
    assert_eq!(one.usage().waiters, 0);
}
