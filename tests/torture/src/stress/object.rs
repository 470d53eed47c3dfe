//! What a lock protects here: a counter and a log, neither of which survives two at once.
//!
//! The counter is read and later written; a line of the log is written in two pieces, one before
//! and one after what takes its time. Whoever is between the pieces can be told from the log,
//! and so can where somebody was killed.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use crate::stress::journal::{Time, now};

/// The protected object of one lock.
#[derive(Debug)]
pub struct Object {
    count: File,
    log: File,
}

impl Object {
    /// Opens that of the lock `name` in the directory of objects; makes it where it is missing.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub fn open(dir: &Path, name: &str) -> io::Result<Self> {
        let open = |kind| {
            let mut options = File::options();
            options.create(true).read(true);
            let path = dir.join(format!("{name}.{kind}"));
            move |append: bool| options.append(append).write(!append).open(&path)
        };
        Ok(Self {
            count: open("count")(false)?,
            log: open("log")(true)?,
        })
    }

    /// The number of the counter; 0 if there is none yet.
    ///
    /// # Errors
    ///
    /// Those of the file system, and [`InvalidData`](io::ErrorKind::InvalidData) where it is none.
    pub fn count(&self) -> io::Result<u64> {
        let mut digits = [0; DIGITS];
        match self.count.read_at(&mut digits, 0)? {
            0 => Ok(0),
            _ => str::from_utf8(&digits)
                .ok()
                .and_then(|digits| digits.parse().ok())
                .ok_or_else(|| io::ErrorKind::InvalidData.into()),
        }
    }

    /// What an exclusive holder does: adds one, and a line with its name. Answers what the counter
    /// was and is.
    ///
    /// # Errors
    ///
    /// As [`count`](Self::count).
    pub fn add(
        &mut self,
        worker: &str,
        number: u64,
        meanwhile: impl FnOnce(),
    ) -> io::Result<[u64; 2]> {
        let before = self.count()?;
        // Formatted first: each piece is one system call.
        let start = format!("<{worker} {number} ");
        self.log.write_all(start.as_bytes())?;
        meanwhile();
        let after = before + 1;
        let digits = format!("{after:0DIGITS$}");
        self.count.write_all_at(digits.as_bytes(), 0)?;
        let end = format!("{after} {}>\n", now());
        self.log.write_all(end.as_bytes())?;
        Ok([before, after])
    }

    /// What a shared holder does: looks twice.
    ///
    /// # Errors
    ///
    /// As [`count`](Self::count).
    pub fn look(&self, meanwhile: impl FnOnce()) -> io::Result<[u64; 2]> {
        let before = self.count()?;
        meanwhile();
        Ok([before, self.count()?])
    }

    /// Who has written the first piece of the last line and not yet the second.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub fn writer(&self) -> io::Result<Option<String>> {
        let mut tail = [0; 128];
        let size = self.log.metadata()?.len();
        let start = size.saturating_sub(tail.len() as u64);
        let read = self.log.read_at(&mut tail, start)?;
        let tail = String::from_utf8_lossy(&tail[..read]);
        let open = tail.rsplit_once('<').map(|(_, line)| line);
        let open = open.filter(|line| !line.contains('>'));
        Ok(open.and_then(|line| Some(line.split_once(' ')?.0.to_owned())))
    }
}

/// The length of the counter: always the same, so that a new number covers the old one.
const DIGITS: usize = 20;

/// A line of the log.
#[derive(Clone, Debug, PartialEq)]
pub enum Line {
    /// With both pieces.
    Whole {
        /// Whose.
        worker: String,
        /// In which section of this participant.
        number: u64,
        /// The counter afterwards.
        count: u64,
        /// When the second piece was written.
        at: Time,
    },
    /// Anything else: the text.
    Torn(String),
}

/// What was found in an object when everybody was gone.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Remains {
    /// The counter; none if it is no number.
    pub count: Option<u64>,
    /// The log.
    pub lines: Vec<Line>,
}

impl Remains {
    /// Those of the lock `name`.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub fn read(dir: &Path, name: &str) -> io::Result<Self> {
        let count = Object::open(dir, name)?.count().ok();
        let log = fs::read(dir.join(format!("{name}.log")))?;
        let log = String::from_utf8_lossy(&log);
        let pieces = log.split_inclusive('<').scan("", |start, piece| {
            // A line begins with its bracket; what is before the first belongs to nobody.
            let line = format!("{start}{}", piece.strip_suffix('<').unwrap_or(piece));
            *start = if piece.ends_with('<') { "<" } else { "" };
            Some(line)
        });
        let lines = pieces
            .filter(|line| !line.is_empty())
            .map(|line| parse(&line));
        Ok(Self {
            count,
            lines: lines.collect(),
        })
    }
}

fn parse(line: &str) -> Line {
    let whole = || {
        let words = line.strip_prefix('<')?.strip_suffix(">\n")?;
        let mut words = words.split(' ');
        let line = Line::Whole {
            worker: words.next()?.to_owned(),
            number: words.next()?.parse().ok()?,
            count: words.next()?.parse().ok()?,
            at: words.next()?.parse().ok()?,
        };
        words.next().is_none().then_some(line)
    };
    whole().unwrap_or_else(|| Line::Torn(line.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_remains_tells_who_was_there_and_who_was_cut_off() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut object = Object::open(dir.path(), "a").expect("an object");
        assert_eq!(object.look(|| ()).expect("a count"), [0, 0]);
        assert_eq!(object.add("p.1", 7, || ()).expect("a count"), [0, 1]);
        assert_eq!(object.writer().expect("a log"), None);
        write!(object.log, "<q.1 9 ").expect("half a line");
        assert_eq!(object.writer().expect("a log").as_deref(), Some("q.1"));
        assert_eq!(object.add("p.1", 8, || ()).expect("a count"), [1, 2]);
        let remains = Remains::read(dir.path(), "a").expect("an object");
        assert_eq!(remains.count, Some(2));
        let numbers = remains.lines.iter().map(|line| match line {
            Line::Whole { number, .. } => number.to_string(),
            Line::Torn(text) => text.clone(),
        });
        assert_eq!(numbers.collect::<Vec<_>>(), ["7", "<q.1 9 ", "8"]);
    }

    #[test]
    fn two_at_once_tear_the_log() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut one = Object::open(dir.path(), "a").expect("an object");
        let mut two = Object::open(dir.path(), "a").expect("an object");
        one.add("p.1", 1, || {
            two.add("q.1", 1, || ()).expect("a count");
        })
        .expect("a count");
        let remains = Remains::read(dir.path(), "a").expect("an object");
        assert_eq!(remains.count, Some(1), "one count is lost");
        let torn = |line: &&Line| matches!(line, Line::Torn(_));
        assert_eq!(remains.lines.iter().filter(torn).count(), 2);
    }
}
