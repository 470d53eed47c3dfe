//! Locks on ranges of a file.
//!
//! Windows unlocks a range only as it was locked, converts none, and an exclusive lock of an owner
//! cannot overlap others of that owner. So this keeps the pieces as they were locked. A change unlocks
//! the pieces that it touches, and locks what is to be there instead. In between, another process can
//! get in where an exclusive piece is split, or a shared one becomes exclusive. It cannot where a piece
//! is unlocked as it was locked, an exclusive one becomes shared, or a shared one is split.

use std::fs::File;
use std::io;

use super::lock::{try_bytes, unlock_bytes};
use crate::range::Span;
use crate::sys::{RangeChange, TimedWait};
use crate::types::Mode;

/// What is locked through one handle, in the pieces in which it was locked.
#[derive(Debug, Default)]
pub(crate) struct RangeLocks(Vec<(Span, Mode)>);

/// What is left of some parts without others.
fn without(parts: Vec<Span>, others: impl Iterator<Item = (Span, Mode)>) -> Vec<Span> {
    others.fold(parts, |parts, (other, _)| {
        let left = parts.into_iter().flat_map(|part| part.without(other));
        left.collect()
    })
}

impl RangeLocks {
    /// How many pieces there are. Neighbors stay apart, so what is held can be fewer ranges.
    pub(crate) fn pieces(&self) -> usize {
        self.0.len()
    }

    /// Locks a range, changes it, or with no mode unlocks it.
    pub(crate) fn change(
        &mut self,
        file: &File,
        mode: Option<Mode>,
        span: Span,
    ) -> io::Result<RangeChange> {
        let before: Vec<_> = self.meeting(span).collect();
        // Nothing outside of it changes.
        let around = before.iter().fold(span, |around, (piece, _)| Span {
            first: around.first.min(piece.first),
            last: around.last.max(piece.last),
        });
        let changed = self.try_change(file, mode, span);
        if !matches!(changed, Ok(true)) {
            self.restore(file, &before, around);
        }
        let lost = before.iter().map(|(piece, _)| *piece).collect();
        let mut lost = without(lost, self.meeting(around));
        if matches!(changed, Ok(true)) {
            lost = lost
                .into_iter()
                .flat_map(|part| part.without(span))
                .collect();
        }
        match changed {
            _ if !lost.is_empty() => Ok(RangeChange::Lost(lost)),
            Ok(true) => Ok(RangeChange::Made),
            Ok(false) => Ok(RangeChange::Conflict),
            Err(e) => Err(e),
        }
    }

