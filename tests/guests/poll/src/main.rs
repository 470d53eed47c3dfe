//! Waits for several locks and a timer in one poll of WASI 0.2. Reads one command a
//! line from standard input, and answers each with one line: `ok` and a result, or
//! `err` and a reason.
//!
//! | command | result |
//! |---|---|
//! | `start N PATH exclusive\|shared none\|MS` | |
//! | `wait none\|MS` | the names that are ready, and `timer` |
//! | `finish N` | `none`, or the grant |
//! | `abandon N` | |
//! | `release N` | |
//! | `close N` | |
//! | `state N` | as in `remote` |
//! | `lost NAME N` | |
//! | `drop N` | |
//!
//! `start` opens a lock and begins to acquire it under the name N. `wait` polls
//! every acquire that was started and not finished. `abandon` drops the pending
//! acquire, and `close` drops the handle of the lock; both keep the pollable of
//! `wait`. `finish` keeps the guard, and `release` releases it. `lost` makes `wait`
//! also poll for the loss of a hold. `drop` drops everything under a name.

use locket_guest::{LockFile, OwnedGuard, Pending};
use std::collections::BTreeMap;
use std::time::Duration;
use support::{Failure, decode, grant, parse_mode, parse_timeout, state};
use wasip2::clocks::monotonic_clock;
use wasip2::io::poll::{Pollable, poll};

fn main() -> std::io::Result<()> {
    let mut session = Session::default();
    support::serve(|words| session.run(words))
}

#[derive(Default)]
struct Session {
    entries: BTreeMap<String, Entry>,
}

#[derive(Default)]
struct Entry {
    lock: Option<LockFile>,
    pending: Option<Pending>,
    pollable: Option<Pollable>,
    guard: Option<OwnedGuard>,
}

impl Session {
    fn run(&mut self, words: &[&str]) -> Result<String, Failure> {
        match *words {
            ["start", name, path, mode, timeout] => {
                let lock = LockFile::open(&decode(path)?)?;
                let pending = lock.start(parse_mode(mode)?, parse_timeout(timeout)?)?;
                let entry = Entry {
                    pollable: Some(pending.subscribe()),
                    pending: Some(pending),
                    lock: Some(lock),
                    guard: None,
                };
                self.entries.insert(name.to_string(), entry);
            }
            ["wait", timeout] => {
                return self.wait(parse_timeout(timeout)?);
            }
            ["finish", name] => {
                let entry = self.entry(name)?;
                let pending = entry.pending.as_ref().ok_or_else(unknown)?;
                let Some(answer) = pending.finish() else {
                    return Ok("none".to_string());
                };
                entry.pollable = None;
                let guard = answer?;
                let granted = guard.grant();
                entry.guard = Some(guard);
                return Ok(grant(granted));
            }
            ["abandon", name] => drop(self.entry(name)?.pending.take().ok_or_else(unknown)?),
            ["release", name] => {
                let guard = self.entry(name)?.guard.take();
                guard.ok_or_else(unknown)?.release()?;
            }
            ["close", name] => drop(self.entry(name)?.lock.take().ok_or_else(unknown)?),
            ["state", name] => return Ok(state(self.lock(name)?.state())),
            ["lost", name, lock] => {
                let entry = Entry {
                    pollable: Some(self.lock(lock)?.lost()),
                    ..Entry::default()
                };
                self.entries.insert(name.to_string(), entry);
            }
            ["drop", name] => drop(self.entries.remove(name).ok_or_else(unknown)?),
            _ => return Err(Failure::usage("command")),
        }
        Ok(String::new())
    }

    /// The names that are ready within the timeout, `timer` last.
    fn wait(&self, timeout: Option<Duration>) -> Result<String, Failure> {
        let timer = timeout.map(|time| {
            let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
            monotonic_clock::subscribe_duration(nanos)
        });
        let (names, pollables): (Vec<_>, Vec<_>) = self
            .entries
            .iter()
            .filter_map(|(name, entry)| Some((name.as_str(), entry.pollable.as_ref()?)))
            .chain(timer.as_ref().map(|timer| ("timer", timer)))
            .unzip();
        if pollables.is_empty() {
            return Err(Failure::usage("nothing to wait for"));
        }
        let ready: Vec<_> = poll(&pollables)
            .into_iter()
            .map(|index| names[index as usize])
            .collect();
        Ok(ready.join(" "))
    }

    fn entry(&mut self, name: &str) -> Result<&mut Entry, Failure> {
        self.entries.get_mut(name).ok_or_else(unknown)
    }

    fn lock(&mut self, name: &str) -> Result<&LockFile, Failure> {
        self.entry(name)?.lock.as_ref().ok_or_else(unknown)
    }
}

fn unknown() -> Failure {
    Failure::usage("name")
}
