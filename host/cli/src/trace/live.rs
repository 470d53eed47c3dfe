//! The view of a trace that runs, on a terminal: what each process does now, and for how long.

use std::fmt::Write;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::sample::State;
use super::text::{command, cut, name, short};
use super::timeline::{Timeline, Track};
use crate::output::shown_path;
use crate::status::report::Mode;

/// How often it changes.
const INTERVAL: Duration = Duration::from_millis(100);

/// Lines at the end of the terminal, which go away with this.
pub(super) struct Live {
    bar: ProgressBar,
    next: Instant,
    width: usize,
}

impl Live {
    /// In that many columns of the terminal of standard error. Anywhere else nothing is drawn.
    pub(super) fn new(width: usize) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{msg}");
        Self {
            bar: bar.with_style(style.expect("the template is right")),
            next: Instant::now(),
            width,
        }
    }

    /// Draws what is known `at` that time of the trace, if it is time to.
    pub(super) fn draw(&mut self, timeline: &Timeline, at: Duration) {
        if Instant::now() < self.next {
            return;
        }
        self.next = Instant::now() + INTERVAL;
        self.bar.set_message(view(timeline, at, self.width));
        self.bar.tick();
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn view(timeline: &Timeline, at: Duration, width: usize) -> String {
    let mut lines = format!("{} so far; Ctrl-C shows the picture", short(at));
    for track in &timeline.tracks {
        let path = shown_path(&track.path);
        let _ = write!(lines, "\n{}", cut(&format!("{path}:"), width));
        for line in rows(track, at) {
            let _ = write!(lines, "\n{}", cut(&line, width));
        }
    }
    lines
}

/// A row for each process that holds or waits, or that nothing is known.
fn rows(track: &Track, at: Duration) -> Vec<String> {
    let busy = track.lanes.iter().filter_map(|lane| {
        let span = lane.now()?;
        let what = match (span.doing.state, span.doing.mode) {
            (State::Held, Mode::Exclusive) => "held exclusively",
            (State::Held, Mode::Shared) => "shared",
            (State::Waits, _) => "waiting",
        };
        let time = short(at.saturating_sub(span.from));
        let command = command(&lane.process, usize::MAX);
        let name = name(&lane.process);
        Some(format!("  {what:<16} {time:>8}  {name:<9} {command}"))
    });
    let mut rows: Vec<_> = busy.collect();
    if rows.is_empty() {
        let nothing = match track.looks.count {
            0 => "  its file system does not answer",
            _ => "  no holder or waiter",
        };
        rows.push(nothing.to_owned());
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::super::timeline::tests::{ms, process};
    use super::*;
    use crate::trace::sample::{Doing, Seen};
    use locket::Protocol;

    #[test]
    fn there_is_a_row_for_each_process_that_holds_or_waits() {
        let mut timeline = Timeline::new(&["lock".into()], ms(10));
        let rows = |timeline: &Timeline| super::rows(&timeline.tracks[0], ms(90));
        assert_eq!(rows(&timeline), ["  its file system does not answer"]);
        let doing = |state| Doing {
            state,
            mode: Mode::Exclusive,
            protocol: Protocol::Flock,
        };
        let seen = [(1, State::Held), (2, State::Waits)].map(|(pid, state)| Seen {
            process: process(pid, 0),
            doing: doing(state),
        });
        timeline.tracks[0].add(ms(50), seen.to_vec());
        let expected = [
            "  held exclusively    40 ms  1         command 1",
            "  waiting             40 ms  2         command 2",
        ];
        assert_eq!(rows(&timeline), expected);
        timeline.tracks[0].add(ms(60), vec![]);
        assert_eq!(rows(&timeline), ["  no holder or waiter"]);
    }
}
