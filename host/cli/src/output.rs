//! Text for people.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

/// Prints a message on standard error. Ignores write errors.
pub(crate) fn eprint_line(message: impl fmt::Display) {
    let _ = writeln!(std::io::stderr(), "locket: {message}");
}

/// A duration for people.
pub(crate) struct HumanDuration(pub(crate) Duration);

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs_f64();
        match self.0.as_secs() {
            0..10 => write!(f, "{seconds:.2} s"),
            10..60 => write!(f, "{seconds:.0} s"),
            _ => indicatif::HumanDuration(self.0).fmt(f),
        }
    }
}

/// Joins a command line into one line of text.
pub(crate) fn one_line<'a>(words: impl IntoIterator<Item = &'a OsString>) -> String {
    let words: Vec<_> = words.into_iter().map(|word| shell_word(word)).collect();
    words.join(" ")
}

/// A path in our output, in which `: ` ends it: as a [`shell_word`], quoted also if it contains that.
pub(crate) fn shown_path(path: &Path) -> Cow<'_, str> {
    let word = path.as_os_str();
    match word.to_str() {
        Some(text) if text.contains(": ") => Cow::Owned(quoted(word)),
        _ => shell_word(word),
    }
}

/// The message of an error of the lock engine, with its path as our output shows it.
pub(crate) fn shown_error(error: &locket::Error) -> String {
    let (message, path) = (error.to_string(), error.path());
    match shown_path(path) {
        Cow::Borrowed(_) => message,
        shown => message.replacen(&*path.to_string_lossy(), &shown, 1),
    }
}

/// A word as a shell takes it: as it is, or as `$'…'` with escapes if a terminal or a reader of lines
/// could take it for something else. The latter holds for control characters, those that change the
/// direction of text, bytes that are not UTF-8, and a `$'` at the start.
pub(crate) fn shell_word(word: &OsStr) -> Cow<'_, str> {
    match word.to_str() {
        Some(text) if !text.starts_with("$'") && !text.chars().any(misleads) => Cow::Borrowed(text),
        _ => Cow::Owned(quoted(word)),
    }
}

fn quoted(word: &OsStr) -> String {
    let mut quoted = String::from("$'");
    for chunk in word.as_encoded_bytes().utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' | '\'' => quoted.extend(['\\', c]),
                '\n' => quoted.push_str("\\n"),
                '\r' => quoted.push_str("\\r"),
                '\t' => quoted.push_str("\\t"),
                c if misleads(c) => {
                    quoted.push_str(&escaped(c.encode_utf8(&mut [0; 4]).as_bytes()));
                }
                c => quoted.push(c),
            }
        }
        quoted.push_str(&escaped(chunk.invalid()));
    }
    quoted.push('\'');
    quoted
}

/// Always three octal digits, so that no digit that follows can belong to the escape.
fn escaped(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("\\{byte:03o}")).collect()
}

/// Whether a character does not show as itself on a terminal.
fn misleads(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_misleads_is_escaped_as_a_shell_reads_it() {
        let cases = [
            ("plain name", "plain name"),
            ("größe.lock", "größe.lock"),
            ("it's", "it's"),
            ("a: free\nb", r"$'a: free\nb'"),
            ("\x1b[2J7", r"$'\033[2J7'"),
            ("$'x'", r"$'$\'x\''"),
            ("\u{202e}x", r"$'\342\200\256x'"),
        ];
        for (word, text) in cases {
            assert_eq!(shell_word(OsStr::new(word)), text);
        }
        #[cfg(unix)]
        {
            let word: &OsStr = std::os::unix::ffi::OsStrExt::from_bytes(b"\xff\\'\t");
            assert_eq!(shell_word(word), r"$'\377\\\'\t'");
        }
        assert_eq!(shown_path(Path::new("a: free")), "$'a: free'");
    }
}
