//! Locks ranges of files. Reads one command a line from standard input, and answers
//! each with one line: `ok` and a result, or `err` and a reason.
//!
//! | command | result |
//! |---|---|
//! | `open H PATH` | |
//! | `lend H PATH read\|write\|directory` (opens it through WASI, and lends the descriptor) | |
//! | `lock H exclusive\|shared START LENGTH none\|MS` | |
//! | `unlock H START LENGTH` | |
//! | `query H exclusive\|shared START LENGTH` | `none`, or mode, start and length |
//! | `start N H exclusive\|shared START LENGTH none\|MS` | |
//! | `wait N none\|MS` (polls for it, or a timer) | `ready` or `timer` |
//! | `finish N` | `none`, or nothing |
//! | `abandon N` | |
//! | `fill H COUNT` (locks so many single bytes, apart from one another) | how many it got, and the error |
//! | `flock G PATH read\|write exclusive\|shared` (the lock of the whole file, by descriptor) | |
//! | `file F PATH`, `file-lock\|file-try F exclusive\|shared`, `file-unlock F` (as the standard library) | |
//! | `drop NAME` | |

use locket_guest::{File, LockFile, Mode, Options, PendingRange, Protocol, RangeFile};
use std::collections::BTreeMap;
use std::time::Duration;
use support::{Failure, decode, kind, parse_mode, parse_timeout};
use wasip2::clocks::monotonic_clock;
use wasip2::filesystem::preopens::get_directories;
use wasip2::filesystem::types::{Descriptor, DescriptorFlags, OpenFlags, PathFlags};
use wasip2::io::poll::poll;

fn main() -> std::io::Result<()> {
    let mut session = Session::default();
    support::serve(|words| session.run(words))
}

#[derive(Default)]
struct Session {
    files: BTreeMap<String, RangeFile>,
    locks: BTreeMap<String, LockFile>,
    std_files: BTreeMap<String, File>,
    pending: BTreeMap<String, PendingRange>,
}

