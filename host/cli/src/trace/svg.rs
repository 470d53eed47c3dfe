//! A trace as a picture for browsers: SVG without scripts, which follows a dark or light scheme.

use std::borrow::Cow;
use std::fmt::{self, Write};
use std::time::Duration;

use super::axis::ticks;
use super::sample::{Doing, Process, State};
use super::text::{command, name, short};
use super::timeline::{Lane, Span, Timeline, Track};
use crate::output::shown_path;
use crate::status::report::Mode;

const WIDTH: f64 = 1200.;
const LEFT: f64 = 340.;
const RIGHT: f64 = 20.;
const TOP: f64 = 40.;
const ROW: f64 = 22.;
const BAR: f64 = 14.;
/// How many characters of a command fit beside its lane.
const LABEL: usize = 34;

const STYLE: &str = "
  text { font: 12px ui-monospace, monospace; fill: #1b1b1b }
  .path { font-weight: bold }
  .ground { fill: #ffffff } .lane { fill: #f0f1f3 }
  .tick { stroke: #c9ccd1 }
  .exclusive { fill: #c2452d } .shared { fill: #2f6fb5 } .waits { fill: #e3b341 }
  .gap { fill: #8b9098; fill-opacity: .45 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6e8eb }
    .ground { fill: #14171c } .lane { fill: #20252c }
    .tick { stroke: #434a54 }
    .exclusive { fill: #e5694f } .shared { fill: #5b9be3 } .waits { fill: #c99a2e }
  }
";

/// The picture, with a note below it.
pub(super) struct Svg<'a> {
    pub(super) timeline: &'a Timeline,
    pub(super) notes: &'a [String],
}

impl fmt::Display for Svg<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tracks = &self.timeline.tracks;
        let rows: usize = tracks
            .iter()
            .map(|track| 1 + track.lanes.len().max(1))
            .sum();
        let bottom = TOP + ROW * rows as f64;
        let height = bottom + ROW * (3 + self.notes.len()) as f64;
        writeln!(
            f,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" width=\"{WIDTH}\" \
             height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\">"
        )?;
        let paths: Vec<_> = tracks.iter().map(|track| shown_path(&track.path)).collect();
        let title = format!("Who held and awaited {}", paths.join(", "));
        writeln!(f, "<title>{}</title>", escaped(&title))?;
        writeln!(f, "<style>{STYLE}</style>")?;
        rect(f, "ground", (0., 0.), (WIDTH, height), "")?;
        self.write_legend(f)?;
        let mut y = TOP;
        for track in tracks {
            text(f, "path", (10., y), &shown_path(&track.path))?;
            y += ROW;
            if track.lanes.is_empty() {
                text(f, "", (20., y), "no holder or waiter was seen")?;
                self.write_bars(f, track, &[], "", y)?;
                y += ROW;
            }
            for lane in &track.lanes {
                self.write_lane(f, track, lane, y)?;
                y += ROW;
            }
        }
        for (time, label) in ticks(self.timeline.length, 8) {
            let x = self.x(time);
            writeln!(
                f,
                "<line class=\"tick\" x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{bottom}\"/>"
            )?;
            if x < WIDTH - 60. {
                text(f, "", (x, bottom), &label)?;
            }
        }
        for (i, note) in self.notes.iter().enumerate() {
            text(f, "", (10., bottom + ROW * (2 + i) as f64), note)?;
        }
        f.write_str("</svg>\n")
    }
}

impl Svg<'_> {
    /// Where a time is.
    fn x(&self, time: Duration) -> f64 {
        let length = self.timeline.length.as_secs_f64().max(f64::MIN_POSITIVE);
        LEFT + (WIDTH - LEFT - RIGHT) * (time.as_secs_f64() / length).min(1.)
    }

    fn write_legend(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = [
            ("exclusive", "held exclusively"),
            ("shared", "shared"),
            ("waits", "waiting"),
            ("gap", "not looked at"),
        ];
        let mut x = LEFT;
        for (class, meaning) in kinds {
            rect(f, class, (x, 10.), (BAR, BAR), "")?;
            text(f, "", (x + BAR + 6., 7.), meaning)?;
            x += 160.;
        }
        Ok(())
    }

    fn write_lane(
        &self,
        f: &mut fmt::Formatter<'_>,
        track: &Track,
        lane: &Lane,
        y: f64,
    ) -> fmt::Result {
        let title = title(&lane.process);
        write!(f, "<g class=\"process\"><title>{}</title>", escaped(&title))?;
        let label = command(&lane.process, LABEL);
        text(f, "", (20., y), &format!("{} {label}", name(&lane.process)))?;
        f.write_str("</g>\n")?;
        self.write_bars(f, track, &lane.spans, &title, y)
    }

    /// What a process did, and when nothing is known.
    fn write_bars(
        &self,
        f: &mut fmt::Formatter<'_>,
        track: &Track,
        spans: &[Span],
        process: &str,
        y: f64,
    ) -> fmt::Result {
        let bar = (ROW - BAR) / 2.;
        let mut part = |class, from, to, title: &str| {
            let x = self.x(from);
            // The shortest hold can be seen, too.
            let width = (self.x(to) - x).max(1.);
            rect(f, class, (x, y + bar), (width, BAR), title)
        };
        part("lane", Duration::ZERO, self.timeline.length, "")?;
        for span in spans {
            let title = format!(
                "{process}: {} ({}) for {}, from {:.3} s to {:.3} s",
                words(span.doing),
                span.doing.protocol,
                short(span.to - span.from),
                span.from.as_secs_f64(),
                span.to.as_secs_f64()
            );
            part(class(span.doing), span.from, span.to, &title)?;
        }
        for (from, to) in &track.gaps {
            let title = format!("not looked at for {}", short(*to - *from));
            part("gap", *from, *to, &title)?;
        }
        Ok(())
    }
}

fn class(doing: Doing) -> &'static str {
    match (doing.state, doing.mode) {
        (State::Held, Mode::Exclusive) => "exclusive",
        (State::Held, Mode::Shared) => "shared",
        (State::Waits, _) => "waits",
    }
}

fn words(doing: Doing) -> &'static str {
    match (doing.state, doing.mode) {
        (State::Held, Mode::Exclusive) => "held exclusively",
        (State::Held, Mode::Shared) => "shared",
        (State::Waits, Mode::Exclusive) => "waited for the exclusive lock",
        (State::Waits, Mode::Shared) => "waited for the shared lock",
    }
}

fn title(process: &Process) -> String {
    match &process.command {
        Some(command) => format!("{} {command}", name(process)),
        None => name(process),
    }
}

/// A rectangle that shows its title if the pointer is over it.
fn rect(
    f: &mut impl Write,
    class: &str,
    (x, y): (f64, f64),
    (width, height): (f64, f64),
    title: &str,
) -> fmt::Result {
    write!(
        f,
        "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\""
    )?;
    match title {
        "" => f.write_str("/>\n"),
        title => writeln!(f, "><title>{}</title></rect>", escaped(title)),
    }
}

/// Text in the row that begins at `y`.
fn text(f: &mut impl Write, class: &str, (x, y): (f64, f64), text: &str) -> fmt::Result {
    let y = y + ROW * 0.7;
    let text = escaped(text);
    writeln!(
        f,
        "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{text}</text>"
    )
}

/// Text as XML has it. Characters that it cannot have become U+FFFD.
fn escaped(text: &str) -> Cow<'_, str> {
    let is_special =
        |c: char| matches!(c, '<' | '>' | '&' | '"' | '\u{fffe}' | '\u{ffff}') || c.is_control();
    if !text.contains(is_special) {
        return text.into();
    }
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
            c if is_special(c) => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped.into()
}

