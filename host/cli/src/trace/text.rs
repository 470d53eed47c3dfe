//! A trace as text: for each path a table of its processes, and a line of time for each of them.

use std::fmt::{self, Write};
use std::time::Duration;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::axis::ticks;
use super::sample::{Doing, Process, State};
use super::timeline::{Span, Timeline, Total, Track};
use crate::output::{HumanDuration, shown_path};
use crate::status::report::Mode;

/// What the characters of a line mean.
pub(super) const LEGEND: &str = "█ held exclusively  ▒ shared  ┄ waiting  ? not looked at";

/// For waiting, holding a shared lock, and holding an exclusive one.
const CHARACTERS: [char; 3] = ['┄', '▒', '█'];
const NOTHING: char = ' ';
const NOT_LOOKED_AT: char = '?';

/// How wide a line of time is at least, however narrow the terminal.
const NARROWEST: usize = 20;

/// The picture of a trace, in lines of so many columns.
pub(super) struct Picture<'a> {
    pub(super) timeline: &'a Timeline,
    pub(super) width: usize,
}

impl fmt::Display for Picture<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let length = self.timeline.length;
        for track in &self.timeline.tracks {
            writeln!(f, "{}, {}:", shown_path(&track.path), short(length))?;
            if track.lanes.is_empty() {
                writeln!(f, "  no holder or waiter was seen")?;
            } else {
                self.write_table(f, track)?;
            }
            if !(track.lanes.is_empty() && track.gaps.is_empty()) {
                self.write_lines(f, track)?;
            }
            writeln!(f)?;
        }
        writeln!(f, "{LEGEND}")
    }
}

impl Picture<'_> {
    fn write_table(&self, f: &mut fmt::Formatter<'_>, track: &Track) -> fmt::Result {
        let names = names(track);
        let name = widest(&names);
        let columns = "  held    in all   longest  waits    in all   longest";
        let rest = self.width.saturating_sub(name + columns.len() + 6).max(10);
        let commands = track.lanes.iter();
        let commands = commands.map(|lane| command(&lane.process, rest));
        let commands: Vec<_> = commands.collect();
        let rest = widest(&commands).max("command".len());
        writeln!(
            f,
            "  {}  {}{columns}",
            padded("process", name),
            padded("command", rest)
        )?;
        for ((lane, process), command) in track.lanes.iter().zip(&names).zip(&commands) {
            let totals = lane.totals();
            let total = |total: &Total| {
                let Total {
                    count,
                    time,
                    longest,
                } = total;
                let times = [time, longest].map(|time| match count {
                    0 => String::new(),
                    _ => short(*time),
                });
                format!("{count:>6}{:>10}{:>10}", times[0], times[1])
            };
            writeln!(
                f,
                "  {}  {}{} {}",
                padded(process, name),
                padded(command, rest),
                total(&totals.held),
                total(&totals.waited).trim_end()
            )?;
        }
        Ok(())
    }

    fn write_lines(&self, f: &mut fmt::Formatter<'_>, track: &Track) -> fmt::Result {
        let names = names(track);
        let name = widest(&names);
        let width = self.width.saturating_sub(name + 5).max(NARROWEST);
        if track.lanes.is_empty() {
            let line = line(track, &[], self.timeline.length, width);
            writeln!(f, "  {} {line}", padded("", name))?;
        }
        for (lane, process) in track.lanes.iter().zip(&names) {
            let line = line(track, &lane.spans, self.timeline.length, width);
            writeln!(f, "  {} {line}", padded(process, name))?;
        }
        writeln!(
            f,
            "  {} {}",
            padded("", name),
            axis(self.timeline.length, width)
        )
    }
}

/// The place of what a process does among the characters.
fn strength(doing: Doing) -> usize {
    match (doing.state, doing.mode) {
        (State::Waits, _) => 0,
        (State::Held, Mode::Shared) => 1,
        (State::Held, Mode::Exclusive) => 2,
    }
}

/// A character for each slice of the time: for what takes the most of it, and nothing only if there
/// was nothing.
fn line(track: &Track, mut spans: &[Span], length: Duration, width: usize) -> String {
    let edge = |column: usize| length.mul_f64(column as f64 / width as f64);
    let mut line = String::from("│");
    for column in 0..width {
        let slice = (edge(column), edge(column + 1));
        while let [first, rest @ ..] = spans
            && first.to < slice.0
        {
            spans = rest;
        }
        let within = spans.iter().take_while(|span| span.from < slice.1);
        let mut shares = [Duration::ZERO; CHARACTERS.len()];
        for span in within {
            let time = common((span.from, span.to), slice);
            let is_moment = span.from == span.to && span.from >= slice.0;
            if !time.is_zero() || is_moment {
                shares[strength(span.doing)] += time.max(Duration::from_nanos(1));
            }
        }
        let seen = shares
            .iter()
            .zip(CHARACTERS)
            .filter(|(time, _)| !time.is_zero());
        let most = seen.max_by_key(|(time, _)| **time);
        let gaps = track.gaps.iter().map(|gap| common(*gap, slice));
        let in_gap = gaps.sum::<Duration>() * 2 > slice.1 - slice.0;
        line.push(match most {
            _ if in_gap => NOT_LOOKED_AT,
            Some((_, character)) => character,
            None => NOTHING,
        });
    }
    line.push('│');
    line
}

