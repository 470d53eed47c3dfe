//! What the demo prints.

use std::collections::HashMap;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use serde::Serialize;

use crate::output::HumanDuration;

/// The protocol of a database.
pub(super) const SQLITE: &str = "sqlite-wal";

/// The results as printed.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) protocol: String,
    pub(super) expected: u64,
    pub(super) total: u64,
    pub(super) exact: bool,
    pub(super) seconds: f64,
    pub(super) hand_overs: usize,
    pub(super) participants: Vec<Participant>,
    pub(super) unlocked: Option<Unlocked>,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Participant {
    pub(super) name: String,
    pub(super) kind: &'static str,
    pub(super) increments: usize,
    pub(super) seconds: f64,
    pub(super) longest_wait: usize,
}

/// The result of counting without the lock.
#[derive(Debug, Serialize)]
pub(super) struct Unlocked {
    pub(super) expected: u64,
    pub(super) total: Option<u64>,
    pub(super) lost: Option<i64>,
    pub(super) runs: u32,
    pub(super) damaged: bool,
}

/// The positions of each participant's lines in the journal.
pub(super) struct Turns<'a>(HashMap<&'a str, Vec<usize>>);

impl<'a> Turns<'a> {
    pub(super) fn of(journal: &'a [String]) -> Self {
        let mut turns: HashMap<&str, Vec<usize>> = HashMap::new();
        for (i, name) in journal.iter().enumerate() {
            turns.entry(name).or_default().push(i);
        }
        Self(turns)
    }

    pub(super) fn count(&self, name: &str) -> usize {
        self.0.get(name).map_or(0, Vec::len)
    }

    /// The largest number of increments by others between two of its own.
    pub(super) fn longest_wait(&self, name: &str) -> usize {
        let lines = self.0.get(name).map_or(&[][..], Vec::as_slice);
        lines
            .windows(2)
            .map(|pair| pair[1] - pair[0] - 1)
            .max()
            .unwrap_or(0)
    }
}

impl Report {
    pub(super) fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let width = self
            .participants
            .iter()
            .map(|p| p.name.len())
            .max()
            .unwrap_or(0)
            .max(11);
        writeln!(
            out,
            "{:width$}  {:6}  {:>10}  {:>7}  {:>12}",
            "participant", "kind", "increments", "time", "longest wait"
        )?;
        for p in &self.participants {
            let time = format!("{:.2} s", p.seconds);
            let wait = format!("{} turns", p.longest_wait);
            writeln!(
                out,
                "{:width$}  {:6}  {:>10}  {time:>7}  {wait:>12}",
                p.name, p.kind, p.increments
            )?;
        }
        let time = HumanDuration(Duration::from_secs_f64(self.seconds));
        let verdict = if self.exact { "exact" } else { "WRONG" };
        let (with, without) = match self.protocol.as_str() {
            SQLITE => (
                "With Locket in components:                 ".to_owned(),
                "With SQLite's dot-file locks in components:",
            ),
            protocol => (
                format!("With the lock ({protocol}):"),
                "Without the lock:      ",
            ),
        };
        writeln!(out)?;
        writeln!(
            out,
            "{with}  {} of {}, {}; it changed hands {} times in {time}",
            self.total,
            self.expected,
            paint(verdict, if self.exact { "32" } else { "31" }),
            self.hand_overs,
        )?;
        let Some(unlocked) = &self.unlocked else {
            return writeln!(
                out,
                "Without the lock:  no other participant to collide with; add participants"
            );
        };
        let Unlocked {
            expected,
            total,
            lost,
            runs,
            damaged,
        } = unlocked;
        let verdict = match lost {
            None if self.protocol == SQLITE => paint("the database cannot be read", "31"),
            None => paint("the number cannot be read", "31"),
            Some(lost @ 1..) => paint(&format!("{lost} counts lost"), "31"),
            Some(0) if *damaged => "nothing lost".to_owned(),
            Some(0) => "nothing lost, by luck; try more --increments".to_owned(),
            Some(_) => paint("wrong, because writes overlapped", "31"),
        };
        let damage = if *damaged && lost.is_some() {
            format!(", {}", paint("the database is damaged", "31"))
        } else {
            String::new()
        };
        let runs = if *runs > 1 {
            format!(" (in run {runs})")
        } else {
            String::new()
        };
        let total = total.map_or("unknown".to_owned(), |total| total.to_string());
        writeln!(
            out,
            "{without}  {total} of {expected}, {verdict}{damage}{runs}"
        )
    }
}

/// Colors text if standard output is a terminal that supports color.
fn paint(text: &str, color: &str) -> String {
    if io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
        format!("\x1b[{color}m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}
