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
        let is_gap = self.pause_until(at);
        self.looks.count += 1;
        let mut changed = Vec::new();
        for (i, lane) in self.lanes.iter_mut().enumerate() {
            let is_gone = || !seen.iter().any(|seen| seen.process.is(&lane.process));
            if lane.is_open && is_gone() {
                lane.close(at, is_gap);
                changed.push((i, None));
            }
        }
        for Seen { process, doing } in seen {
            let known = self
                .lanes
                .iter()
                .rposition(|lane| lane.process.is(&process));
            let i = known.unwrap_or_else(|| {
                self.lanes.push(Lane {
                    process: process.clone(),
                    spans: Vec::new(),
                    is_open: false,
                });
                self.lanes.len() - 1
            });
            if self.lanes[i].add(at, process, doing, is_gap) {
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
        self.looks.late += u64::from(pause > 2 * self.interval);
        let is_gap = pause > GAP * self.interval;
        if is_gap {
            self.gaps.push((self.last, at));
        }
        self.last = at;
        is_gap
    }
}

impl Lane {
    /// Whether what is seen is another thing than before.
    fn add(&mut self, at: Duration, process: Process, doing: Doing, is_gap: bool) -> bool {
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
pub(super) mod tests {
    use locket::Protocol;

    use super::*;
    use crate::status::report::Mode;

    pub(in crate::trace) fn process(pid: i32, started: u64) -> Process {
        Process {
            pid: Some(pid),
            elsewhere: false,
            started: Some(started),
            command: Some(format!("command {pid}")),
        }
    }

    pub(in crate::trace) fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn doing(letter: char) -> Doing {
        let (state, mode) = match letter {
            'X' => (State::Held, Mode::Exclusive),
            'S' => (State::Held, Mode::Shared),
            'w' => (State::Waits, Mode::Exclusive),
            _ => unreachable!("no such letter"),
        };
        let protocol = Protocol::Flock;
        Doing {
            state,
            mode,
            protocol,
        }
    }

    /// A path that was looked at each 10 ms. There is a line for each process, and in it a letter for
    /// each look: X and S hold it, w waits, and `?` is no look, for all.
    pub(in crate::trace) fn timeline(path: &str, lines: &[(Process, &str)]) -> Timeline {
        let mut timeline = Timeline::new(&[path.into()], ms(10));
        let length = lines.iter().map(|(_, line)| line.len()).max().unwrap_or(0);
        for i in 0..length {
            let letters = lines.iter().map(|(process, line)| {
                let letter = line.chars().nth(i).unwrap_or(' ');
                (process.clone(), letter)
            });
            if letters.clone().any(|(_, letter)| letter == '?') {
                continue;
            }
            let seen = letters.filter(|(_, letter)| *letter != ' ');
            let seen = seen.map(|(process, letter)| Seen {
                process,
                doing: doing(letter),
            });
            timeline.tracks[0].add(ms(10 * i as u64), seen.collect());
        }
        timeline.end(ms(10 * length as u64));
        timeline
    }

    /// The spans of each lane: their ends in milliseconds, and the letter.
    fn spans(timeline: &Timeline) -> Vec<Vec<(u128, u128, char)>> {
        let letter = |doing: Doing| match (doing.state, doing.mode) {
            (State::Held, Mode::Exclusive) => 'X',
            (State::Held, Mode::Shared) => 'S',
            (State::Waits, _) => 'w',
        };
        let lanes = timeline.tracks[0].lanes.iter();
        let spans = |lane: &Lane| {
            let spans = lane.spans.iter();
            spans
                .map(|span| {
                    (
                        span.from.as_millis(),
                        span.to.as_millis(),
                        letter(span.doing),
                    )
                })
                .collect()
        };
        lanes.map(spans).collect()
    }

    #[test]
    fn two_processes_take_turns() {
        let lines = [(process(1, 0), "XX  wX"), (process(2, 0), "wwXXX ")];
        let timeline = timeline("lock", &lines);
        let expected = [
            vec![(0, 20, 'X'), (40, 50, 'w'), (50, 60, 'X')],
            vec![(0, 20, 'w'), (20, 50, 'X')],
        ];
        assert_eq!(spans(&timeline), expected);
        let totals = timeline.tracks[0].lanes[0].totals();
        let held = Total {
            count: 2,
            time: ms(30),
            longest: ms(20),
        };
        let waited = Total {
            count: 1,
            time: ms(10),
            longest: ms(10),
        };
        assert_eq!(totals, Totals { held, waited });
    }

    #[test]
    fn readers_share_it_and_a_change_of_mode_is_one_hold() {
        let lines = [(process(1, 0), "SSXX"), (process(2, 0), "SS  ")];
        let timeline = timeline("lock", &lines);
        let expected = [vec![(0, 20, 'S'), (20, 40, 'X')], vec![(0, 20, 'S')]];
        assert_eq!(spans(&timeline), expected);
        let held = timeline.tracks[0].lanes[0].totals().held;
        assert_eq!((held.count, held.longest), (1, ms(40)));
    }

    #[test]
    fn a_number_that_is_reused_is_another_process() {
        let lines = [(process(1, 100), "XX  "), (process(1, 200), "  XX")];
        let expected = [vec![(0, 20, 'X')], vec![(20, 40, 'X')]];
        assert_eq!(spans(&timeline("lock", &lines)), expected);
    }

    #[test]
    fn a_waiter_that_gives_up_has_waited() {
        let lines = [(process(1, 0), "XXXX"), (process(2, 0), " ww ")];
        let timeline = timeline("lock", &lines);
        assert_eq!(spans(&timeline)[1], [(10, 30, 'w')]);
        let totals = timeline.tracks[0].lanes[1].totals();
        assert_eq!((totals.held.count, totals.waited.count), (0, 1));
    }

    #[test]
    fn what_was_not_looked_at_is_a_gap_in_which_nothing_begins_or_ends() {
        let lines = [(process(1, 0), "XX????????????XX")];
        let timeline = timeline("lock", &lines);
        assert_eq!(timeline.tracks[0].gaps, [(ms(10), ms(140))]);
        // It had it before and after.
        assert_eq!(spans(&timeline)[0], [(0, 160, 'X')]);
        let looks = timeline.tracks[0].looks;
        assert_eq!((looks.count, looks.late), (4, 1));
        assert_eq!(looks.longest_pause, ms(130));
    }

    #[test]
    fn a_hold_that_ends_in_a_gap_ends_when_it_was_last_seen() {
        let lines = [(process(1, 0), "XX????????????  ")];
        assert_eq!(spans(&timeline("lock", &lines)), [[(0, 10, 'X')]]);
    }

    #[test]
    fn each_change_is_an_event_and_what_ends_comes_first() {
        let paths = ["a".into(), "b".into()];
        let mut timeline = Timeline::new(&paths, ms(10));
        let seen = |pid, letter| Seen {
            process: process(pid, 0),
            doing: doing(letter),
        };
        let mut events = |track: usize, at, all: Vec<Seen>| {
            let events = timeline.tracks[track].add(ms(at), all);
            let event = |event: Event<'_>| {
                let path = event.path.to_str().unwrap().to_owned();
                (path, event.process.pid.unwrap(), event.doing)
            };
            events.into_iter().map(event).collect::<Vec<_>>()
        };
        let (held, waits) = (doing('X'), doing('w'));
        let a = || "a".to_owned();
        let first = events(0, 0, vec![seen(2, 'X'), seen(1, 'w')]);
        assert_eq!(first, [(a(), 2, Some(held)), (a(), 1, Some(waits))]);
        assert_eq!(events(0, 10, vec![seen(2, 'X'), seen(1, 'w')]), []);
        let other = events(1, 10, vec![seen(2, 'X')]);
        assert_eq!(other, [("b".to_owned(), 2, Some(held))]);
        let turn = events(0, 20, vec![seen(1, 'X')]);
        assert_eq!(turn, [(a(), 2, None), (a(), 1, Some(held))]);
        assert_eq!(events(0, 30, vec![]), [(a(), 1, None)]);
        // One half of a native lock is seen before the other.
        assert_eq!(events(0, 40, vec![seen(1, 'X')]).len(), 1);
        let mut whole = seen(1, 'X');
        whole.doing.protocol = Protocol::Native;
        assert_eq!(events(0, 50, vec![whole]).len(), 1);
        timeline.end(ms(60));
        assert_eq!(timeline.tracks[0].lanes[1].spans.last().unwrap().to, ms(60));
        assert_eq!(timeline.tracks[0].lanes[1].totals().held.count, 2);
    }
}