/// How long two times overlap.
fn common(one: (Duration, Duration), other: (Duration, Duration)) -> Duration {
    one.1.min(other.1).saturating_sub(one.0.max(other.0))
}

/// The marks of the time below lines of this width, each under its column.
fn axis(length: Duration, width: usize) -> String {
    let mut axis = String::from(" ");
    for (time, label) in ticks(length, width as u64 / 12) {
        let share = match length {
            Duration::ZERO => 0.,
            _ => time.as_secs_f64() / length.as_secs_f64(),
        };
        let column = 1 + (share * width as f64) as usize;
        let written = axis.chars().count();
        // The last one would not fit if it begins at the edge.
        if column + label.len() <= width + 2 {
            axis.extend(std::iter::repeat_n(' ', column.saturating_sub(written)));
            axis.push_str(&label);
        }
    }
    axis
}

/// What a process is called in a line.
pub(super) fn name(process: &Process) -> String {
    match process.pid {
        _ if process.elsewhere => "elsewhere".to_owned(),
        Some(pid) => pid.to_string(),
        None => "unknown".to_owned(),
    }
}

fn names(track: &Track) -> Vec<String> {
    let names = track.lanes.iter().map(|lane| name(&lane.process));
    names.map(|name| padded(&name, "process".len())).collect()
}

/// Its command as far as there is room, without the directory of the program.
pub(super) fn command(process: &Process, width: usize) -> String {
    let command = process.command.as_deref().unwrap_or("");
    let program = command.split(' ').next().unwrap_or("");
    let dir = match program.rfind('/') {
        Some(slash) if !program.starts_with('$') => slash + 1,
        _ => 0,
    };
    cut(&command[dir..], width)
}

fn widest(texts: &[String]) -> usize {
    texts.iter().map(|text| text.width()).max().unwrap_or(0)
}

fn padded(text: &str, width: usize) -> String {
    let missing = width.saturating_sub(text.width());
    format!("{text}{:missing$}", "")
}

/// A text that takes at most so many columns.
pub(super) fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut cut = String::new();
    let mut left = width.saturating_sub(1);
    for c in text.chars() {
        let width = c.width().unwrap_or(0);
        if width > left {
            break;
        }
        left -= width;
        let _ = cut.write_char(c);
    }
    cut + "…"
}

/// A duration in milliseconds if it is short.
pub(super) fn short(duration: Duration) -> String {
    if duration < Duration::from_secs(1) {
        format!("{} ms", duration.as_millis())
    } else {
        HumanDuration(duration).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::super::timeline::tests::{ms, process, timeline};
    use super::*;

    fn picture(lines: &[(Process, &str)], width: usize) -> String {
        let timeline = timeline("lock", lines);
        let timeline = &timeline;
        Picture { timeline, width }.to_string()
    }

    #[test]
    fn a_picture_has_a_table_and_a_line_for_each_process() {
        let lines = [
            (process(11, 0), "XXXXXXXXXX          "),
            (process(12, 0), " wwwwwwwwwSSSSSSSSSS"),
        ];
        let expected = "\
lock, 200 ms:
  process  command     held    in all   longest  waits    in all   longest
  11       command 11     1    100 ms    100 ms      0
  12       command 12     1    100 ms    100 ms      1     90 ms     90 ms
  11      │████████████████████                    │
  12      │  ┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒│
           0.0 s               0.1 s

█ held exclusively  ▒ shared  ┄ waiting  ? not looked at
";
        assert_eq!(picture(&lines, 52), expected);
    }

    #[test]
    fn a_short_hold_is_seen_unless_something_longer_is_there() {
        let line = |line| {
            let timeline = timeline("lock", &[(process(1, 0), line)]);
            let track = &timeline.tracks[0];
            super::line(track, &track.lanes[0].spans, timeline.length, 4)
        };
        assert_eq!(line("X                   "), "│█   │");
        assert_eq!(line("Xwwww     wwSSS     "), "│┄ ▒ │");
        assert_eq!(line("wwwww?????XXXXX?????"), "│┄┄██│");
        assert_eq!(line("XXXXX????????????XXX"), "│█??█│");
    }

    #[test]
    fn without_anyone_it_says_so() {
        let text = picture(&[], 80);
        assert!(
            text.starts_with("lock, 0 ms:\n  no holder or waiter was seen\n\n"),
            "{text}"
        );
        let mut timeline = timeline("lock", &[]);
        timeline.end(ms(1000));
        let (timeline, width) = (&timeline, 25);
        let text = Picture { timeline, width }.to_string();
        assert!(text.contains("│????????????????????│\n"), "{text}");
    }

    #[test]
    fn a_text_is_cut_by_the_columns_that_it_takes() {
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("abcd", 3), "ab…");
        assert_eq!(cut("日本語", 4), "日…");
        assert_eq!(short(ms(999)), "999 ms");
        let mut process = process(1, 0);
        process.command = Some("/usr/bin/locket exec a/b".to_owned());
        assert_eq!(command(&process, 80), "locket exec a/b");
    }
}
