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
        let before = other.first.checked_sub(1).map(|last| Self {
            first: self.first,
            last: last.min(self.last),
        });
        let after = Self {
            first: self.first.max(other.last + 1),
            last: self.last,
        };
        let parts = before.into_iter().chain([after]);
        parts.filter(|part| part.first <= part.last)
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

    /// What it is once `span` is held in `mode`, or not at all.
    pub(crate) fn with(&self, span: Span, mode: Option<Mode>) -> Self {
        let kept = |(held, mode): (Span, _)| held.without(span).map(move |part| (part, mode));
        let (before, after): (Vec<_>, Vec<_>) = self
            .iter()
            .flat_map(kept)
            .partition(|(part, _)| part.last < span.first);
        let changed = mode.map(|mode| (span, mode));
        let mut held: Vec<(Span, Mode)> = Vec::with_capacity(self.len() + 2);
        for (span, mode) in before.into_iter().chain(changed).chain(after) {
            match held.last_mut() {
                Some((last, same)) if *same == mode && last.last + 1 == span.first => {
                    last.last = span.last;
                }
                _ => held.push((span, mode)),
            }
        }
        Self(held)
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
        let map = RangeMap::default();
        let map = map
            .with(span(10, 19), Some(EX))
            .with(span(20, 29), Some(EX));
        assert_eq!(map.0, [(span(10, 29), EX)]);
        let map = map.with(span(15, 24), Some(SH));
        let split = [(span(10, 14), EX), (span(15, 24), SH), (span(25, 29), EX)];
        assert_eq!(map.0, split);
        let map = map.with(span(0, 12), None).with(span(28, Span::END), None);
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
        let map = map.with(span(0, Span::END), Some(SH));
        assert_eq!(map.0, [(span(0, Span::END), SH)]);
        assert!(map.excludes(span(Span::END, Span::END), EX));
        assert!(!map.excludes(span(5, 5), SH));
        assert_eq!(map.with(span(0, Span::END), None), RangeMap::default());
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
