//! Text for people.

use std::ffi::OsString;
use std::fmt;
use std::io::Write;
use std::time::Duration;

/// Prints a message on standard error. Ignores write errors.
pub(crate) fn eprint_line(message: impl fmt::Display) {
    let _ = writeln!(std::io::stderr(), "locket: {message}");
}

/// Formats a duration for people.
pub(crate) fn human_duration(duration: Duration) -> String {
    if duration < Duration::from_secs(60) {
        let digits = if duration < Duration::from_secs(10) {
            2
        } else {
            0
        };
        format!("{:.digits$} s", duration.as_secs_f64())
    } else {
        indicatif::HumanDuration(duration).to_string()
    }
}

/// Joins a command line into one line of text.
pub(crate) fn one_line<'a>(words: impl IntoIterator<Item = &'a OsString>) -> String {
    let words: Vec<_> = words
        .into_iter()
        .map(|word| word.to_string_lossy())
        .collect();
    printable(&words.join(" "))
}

/// Makes untrusted text safe to print on a terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}
