//! What a lock protects: a counter and a log, which two exclusive holders at once spoil.
//!
//! The counter is read and later written. A line of the log is written in two pieces, one before and one
//! after the time that the section takes. The log shows which worker is between the pieces, and how far
//! a killed worker came.

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
    /// Opens the object of the lock `name` in the directory of objects, or creates it.
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
    /// Those of the file system; [`InvalidData`](io::ErrorKind::InvalidData) if it is not a number.
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

    /// What an exclusive holder does: adds one to the counter, and a line with its name to the log.
    /// Returns the counter before and after.
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
        // Formatted first, so that each piece is one system call.
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

    /// What a shared holder does: reads the counter twice.
    ///
    /// # Errors
    ///
    /// As [`count`](Self::count).
    pub fn look(&self, meanwhile: impl FnOnce()) -> io::Result<[u64; 2]> {
        let before = self.count()?;
        meanwhile();
        Ok([before, self.count()?])
    }

    /// The worker that has written the first piece of the last line and not yet the second.
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

/// The length of the counter: fixed, so that a new number overwrites all of the old one.
const DIGITS: usize = 20;

/// A line of the log.
#[derive(Clone, Debug, PartialEq)]
pub enum Line {
    /// With both pieces.
    Whole {
        /// The worker.
        worker: String,
        /// The number of its attempt.
        number: u64,
        /// The counter after the addition.
        count: u64,
        /// When the second piece was written.
        at: Time,
    },
    /// Anything else: the text.
    Torn(String),
}

/// What is found in an object after all workers have ended.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Remains {
    /// The counter; none if it is not a number.
    pub count: Option<u64>,
    /// The log.
    pub lines: Vec<Line>,
}

impl Remains {
    /// Reads the object of the lock `name`.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub fn read(dir: &Path, name: &str) -> io::Result<Self> {
        let count = Object::open(dir, name)?.count().ok();
        let log = fs::read(dir.join(format!("{name}.log")))?;
        let log = String::from_utf8_lossy(&log);
        let pieces = log.split_inclusive('<').scan("", |start, piece| {
            // A line begins with its bracket; what is before the first belongs to no worker.
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
    fn the_log_shows_the_writer_and_lines_that_were_cut_off() {
        let dir = tempfile::tempdir().expect("a directory can be created");
        let mut object = Object::open(dir.path(), "a").expect("the object can be opened");
        assert_eq!(object.look(|| ()).expect("the counter is a number"), [0, 0]);
        assert_eq!(
            object
                .add("p.1", 7, || ())
                .expect("the counter is a number"),
            [0, 1]
        );
        assert_eq!(object.writer().expect("the log can be read"), None);
        write!(object.log, "<q.1 9 ").expect("the log can be written");
        assert_eq!(
            object.writer().expect("the log can be read").as_deref(),
            Some("q.1")
        );
        assert_eq!(
            object
                .add("p.1", 8, || ())
                .expect("the counter is a number"),
            [1, 2]
        );
        let remains = Remains::read(dir.path(), "a").expect("the object can be opened");
        assert_eq!(remains.count, Some(2));
        let numbers = remains.lines.iter().map(|line| match line {
            Line::Whole { number, .. } => number.to_string(),
            Line::Torn(text) => text.clone(),
        });
        assert_eq!(numbers.collect::<Vec<_>>(), ["7", "<q.1 9 ", "8"]);
    }

    #[test]
    fn two_writers_at_once_tear_the_log() {
        let dir = tempfile::tempdir().expect("a directory can be created");
        let mut one = Object::open(dir.path(), "a").expect("the object can be opened");
        let mut two = Object::open(dir.path(), "a").expect("the object can be opened");
        one.add("p.1", 1, || {
            two.add("q.1", 1, || ()).expect("the counter is a number");
        })
        .expect("the counter is a number");
        let remains = Remains::read(dir.path(), "a").expect("the object can be opened");
        assert_eq!(remains.count, Some(1), "one count is lost");
        let torn = |line: &&Line| matches!(line, Line::Torn(_));
        assert_eq!(remains.lines.iter().filter(torn).count(), 2);
    }
}
