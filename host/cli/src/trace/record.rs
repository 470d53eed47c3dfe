//! What a trace has seen so far.

use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

use super::events;
use super::sample::seen;
use super::text::short;
use super::timeline::Timeline;
use crate::exit::{self, ExitError};
use crate::output::{eprint_line, shown_path};
use crate::status::report::{Report, Unknown};
use crate::status::worker::Answer;

pub(super) struct Record {
    pub(super) timeline: Timeline,
    /// The changes as lines of JSON, until they are printed, if they are.
    lines: Option<String>,
    interval: Duration,
    /// Why the last look at each path failed, if it did.
    failures: Vec<Option<String>>,
    /// What cannot be seen.
    in_container: bool,
    on_other_hosts: bool,
    has_existence_lock: bool,
}

impl Record {
    pub(super) fn new(paths: &[PathBuf], interval: Duration, prints_changes: bool) -> Self {
        Self {
            timeline: Timeline::new(paths, interval),
            lines: prints_changes.then(String::new),
            interval,
            failures: vec![None; paths.len()],
            in_container: false,
            on_other_hosts: false,
            has_existence_lock: false,
        }
    }

    /// Adds the first answer about a path, which fails if it cannot be examined.
    pub(super) fn add_first(
        &mut self,
        path: usize,
        time: Duration,
        answer: Answer,
    ) -> anyhow::Result<()> {
        match answer {
            Ok(report) => self.add_report(path, time, report),
            Err(reason) => {
                Err(ExitError::new(exit::NO_INPUT, self.cannot_examine(path, &reason)).into())
            }
        }
    }

    /// Adds an answer. A path that cannot be examined any more was not looked at.
    pub(super) fn add(
        &mut self,
        path: usize,
        time: Duration,
        answer: Answer,
    ) -> anyhow::Result<()> {
        match answer {
            Ok(report) => {
                self.failures[path] = None;
                self.add_report(path, time, report)
            }
            Err(reason) => {
                if self.failures[path].as_ref() != Some(&reason) {
                    eprint_line(self.cannot_examine(path, &reason));
                    self.failures[path] = Some(reason);
                }
                Ok(())
            }
        }
    }

    fn add_report(&mut self, path: usize, time: Duration, report: Report) -> anyhow::Result<()> {
        self.in_container |= report.unknown == Some(Unknown::OutsideContainer);
        self.on_other_hosts |= report.unknown == Some(Unknown::OtherHosts);
        let mut protocols = report.holders.iter().map(|holder| holder.protocol);
        self.has_existence_lock |= protocols.any(locket::Protocol::is_existence_lock);
        for event in self.timeline.tracks[path].add(time, seen(report)) {
            if let Some(lines) = &mut self.lines {
                writeln!(lines, "{}", events::line(&event)?)?;
            }
        }
        Ok(())
    }

    /// Takes the lines that are to be printed now.
    pub(super) fn take_lines(&mut self) -> String {
        self.lines.as_mut().map(std::mem::take).unwrap_or_default()
    }

    fn cannot_examine(&self, path: usize, reason: &str) -> String {
        let path = &self.timeline.tracks[path].path;
        format!("cannot examine `{}`: {reason}", shown_path(path))
    }

    /// Reports the paths that have not answered so far.
    pub(super) fn report_unanswered(&self) {
        for path in self.unanswered() {
            let path = shown_path(path);
            eprint_line(format_args!("`{path}`: its file system has not answered"));
        }
    }

    /// The paths that have answered.
    pub(super) fn answered(&self) -> impl Iterator<Item = &PathBuf> {
        let tracks = self.timeline.tracks.iter();
        let answered = tracks.filter(|track| track.looks.count > 0);
        answered.map(|track| &track.path)
    }

    fn unanswered(&self) -> impl Iterator<Item = &PathBuf> {
        let tracks = self.timeline.tracks.iter();
        let unanswered = tracks.filter(|track| track.looks.count == 0);
        unanswered.map(|track| &track.path)
    }

    /// The exit code of the trace.
    pub(super) fn code(&self) -> u8 {
        let fails = self.failures.iter().any(Option::is_some) || self.unanswered().next().is_some();
        if fails { exit::NO_INPUT } else { 0 }
    }

    /// What a reader of the picture has to know.
    pub(super) fn notes(&self) -> Vec<String> {
        let tracks = &self.timeline.tracks;
        let count: u64 = tracks.iter().map(|track| track.looks.count).sum();
        let late: u64 = tracks.iter().map(|track| track.looks.late).sum();
        let longest = tracks.iter().map(|track| track.looks.longest_pause).max();
        let mut notes = vec![format!(
            "{count} looks, one every {}; what is shorter can be missed. Late looks: {late}; longest \
             pause: {}.",
            short(self.interval),
            short(longest.unwrap_or_default())
        )];
        let mut note = |applies, text: &str| {
            if applies {
                notes.push(text.to_owned());
            }
        };
        note(
            self.in_container,
            "Holders and waiters outside of this container are seen only in part.",
        );
        note(
            self.on_other_hosts,
            "Holders and waiters on other hosts are seen only in part.",
        );
        note(
            self.has_existence_lock,
            "Who waits for an existence lock cannot be seen.",
        );
        notes
    }
}