impl Session {
    fn run(&mut self, words: &[&str]) -> Result<String, Failure> {
        match *words {
            ["open", name, path] => {
                let file = RangeFile::open(decode(path)?)?;
                self.files.insert(name.to_string(), file);
            }
            ["lend", name, path, how] => {
                let file = RangeFile::of(&open(&decode(path)?, how)?)?;
                self.files.insert(name.to_string(), file);
            }
            ["lock", name, mode, start, length, timeout] => {
                let (mode, timeout) = (parse_mode(mode)?, parse_timeout(timeout)?);
                let file = self.file(name)?;
                match bytes(start, length)? {
                    (start, 0) => file.lock(mode, start.., timeout)?,
                    (start, length) => file.lock(mode, span(start, length), timeout)?,
                }
            }
            ["unlock", name, start, length] => match bytes(start, length)? {
                (start, 0) => self.file(name)?.unlock(start..)?,
                (start, length) => self.file(name)?.unlock(span(start, length))?,
            },
            ["query", name, mode, start, length] => {
                let (mode, file) = (parse_mode(mode)?, self.file(name)?);
                let found = match bytes(start, length)? {
                    (start, 0) => file.query(mode, start..)?,
                    (start, length) => file.query(mode, span(start, length))?,
                };
                return Ok(found.map_or("none".to_string(), |found| {
                    let range = found.range;
                    format!(
                        "{} {} {}",
                        support::mode(found.mode),
                        range.start,
                        range.length
                    )
                }));
            }
            ["start", name, file, mode, start, length, timeout] => {
                let (mode, timeout) = (parse_mode(mode)?, parse_timeout(timeout)?);
                let (start, length) = bytes(start, length)?;
                let file = self.file(file)?;
                let pending = file.start(mode, span(start, length), timeout)?;
                self.pending.insert(name.to_string(), pending);
            }
            ["wait", name, timeout] => {
                let timeout = parse_timeout(timeout)?.unwrap_or(Duration::from_secs(3600));
                let nanos = u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX);
                let timer = monotonic_clock::subscribe_duration(nanos);
                let answer = self.pending(name)?.subscribe();
                let ready = poll(&[&answer, &timer]);
                let which = if ready.contains(&0) { "ready" } else { "timer" };
                return Ok(which.to_string());
            }
            ["finish", name] => match self.pending(name)?.finish() {
                None => return Ok("none".to_string()),
                Some(answer) => answer?,
            },
            ["abandon", name] => drop(self.pending.remove(name).ok_or_else(unknown)?),
            ["fill", name, count] => {
                let count: u64 = number(count)?;
                let file = self.file(name)?;
                for byte in 0..count {
                    let at = 2 * byte;
                    if let Err(error) = file.lock(Mode::Exclusive, at..=at, None) {
                        return Ok(format!("{byte} {}", kind(error.kind())));
                    }
                }
                return Ok(format!("{count} none"));
            }
            ["flock", name, path, how, mode] => {
                let options = Options {
                    protocol: Some(Protocol::Flock),
                    on_release: locket_guest::OnRelease::Keep,
                };
                let mut lock = LockFile::of(&open(&decode(path)?, how)?, &options)?;
                lock.lock(parse_mode(mode)?, Duration::ZERO)?;
                self.locks.insert(name.to_string(), lock);
            }
            ["file", name, path] => {
                let file = File::options().read(true).open(decode(path)?)?;
                self.std_files.insert(name.to_string(), file);
            }
            ["file-lock", name, mode] => match parse_mode(mode)? {
                Mode::Exclusive => self.std_file(name)?.lock()?,
                Mode::Shared => self.std_file(name)?.lock_shared()?,
            },
            ["file-try", name, mode] => {
                let tried = match parse_mode(mode)? {
                    Mode::Exclusive => self.std_file(name)?.try_lock(),
                    Mode::Shared => self.std_file(name)?.try_lock_shared(),
                };
                tried.map_err(std::io::Error::from)?;
            }
            ["file-unlock", name] => self.std_file(name)?.unlock()?,
            ["drop", name] => {
                let file = self.files.remove(name).is_some();
                let file = self.std_files.remove(name).is_some() || file;
                if !file && self.locks.remove(name).is_none() {
                    return Err(unknown());
                }
            }
            _ => return Err(Failure::usage("command")),
        }
        Ok(String::new())
    }

    fn file(&self, name: &str) -> Result<&RangeFile, Failure> {
        self.files.get(name).ok_or_else(unknown)
    }

    fn std_file(&self, name: &str) -> Result<&File, Failure> {
        self.std_files.get(name).ok_or_else(unknown)
    }

    fn pending(&self, name: &str) -> Result<&PendingRange, Failure> {
        self.pending.get(name).ok_or_else(unknown)
    }
}

fn unknown() -> Failure {
    Failure::usage("name")
}

fn number(word: &str) -> Result<u64, Failure> {
    word.parse().map_err(|_| Failure::usage("number"))
}

fn bytes(start: &str, length: &str) -> Result<(u64, u64), Failure> {
    Ok((number(start)?, number(length)?))
}

fn span(start: u64, length: u64) -> std::ops::RangeInclusive<u64> {
    start..=start.saturating_add(length - 1)
}

/// Opens a file, or the directory itself, below `/locks`.
fn open(path: &str, how: &str) -> Result<Descriptor, Failure> {
    let refused = |_| Failure::usage("path");
    let mut directories = get_directories().into_iter();
    let dir = directories.find(|(_, name)| name == "/locks");
    let (dir, _) = dir.ok_or_else(unknown)?;
    let path = path.trim_start_matches("/locks/");
    let (flags, open) = match how {
        "read" => (DescriptorFlags::READ, OpenFlags::empty()),
        "write" => {
            let flags = DescriptorFlags::READ | DescriptorFlags::WRITE;
            (flags, OpenFlags::CREATE)
        }
        "directory" => (DescriptorFlags::READ, OpenFlags::DIRECTORY),
        _ => return Err(Failure::usage("how")),
    };
    let follow = PathFlags::SYMLINK_FOLLOW;
    dir.open_at(follow, path, open, flags).map_err(refused)
}
