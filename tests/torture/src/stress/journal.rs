//! The journal of a worker: a line for each event, in a file of its own.
//!
//! Each line is written before the worker continues, so the journal of a worker that is killed shows how
//! far it came. All times are nanoseconds since boot, by one clock for all processes.

use std::fmt;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// Nanoseconds since boot.
pub type Time = u64;

/// The time now.
pub fn now() -> Time {
    let now = clock_gettime(ClockId::Boottime);
    let nanos = now.tv_sec * 1_000_000_000 + now.tv_nsec;
    nanos.cast_unsigned()
}

/// What a hold excludes.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Every other hold.
    Exclusive,
    /// Exclusive holds only.
    Shared,
}

/// Why an acquire ended without the lock.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// It was a single try, and others held the lock.
    WouldBlock,
    /// Its timeout was over.
    Timeout,
    /// The worker dropped the future.
    Abandoned,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WouldBlock => "would block",
            Self::Timeout => "timeout",
            Self::Abandoned => "abandoned",
        })
    }
}

/// A line of a journal.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "event")]
pub enum Event {
    /// The worker is about to acquire a lock. The events up to the next of these are about this attempt.
    Ask {
        /// Number of this attempt of the worker.
        number: u64,
        /// Name of the lock.
        lock: String,
        /// What the hold is to exclude.
        mode: Mode,
        /// The timeout, in nanoseconds.
        limit: Option<u64>,
        /// Before the call.
        at: Time,
    },
    /// The worker has acquired the lock.
    Enter {
        /// After the call.
        at: Time,
    },
    /// The worker is about to release the lock.
    Leave {
        /// The counter on entering and now; none if the object was not used.
        counted: Option<[u64; 2]>,
        /// Before the call.
        at: Time,
    },
    /// The worker learned that the lock was lost.
    Lost {
        /// After it learned that.
        at: Time,
    },
    /// The worker did not get the lock.
    GaveUp {
        /// The reason.
        why: Why,
        /// After the call.
        at: Time,
    },
    /// A call failed that must not.
    Failed {
        /// The message.
        error: String,
        /// After the call.
        at: Time,
    },
    /// The worker has broken a lock that others may have held.
    Broke {
        /// Name of the lock.
        lock: String,
        /// Before the call.
        from: Time,
        /// After the call.
        at: Time,
    },
}

/// A journal that is being written.
#[derive(Debug)]
pub struct Journal(File);

impl Journal {
    /// Begins the journal of a worker in the directory of journals.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub fn begin(dir: &Path, worker: &str) -> io::Result<Self> {
        let path = dir.join(worker);
        File::options()
            .create_new(true)
            .append(true)
            .open(path)
            .map(Self)
    }

    /// Adds a line, in one system call.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub fn add(&mut self, event: &Event) -> io::Result<()> {
        let mut line = serde_json::to_vec(event)?;
        line.push(b'\n');
        self.0.write_all(&line)
    }
}

/// The lines of a journal. What follows the last line feed was cut off by a kill, and is dropped.
///
/// # Errors
///
/// A line that is not an event.
pub fn read(text: &str) -> serde_json::Result<Vec<Event>> {
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(serde_json::from_str).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_can_be_read_up_to_where_it_was_cut_off() {
        let dir = tempfile::tempdir().expect("a directory can be created");
        let mut journal = Journal::begin(dir.path(), "p.1").expect("the journal is a file");
        let ask = Event::Ask {
            number: 1,
            lock: "a".into(),
            mode: Mode::Shared,
            limit: Some(5),
            at: now(),
        };
        let events = [ask, Event::Enter { at: now() }];
        for event in &events {
            journal.add(event).expect("a line can be written");
        }
        let text = std::fs::read_to_string(dir.path().join("p.1")).expect("the journal is a file");
        assert_eq!(read(&text).expect("the lines can be parsed"), events);
        let cut = &text[..text.len() - 1];
        assert_eq!(read(cut).expect("the lines can be parsed"), events[..1]);
        assert!(read("nonsense\n").is_err());
    }
}
