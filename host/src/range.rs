//! Ranges of bytes, and which of them an owner holds in which mode.

use std::io;
use std::ops::{Range as Until, RangeFrom, RangeFull, RangeInclusive, RangeTo, RangeToInclusive};

use crate::types::Mode;

/// A range of bytes of a file. The bytes need not exist.
///
/// ```
/// use locket::Range;
///
/// assert_eq!(Range::from(10..15), Range { start: 10, length: 5 });
/// assert_eq!(Range::from(10..), Range { start: 10, length: 0 });
/// assert_eq!(Range::from(..), Range::ALL);
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Range {
    /// The first byte.
    pub start: u64,
    /// How many bytes; 0 for all from `start` on, however long the file becomes.
    pub length: u64,
}

impl Range {
    /// The whole file, however long it becomes.
    pub const ALL: Self = Self {
        start: 0,
        length: 0,
    };
}

/// An empty range starts beyond the last offset, and so is refused by each call.
impl From<Until<u64>> for Range {
    fn from(range: Until<u64>) -> Self {
        let length = range.end.saturating_sub(range.start);
        let start = if length == 0 { u64::MAX } else { range.start };
        Self { start, length }
    }
}

impl From<RangeInclusive<u64>> for Range {
    fn from(range: RangeInclusive<u64>) -> Self {
        Self::from(*range.start()..range.end().saturating_add(1))
    }
}

impl From<RangeFrom<u64>> for Range {
    fn from(range: RangeFrom<u64>) -> Self {
        let (start, length) = (range.start, 0);
        Self { start, length }
    }
}

impl From<RangeTo<u64>> for Range {
    fn from(range: RangeTo<u64>) -> Self {
        Self::from(0..range.end)
    }
}

impl From<RangeToInclusive<u64>> for Range {
    fn from(range: RangeToInclusive<u64>) -> Self {
        Self::from(0..=range.end)
    }
}

impl From<RangeFull> for Range {
    fn from(_: RangeFull) -> Self {
        Self::ALL
    }
}

/// The bytes from `first` to `last`, which may be the last that a file can have.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Span {
    pub(crate) first: u64,
    pub(crate) last: u64,
}

impl Span {
    /// The last byte that a file can have.
    const END: u64 = i64::MAX.cast_unsigned();

    /// All bytes.
    #[cfg(unix)]
    pub(crate) const WHOLE: Self = Self {
        first: 0,
        last: Self::END,
    };

    /// The bytes from `first` on, as many as `length`, or all if that is 0, as the system reports
    /// them.
    pub(crate) fn reported(first: u64, length: u64) -> Self {
        let last = match length {
            0 => Self::END,
            _ => first.saturating_add(length - 1),
        };
        Self { first, last }
    }

    /// The length by which the system knows it.
    pub(crate) fn length(self) -> u64 {
        match self.last {
            Self::END => 0,
            last => last - self.first + 1,
        }
    }

    pub(crate) fn range(self) -> Range {
        Range {
            start: self.first,
            length: self.length(),
        }
    }

    /// What is left of it without `other`.
    pub(crate) fn without(self, other: Self) -> impl Iterator<Item = Self> {
        let parts = [self.before(other), self.after(other)];
        parts.into_iter().flatten()
    }

    /// What of it lies before `other`.
    fn before(self, other: Self) -> Option<Self> {
        (self.first < other.first).then(|| Self {
            first: self.first,
            last: self.last.min(other.first - 1),
        })
    }

    /// What of it lies behind `other`.
    fn after(self, other: Self) -> Option<Self> {
        (self.last > other.last).then(|| Self {
            first: self.first.max(other.last + 1),
            last: self.last,
        })
    }

    /// The bytes of both.
    pub(crate) fn common(self, other: Self) -> Option<Self> {
        self.meets(other).then(|| Self {
            first: self.first.max(other.first),
            last: self.last.min(other.last),
        })
    }

