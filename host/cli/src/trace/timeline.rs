//! From what is seen at each moment to who held and awaited a lock when.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::sample::{Doing, Process, Seen, State};

/// How many intervals without a look are a gap in the picture, and not only a late sample.
const GAP: u32 = 10;

/// All paths of a trace.
#[derive(Debug)]
pub(super) struct Timeline {
    pub(super) tracks: Vec<Track>,
    /// How long it is. Times count from its start.
    pub(super) length: Duration,
}

/// A path, its processes in the order in which they came, and when it was looked at.
#[derive(Debug)]
pub(super) struct Track {
    pub(super) path: PathBuf,
    pub(super) lanes: Vec<Lane>,
    /// The times in which it was not looked at.
    pub(super) gaps: Vec<(Duration, Duration)>,
    pub(super) looks: Looks,
    interval: Duration,
    last: Duration,
}

/// How regularly a path was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Looks {
    pub(super) count: u64,
    /// Those more than two intervals after the one before.
    pub(super) late: u64,
    pub(super) longest_pause: Duration,
}

/// A process and what it did.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) process: Process,
    /// In order, without overlaps.
    pub(super) spans: Vec<Span>,
    /// Whether the last span has no end yet.
    is_open: bool,
}

/// A time in which a process did one thing. It may have begun up to an interval earlier, and ended up
/// to an interval earlier.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Span {
    pub(super) from: Duration,
    pub(super) to: Duration,
    pub(super) doing: Doing,
}

/// A change that is seen. No `doing` means that the process neither holds nor waits any more.
#[derive(Debug, PartialEq)]
pub(super) struct Event<'a> {
    pub(super) time: Duration,
    pub(super) path: &'a Path,
    pub(super) process: &'a Process,
    pub(super) doing: Option<Doing>,
}

/// How often and how long a process held and waited.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Totals {
    pub(super) held: Total,
    pub(super) waited: Total,
}

/// The times of one kind.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Total {
    pub(super) count: usize,
    pub(super) time: Duration,
    pub(super) longest: Duration,
}

impl Timeline {
    /// An empty one, of paths that are to be looked at in this interval.
    pub(super) fn new(paths: &[PathBuf], interval: Duration) -> Self {
        let track = |path: &PathBuf| Track {
            path: path.clone(),
            lanes: Vec::new(),
            gaps: Vec::new(),
            looks: Looks::default(),
            interval,
            last: Duration::ZERO,
        };
        Self {
            tracks: paths.iter().map(track).collect(),
            length: Duration::ZERO,
        }
    }

    /// Ends all spans.
    pub(super) fn end(&mut self, at: Duration) {
        self.length = at;
        for track in &mut self.tracks {
            let is_gap = track.pause_until(at);
            for lane in track.lanes.iter_mut().filter(|lane| lane.is_open) {
                lane.close(at, is_gap);
            }
        }
    }
}

impl Track {
    /// Adds what is seen at a time, and returns what has changed: first what ends, then what begins.
    pub(super) fn add(&mut self, at: Duration, seen: Vec<Seen>) -> Vec<Event<'_>> {
        self.looks.count += 1;
        self.looks.late += u64::from(at.saturating_sub(self.last) > 2 * self.interval);
        let is_gap = self.pause_until(at);
        let mut changed = Vec::new();
        for (i, lane) in self.lanes.iter_mut().enumerate() {
            if lane.is_open && !seen.iter().any(|seen| lane.is_of(seen)) {
                lane.close(at, is_gap);
                changed.push((i, None));
            }
        }
        for seen in seen {
            let known = self.lanes.iter().rposition(|lane| lane.is_of(&seen));
            let i = known.unwrap_or_else(|| {
                self.lanes.push(Lane {
                    process: seen.process.clone(),
                    spans: Vec::new(),
                    is_open: false,
                });
                self.lanes.len() - 1
            });
            let doing = seen.doing;
            if self.lanes[i].add(at, seen, is_gap) {
                changed.push((i, Some(doing)));
            }
        }
        let event = |(i, doing): (usize, _)| Event {
            time: at,
            path: &self.path,
            process: &self.lanes[i].process,
            doing,
        };
        changed.into_iter().map(event).collect()
    }

    /// Notes the time since the last look. Returns whether it is a gap.
    fn pause_until(&mut self, at: Duration) -> bool {
        let pause = at.saturating_sub(self.last);
        self.looks.longest_pause = self.looks.longest_pause.max(pause);
        let is_gap = pause > GAP * self.interval;
        if is_gap {
            self.gaps.push((self.last, at));
        }
        self.last = at;
        is_gap
    }
}

impl Lane {
    /// Whether what is seen is of this process.
    fn is_of(&self, seen: &Seen) -> bool {
        let last = self.spans.last().expect("a lane has a span");
        seen.is_of(&self.process, last.doing.state)
    }

    /// Whether what is seen is another thing than before.
    fn add(&mut self, at: Duration, seen: Seen, is_gap: bool) -> bool {
        let Seen { process, doing } = seen;
        // What a process that is about to end does not tell any more, it has told before.
        self.process.command = process.command.or(self.process.command.take());
        self.process.started = process.started.or(self.process.started);
        if self.is_open {
            let last = self.spans.last_mut().expect("an open lane has a span");
            if last.doing.looks_like(doing) {
                last.to = at;
                // One family of a native lock comes after the other.
                let same = last.doing == doing;
                last.doing = doing;
                return !same;
            }
            self.close(at, is_gap);
        }
        self.is_open = true;
        let (from, to) = (at, at);
        self.spans.push(Span { from, to, doing });
        true
    }

    /// Ends the last span: at this time, or if nothing was seen for too long, when it was last seen.
    fn close(&mut self, at: Duration, is_gap: bool) {
        self.is_open = false;
        if let Some(last) = self.spans.last_mut().filter(|_| !is_gap) {
            last.to = at;
        }
    }

    /// What it does now, and since when.
    pub(super) fn now(&self) -> Option<Span> {
        self.spans.last().copied().filter(|_| self.is_open)
    }

    /// A hold whose mode changes is one hold.
    pub(super) fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        let mut whole: Option<Span> = None;
        for span in &self.spans {
            match &mut whole {
                Some(whole) if whole.to == span.from && whole.doing.state == span.doing.state => {
                    whole.to = span.to;
                }
                _ => {
                    totals.add(whole.replace(*span));
                }
            }
        }
        totals.add(whole);
        totals
    }
}

impl Totals {
    fn add(&mut self, span: Option<Span>) {
        let Some(span) = span else {
            return;
        };
        let total = match span.doing.state {
            State::Held => &mut self.held,
            State::Waits => &mut self.waited,
        };
        let time = span.to - span.from;
        total.count += 1;
        total.time += time;
        total.longest = total.longest.max(time);
    }
}

#[cfg(test)]
pub(super) mod tests;
