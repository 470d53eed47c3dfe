//! Locks files that it has open in WASI 0.3. Reads one command a line from standard input, and
//! answers each with one line: `ok` and a result, or `err` and a reason.
//!
//! | command | result |
//! |---|---|
//! | `lock L PATH read\|write\|directory PROTOCOL keep\|remove` (opens it through WASI, and lends the descriptor) | |
//! | `acquire L exclusive\|shared none\|MS` | |
//! | `release L` | |
//! | `ranges R PATH read\|write\|directory` | |
//! | `lock-range R exclusive\|shared START LENGTH none\|MS` | |
//! | `unlock-range R START LENGTH` | |
//! | `drop NAME` | |

use locket_guest::{LockFile, Options, OwnedGuard, RangeFile};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::ops::Range;
use support::{Failure, decode, parse_mode, parse_on_release, parse_protocol, parse_timeout, reply};
use wasip3::exports::cli::run::Guest;
use wasip3::filesystem::preopens::get_directories;
use wasip3::filesystem::types::{Descriptor, DescriptorFlags, OpenFlags, PathFlags};

struct Lent;

impl Guest for Lent {
    async fn run() -> Result<(), ()> {
        let mut session = Session::default();
        for line in io::stdin().lines() {
            let line = line.map_err(drop)?;
            let words: Vec<_> = line.split_ascii_whitespace().collect();
            let answer = reply(session.run(&words).await);
            let mut stdout = io::stdout();
            writeln!(stdout, "{answer}").map_err(drop)?;
            stdout.flush().map_err(drop)?;
        }
        Ok(())
    }
}

#[derive(Default)]
struct Session {
    guards: BTreeMap<String, OwnedGuard>,
    locks: BTreeMap<String, LockFile>,
    files: BTreeMap<String, RangeFile>,
}

impl Session {
    async fn run(&mut self, words: &[&str]) -> Result<String, Failure> {
        match *words {
            ["lock", name, path, how, protocol, on_release] => {
                let options = Options {
                    protocol: Some(parse_protocol(protocol)?),
                    on_release: parse_on_release(on_release)?,
                };
                let file = open(&decode(path)?, how).await?;
                // The lock outlives the descriptor.
                let lock = LockFile::of(&file, &options)?;
                self.locks.insert(name.to_string(), lock);
            }
            ["acquire", name, mode, timeout] => {
                let (mode, timeout) = (parse_mode(mode)?, parse_timeout(timeout)?);
                let lock = self.locks.get(name).ok_or_else(unknown)?;
                let guard = lock.acquire_async(mode, timeout).await?;
                self.guards.insert(name.to_string(), guard);
            }
            ["release", name] => {
                let guard = self.guards.remove(name).ok_or_else(unknown)?;
                guard.release()?;
            }
            ["ranges", name, path, how] => {
                let file = RangeFile::of(&open(&decode(path)?, how).await?)?;
                self.files.insert(name.to_string(), file);
            }
            ["lock-range", name, mode, start, length, timeout] => {
                let (mode, timeout) = (parse_mode(mode)?, parse_timeout(timeout)?);
                let bytes = bytes(start, length)?;
                self.file(name)?.lock_async(mode, bytes, timeout).await?;
            }
            ["unlock-range", name, start, length] => {
                let bytes = bytes(start, length)?;
                self.file(name)?.unlock(bytes)?;
            }
            ["drop", name] => {
                if self.locks.remove(name).is_none() && self.files.remove(name).is_none() {
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
}

fn unknown() -> Failure {
    Failure::usage("name")
}

fn bytes(start: &str, length: &str) -> Result<Range<u64>, Failure> {
    let number = |word: &str| word.parse::<u64>().map_err(|_| Failure::usage("number"));
    let start = number(start)?;
    Ok(start..start.saturating_add(number(length)?))
}

/// Opens a file, or a directory, below `/locks`.
async fn open(path: &str, how: &str) -> Result<Descriptor, Failure> {
    let mut directories = get_directories().into_iter();
    let dir = directories.find(|(_, name)| name == "/locks");
    let (dir, _) = dir.ok_or_else(unknown)?;
    let path = path.trim_start_matches("/locks/").to_string();
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
    let opened = dir.open_at(follow, path, open, flags).await;
    opened.map_err(|_| Failure::usage("path"))
}

wasip3::cli::command::export!(Lent);