    /// Returns `false` if another owner is in the way; what is locked is then neither what it was nor
    /// what it should be.
    fn try_change(&mut self, file: &File, mode: Option<Mode>, span: Span) -> io::Result<bool> {
        let touched: Vec<_> = self.meeting(span).collect();
        if let Some(mode) = mode {
            for part in without(vec![span], touched.iter().copied()) {
                if !self.lock(file, part, mode)? {
                    return Ok(false);
                }
            }
        }
        for (piece, held) in touched {
            if Some(held) == mode {
                continue;
            }
            let Some(part) = piece.common(span) else {
                continue;
            };
            // Shared locks can overlap all of the same handle, and if two are alike, the exclusive one
            // is unlocked first.
            if mode == Some(Mode::Shared) && !self.lock(file, part, Mode::Shared)? {
                return Ok(false);
            }
            let rest: Vec<Span> = piece.without(span).collect();
            if held == Mode::Shared {
                self.lock_all(file, &rest, held)?;
            }
            self.unlock(file, piece, held)?;
            if held == Mode::Exclusive {
                self.lock_all(file, &rest, held)?;
            }
            if mode == Some(Mode::Exclusive) && !self.lock(file, part, Mode::Exclusive)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The pieces that have bytes of `span`.
    fn meeting(&self, span: Span) -> impl Iterator<Item = (Span, Mode)> {
        let all = self.0.iter().copied();
        all.filter(move |(piece, _)| piece.common(span).is_some())
    }

    /// Locks again what was locked before and is not any more, as far as no other process has it.
    fn restore(&mut self, file: &File, before: &[(Span, Mode)], around: Span) {
        let was_there = |piece: Span, mode| {
            let mut all = before.iter();
            all.any(|(span, held)| *held == mode && piece.without(*span).next().is_none())
        };
        let now: Vec<_> = self.meeting(around).collect();
        for (piece, mode) in now {
            if !was_there(piece, mode) {
                let _ = self.unlock(file, piece, mode);
            }
        }
        for (span, mode) in before {
            for part in without(vec![*span], self.meeting(*span)) {
                let _ = self.lock(file, part, *mode);
            }
        }
    }

    /// Locks pieces. If another process has one of them, that shows in the end.
    fn lock_all(&mut self, file: &File, pieces: &[Span], mode: Mode) -> io::Result<()> {
        for piece in pieces {
            self.lock(file, *piece, mode)?;
        }
        Ok(())
    }

    /// Locks a piece unless another is in the way.
    fn lock(&mut self, file: &File, piece: Span, mode: Mode) -> io::Result<bool> {
        let locked = try_bytes(file, mode, piece.first, length(piece))?;
        if locked {
            self.0.push((piece, mode));
        }
        Ok(locked)
    }

    fn unlock(&mut self, file: &File, piece: Span, mode: Mode) -> io::Result<()> {
        unlock_bytes(file, piece.first, length(piece))?;
        self.0.retain(|known| *known != (piece, mode));
        Ok(())
    }

    /// A lock of another owner that excludes `mode` in a range. There is no call that tells, so this
    /// tries what is not held here, and knows no bounds of what is in the way.
    pub(crate) fn query(
        &mut self,
        file: &File,
        mode: Mode,
        span: Span,
    ) -> io::Result<Option<(Span, Mode)>> {
        for part in without(vec![span], self.meeting(span)) {
            let is_free = |mode| -> io::Result<bool> {
                let free = try_bytes(file, mode, part.first, length(part))?;
                if free {
                    unlock_bytes(file, part.first, length(part))?;
                }
                Ok(free)
            };
            if is_free(mode)? {
                continue;
            }
            let shared = mode == Mode::Exclusive && is_free(Mode::Shared)?;
            let held = if shared {
                Mode::Shared
            } else {
                Mode::Exclusive
            };
            return Ok(Some((part, held)));
        }
        Ok(None)
    }

    /// Unlocks everything.
    pub(crate) fn clear(&mut self, file: &File) -> io::Result<()> {
        for (piece, mode) in self.0.clone() {
            self.unlock(file, piece, mode)?;
        }
        Ok(())
    }
}

fn length(span: Span) -> u64 {
    span.last - span.first + 1
}

/// A wait for a range would be in the way of its owner's other locks, so each waiter tries again.
pub(crate) const WAITS_FOR_RANGES: bool = false;

/// See [`WAITS_FOR_RANGES`].
pub(crate) fn wait_for_range(_: &File, _: Mode, _: Span, _: &TimedWait) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    const EX: Mode = Mode::Exclusive;

    fn span(first: u64, last: u64) -> Span {
        Span { first, last }
    }

    /// As if another process had come in between.
    #[test]
    fn what_another_process_has_taken_is_lost() {
        let dir = tempfile::tempdir().expect("a directory can be created");
        let path = dir.path().join("file");
        let open = || {
            let mut options = File::options();
            options.read(true).write(true).create(true).truncate(false);
            options.open(&path).expect("the file can be opened")
        };
        let (mine, other) = (open(), open());
        let mut locks = RangeLocks(vec![(span(0, 99), EX)]);
        let taken = try_bytes(&other, EX, 60, 40).expect("a try works");
        assert!(taken);
        let changed = locks.change(&mine, None, span(40, 59));
        let lost = match changed.expect("a change works") {
            RangeChange::Lost(lost) => lost,
            other => panic!("{other:?}"),
        };
        assert_eq!(lost, [span(60, 99)]);
        assert_eq!(locks.0, [(span(0, 39), EX)]);

        let changed = locks.change(&mine, Some(EX), span(30, 70));
        assert!(matches!(changed, Ok(RangeChange::Conflict)));
        let found = locks.query(&mine, EX, span(0, 99));
        assert_eq!(found.expect("a query works"), Some((span(40, 99), EX)));
        locks.clear(&mine).expect("it can be unlocked");
        assert!(try_bytes(&other, EX, 0, 60).expect("a try works"));
    }
}