    fn meets(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

impl TryFrom<Range> for Span {
    type Error = io::Error;

    fn try_from(range: Range) -> io::Result<Self> {
        let last = match range.length {
            0 => Some(Self::END),
            length => range.start.checked_add(length - 1),
        };
        match last.filter(|last| range.start <= *last && *last <= Self::END) {
            Some(last) => Ok(Self {
                first: range.start,
                last,
            }),
            None => {
                let why = "the range is empty, or ends beyond the largest offset of a file";
                Err(io::Error::new(io::ErrorKind::Unsupported, why))
            }
        }
    }
}

/// The parts that take the place of some ranges of a map.
#[derive(Debug)]
pub(crate) struct Change {
    touched: Until<usize>,
    parts: [Option<(Span, Mode)>; 3],
}

/// What an owner holds of a file: ranges in order, apart from one another, and as few as can be.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct RangeMap(Vec<(Span, Mode)>);

impl RangeMap {
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Span, Mode)> {
        self.0.iter().copied()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// What changes if `span` is held in `mode` from now on, or not at all.
    pub(crate) fn change(&self, mut span: Span, mode: Option<Mode>) -> Change {
        // Those that it touches, even if they have no byte in common.
        let from = self
            .0
            .partition_point(|(held, _)| held.last + 1 < span.first);
        let to = self
            .0
            .partition_point(|(held, _)| held.first <= span.last + 1);
        let touched = from..to.max(from);
        let edge = |entry: Option<&(Span, Mode)>, rest: fn(Span, Span) -> Option<Span>| {
            let &(held, mode) = entry?;
            Some((rest(held, span)?, mode))
        };
        let mut before = edge(self.0[touched.clone()].first(), Span::before);
        let mut after = edge(self.0[touched.clone()].last(), Span::after);
        if let Some((first, _)) = before.take_if(|(_, held)| Some(*held) == mode) {
            span.first = first.first;
        }
        if let Some((last, _)) = after.take_if(|(_, held)| Some(*held) == mode) {
            span.last = last.last;
        }
        Change {
            touched,
            parts: [before, mode.map(|mode| (span, mode)), after],
        }
    }

    /// How many ranges there will be after a change.
    pub(crate) fn len_after(&self, change: &Change) -> usize {
        self.len() - change.touched.len() + change.parts.iter().flatten().count()
    }

    /// Makes a change, before which there was no other since it was found.
    pub(crate) fn apply(&mut self, change: Change) {
        let Change { touched, parts } = change;
        match parts {
            // The usual ones: a range is locked, and unlocked.
            [None, Some(part), None] if touched.is_empty() => self.0.insert(touched.start, part),
            [None, None, None] => drop(self.0.drain(touched)),
            parts => drop(self.0.splice(touched, parts.into_iter().flatten())),
        }
    }

    /// Lets `span` be held in `mode`, or not at all.
    pub(crate) fn set(&mut self, span: Span, mode: Option<Mode>) {
        self.apply(self.change(span, mode));
    }

    /// The parts of `span`, each with the mode in which it is held.
    pub(crate) fn parts(&self, span: Span) -> Vec<(Span, Option<Mode>)> {
        let mut parts = Vec::new();
        let mut next = span.first;
        for (held, mode) in self.iter().filter(|(held, _)| held.meets(span)) {
            let (first, last) = (held.first.max(span.first), held.last.min(span.last));
            if next < first {
                let gap = Span {
                    first: next,
                    last: first - 1,
                };
                parts.push((gap, None));
            }
            parts.push((Span { first, last }, Some(mode)));
            next = last + 1;
        }
        if next <= span.last {
            let rest = Span {
                first: next,
                last: span.last,
            };
            parts.push((rest, None));
        }
        parts
    }

    /// Whether another owner cannot hold `span` in `mode`.
    pub(crate) fn excludes(&self, span: Span, mode: Mode) -> bool {
        self.blocker(span, mode).is_some()
    }

    /// The first of what keeps another owner from holding `span` in `mode`.
    pub(crate) fn blocker(&self, span: Span, mode: Mode) -> Option<(Span, Mode)> {
        let exclusive = |held| mode == Mode::Exclusive || held == Mode::Exclusive;
        self.iter()
            .find(|(held, other)| held.meets(span) && exclusive(*other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EX: Mode = Mode::Exclusive;
    const SH: Mode = Mode::Shared;

    fn span(first: u64, last: u64) -> Span {
        Span { first, last }
    }

    #[test]
    fn ranges_are_converted_split_and_merged() {
        let mut map = RangeMap::default();
        map.set(span(10, 19), Some(EX));
        map.set(span(20, 29), Some(EX));
        assert_eq!(map.0, [(span(10, 29), EX)]);
        map.set(span(15, 24), Some(SH));
        let split = [(span(10, 14), EX), (span(15, 24), SH), (span(25, 29), EX)];
        assert_eq!(map.0, split);
        map.set(span(0, 12), None);
        map.set(span(28, Span::END), None);
        let cut = [(span(13, 14), EX), (span(15, 24), SH), (span(25, 27), EX)];
        assert_eq!(map.0, cut);
        assert_eq!(
            map.parts(span(12, 30)),
            [
                (span(12, 12), None),
                (span(13, 14), Some(EX)),
                (span(15, 24), Some(SH)),
                (span(25, 27), Some(EX)),
                (span(28, 30), None)
            ]
        );
        map.set(span(0, Span::END), Some(SH));
        assert_eq!(map.0, [(span(0, Span::END), SH)]);
        assert!(map.excludes(span(Span::END, Span::END), EX));
        assert!(!map.excludes(span(5, 5), SH));
        map.set(span(0, Span::END), None);
        assert_eq!(map, RangeMap::default());
    }

    /// Each change of each state that five bytes can be in.
    #[test]
    fn a_change_is_what_it_is_byte_by_byte() {
        const BYTES: u8 = 5;
        let modes = [None, Some(SH), Some(EX)];
        for state in 0..3_usize.pow(5) {
            let bytes: Vec<_> = (0..5)
                .map(|at| modes[state / 3_usize.pow(at) % 3])
                .collect();
            let map = of_bytes(&bytes);
            for first in 0..BYTES {
                for last in first..BYTES {
                    for mode in modes {
                        let mut bytes = bytes.clone();
                        bytes[first.into()..=last.into()].fill(mode);
                        let mut changed = map.clone();
                        let span = span(first.into(), last.into());
                        let change = map.change(span, mode);
                        let len = map.len_after(&change);
                        changed.apply(change);
                        assert_eq!(changed, of_bytes(&bytes), "{map:?} {first} {last} {mode:?}");
                        assert_eq!(changed.len(), len);
                    }
                }
            }
        }
    }

    fn of_bytes(bytes: &[Option<Mode>]) -> RangeMap {
        let mut held: Vec<(Span, Mode)> = Vec::new();
        for (at, mode) in (0..).zip(bytes) {
            let Some(mode) = *mode else { continue };
            match held.last_mut() {
                Some((last, same)) if *same == mode && last.last + 1 == at => last.last = at,
                _ => held.push((span(at, at), mode)),
            }
        }
        RangeMap(held)
    }

    #[test]
    fn a_range_ends_where_files_do() {
        let end = Span::END;
        let whole = |start, length| Span::try_from(Range { start, length }).ok();
        assert_eq!(whole(0, 0), Some(span(0, end)));
        assert_eq!(whole(end, 1), Some(span(end, end)));
        assert_eq!(whole(end, 0), Some(span(end, end)));
        assert_eq!(whole(1, end), Some(span(1, end)));
        for (start, length) in [
            (end, 2),
            (end + 1, 0),
            (2, end),
            (5, u64::MAX),
            (u64::MAX, 1),
        ] {
            assert_eq!(whole(start, length), None, "{start} {length}");
        }
        assert!(Span::try_from(Range::from(7..7)).is_err());
        assert_eq!(
            Range::from(7..=7),
            Range {
                start: 7,
                length: 1
            }
        );
        assert_eq!(
            span(3, end).range(),
            Range {
                start: 3,
                length: 0
            }
        );
    }
}