#[cfg(test)]
mod tests {
    use super::super::timeline::tests::{process, timeline};
    use super::*;

    #[test]
    fn each_process_has_a_lane_with_its_spans() {
        let lines = [
            (process(1, 0), "XX????????????XX"),
            (process(2, 0), "  ????????????SS"),
        ];
        let timeline = timeline("lock", &lines);
        let notes = ["a note".to_owned()];
        let svg = Svg {
            timeline: &timeline,
            notes: &notes,
        };
        let svg = svg.to_string();
        assert_eq!(svg.matches("<g class=\"process\">").count(), 2, "{svg}");
        // One each in the legend.
        assert_eq!(svg.matches("class=\"exclusive\"").count(), 2, "{svg}");
        assert_eq!(svg.matches("class=\"shared\"").count(), 2, "{svg}");
        assert_eq!(svg.matches("class=\"gap\"").count(), 3, "{svg}");
        let title = "1 command 1: held exclusively (flock) for 160 ms, from 0.000 s to 0.160 s";
        assert!(svg.contains(&format!("<title>{title}</title>")), "{svg}");
        assert!(svg.contains(">a note</text>"), "{svg}");
        assert!(!svg.contains("<script"), "{svg}");
    }

    #[test]
    fn a_path_without_processes_has_its_gaps() {
        let mut timeline = timeline("lock", &[]);
        timeline.end(Duration::from_secs(1));
        let notes = &[];
        let timeline = &timeline;
        let svg = Svg { timeline, notes }.to_string();
        assert!(
            svg.contains("<title>not looked at for 1.00 s</title>"),
            "{svg}"
        );
    }

    #[test]
    fn names_are_text_and_not_markup() {
        let mut hostile = process(1, 0);
        hostile.command = Some("</title><script>&\"\u{1}\u{ffff}".to_owned());
        let timeline = timeline("<a>\n&amp;", &[(hostile, "X")]);
        let svg = Svg {
            timeline: &timeline,
            notes: &[],
        };
        let svg = svg.to_string();
        assert!(!svg.contains("<script>") && !svg.contains("<a>"), "{svg}");
        assert!(svg.contains("&lt;/title&gt;&lt;script&gt;&amp;&quot;\u{fffd}\u{fffd}"));
        assert!(svg.contains(r"$'&lt;a&gt;\n&amp;amp;'"), "{svg}");
    }
}
