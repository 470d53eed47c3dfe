//! Ranges, which are kept in the pieces in which they were locked.

use std::pin::pin;
use std::thread;

use locket::{HeldRange, Mode, Range};

use super::*;

fn held(mode: Mode, range: impl Into<Range>) -> HeldRange {
    let range = range.into();
    HeldRange { mode, range }
}

#[test]
fn a_waiter_gets_the_range_when_it_is_free() {
    let dir = Dir::new();
    let open = || Engine::new().open_ranges(dir.path("file")).unwrap();
    let (one, two) = (open(), open());
    one.lock(EX, 0..10, None).unwrap();
    two.lock(EX, 20..30, None).unwrap();
    thread::scope(|scope| {
        let waits = scope.spawn(|| two.lock(EX, 5..25, STUCK));
        let mut task = pin!(two.lock_async(SH, 0..1, STUCK));
        assert!(poll(&mut task).is_pending());
        // What the waiter holds stays.
        assert_eq!(two.held(), [held(EX, 20..30)]);
        one.unlock(5..).unwrap();
        waits.join().unwrap().unwrap();
        one.unlock(..).unwrap();
        block_on(task).unwrap();
    });
    assert_eq!(two.held(), [held(SH, 0..1), held(EX, 5..30)]);
}

#[test]
fn a_wait_that_gives_up_changes_nothing() {
    let dir = Dir::new();
    let open = || Engine::new().open_ranges(dir.path("file")).unwrap();
    let (one, two) = (open(), open());
    one.lock(SH, 0..100, None).unwrap();
    two.lock(SH, 0..100, None).unwrap();
    two.lock(EX, 200..300, None).unwrap();
    let before = two.held();
    let error = two
        .lock(EX, 50..250, Duration::from_millis(30))
        .unwrap_err();
    assert!(error.is_timeout(), "{error}");
    assert_eq!(two.held(), before);
    thread::scope(|scope| {
        let waits = scope.spawn(|| two.lock(EX, 50..250, None));
        eventually("it is canceled", || {
            two.cancel_waits();
            waits.is_finished()
        });
        assert!(waits.join().unwrap().unwrap_err().is_canceled());
    });
    {
        let mut task = pin!(two.lock_async(EX, .., None));
        assert!(poll(&mut task).is_pending());
    }
    assert_eq!(two.held(), before);
    // The system has what is recorded.
    let third = open();
    assert!(third.try_lock(SH, 0..100).unwrap() && !third.try_lock(EX, 0..1).unwrap());
    assert!(third.try_lock(EX, 100..200).unwrap() && !third.try_lock(SH, 299..).unwrap());
    third.unlock(..).unwrap();
    one.unlock(..).unwrap();
    two.lock(EX, 50..250, Duration::ZERO).unwrap();
    assert_eq!(two.held(), [held(SH, 0..50), held(EX, 50..300)]);
}

/// Random changes of two owners: each gets what the ranges of the other allow, and no call loses
/// anything while the other owner stands still.
#[test]
fn what_is_granted_follows_from_what_is_held() {
    let dir = Dir::new();
    let open = || Engine::new().open_ranges(dir.path("file")).unwrap();
    let owners = [open(), open()];
    let mut held = [[None::<Mode>; 40]; 2];
    let mut number = numbers(7);
    for _ in 0..3000 {
        let (me, first) = (number(2) as usize, number(40) as usize);
        let last = (first + number(12) as usize).min(39);
        let bytes = first as u64..last as u64 + 1;
        let other = held[1 - me];
        let mode = match number(3) {
            0 => None,
            1 => Some(SH),
            _ => Some(EX),
        };
        let Some(mode) = mode else {
            owners[me].unlock(bytes).unwrap();
            held[me][first..=last].fill(None);
            continue;
        };
        let free = other[first..=last]
            .iter()
            .all(|held| held.is_none_or(|held| held == SH && mode == SH));
        assert_eq!(owners[me].try_lock(mode, bytes).unwrap(), free);
        if free {
            held[me][first..=last].fill(Some(mode));
        }
        for (owner, held) in owners.iter().zip(&held) {
            let mut seen = [None; 40];
            for part in owner.held() {
                let end = (part.range.start + part.range.length) as usize;
                seen[part.range.start as usize..end].fill(Some(part.mode));
            }
            assert_eq!(seen, *held);
        }
    }
}
