//! Reads one command for a lock a line from standard input, and answers each with
//! one line: `ok` and a result, or `err` and a reason.
//!
//! | command | result |
//! |---|---|
//! | `open H PATH [keep\|remove] [PROTOCOL]` | |
//! | `acquire H exclusive\|shared none\|MS` | the grant |
//! | `release H` | |
//! | `guard G H exclusive\|shared none\|MS` | the grant |
//! | `unguard G` (a `drop` that reports errors) | |
//! | `drop H\|G`, `leak H\|G` | |
//! | `is-locked H` | `true` or `false` |
//! | `state H`, `holder H`, `guarantee H`, `path H` | the answer of that method |
//! | `with PATH none\|MS`, `with-panic PATH none\|MS` | |
//! | `read PATH`, `write PATH TEXT` | the text |
//! | `elapsed` | the milliseconds that the previous command took |
//! | `trap`, `spin`, `exit N` | none |
//!
//! The test chooses the names H and G. Paths, texts and labels are percent-encoded.
//! While a handle has a guard, its `acquire` and `release` are refused, as the
//! compiler would refuse them, and its `drop` takes effect after that of the guard.

use locket_guest::{Guard, Holder, LockFile, Options, Scope, with_lock};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};
use std::{fs, mem, process};
use support::{
    Failure, decode, encode, grant, mode, or_none, parse_mode, parse_on_release, parse_protocol,
    parse_timeout, state,
};

fn main() -> std::io::Result<()> {
    let mut session = Session::default();
    let mut elapsed = Duration::ZERO;
    support::serve(|words| {
        let start = Instant::now();
        let result = match words {
            ["elapsed"] => Ok(elapsed.as_millis().to_string()),
            words => session.run(words),
        };
        elapsed = start.elapsed();
        result
    })
}

#[derive(Default)]
struct Session {
    locks: BTreeMap<String, Rc<LockFile>>,
    guards: BTreeMap<String, Held>,
}

/// A guard together with what it borrows. The fields are dropped in this order.
struct Held {
    guard: Guard<'static>,
    _lock: Rc<LockFile>,
}

impl Session {
    fn run(&mut self, words: &[&str]) -> Result<String, Failure> {
        match *words {
            ["open", name, path, ref options @ ..] => {
                let path = decode(path)?;
                let lock = match *options {
                    [] => LockFile::open(&path)?,
                    [on_release, ref protocol @ ..] => {
                        let protocol = protocol.first().map(|name| parse_protocol(name));
                        let options = Options {
                            protocol: protocol.transpose()?,
                            on_release: parse_on_release(on_release)?,
                        };
                        LockFile::open_with(&path, &options)?
                    }
                };
                self.locks.insert(name.to_string(), Rc::new(lock));
            }
            ["acquire", name, mode, timeout] => {
                let (mode, timeout) = (parse_mode(mode)?, parse_timeout(timeout)?);
                return Ok(grant(self.lock_mut(name)?.lock(mode, timeout)?));
            }
            ["release", name] => self.lock_mut(name)?.release()?,
            ["guard", name, lock, mode, timeout] => {
                let lock = Rc::clone(self.lock(lock)?);
                let held = Held::new(lock, mode, timeout)?;
                let granted = held.guard.grant();
                self.guards.insert(name.to_string(), held);
                return Ok(grant(granted));
            }
            ["unguard", name] => {
                let held = self.guards.remove(name);
                held.ok_or_else(unknown)?.guard.release()?;
            }
            ["drop", name] => {
                if self.guards.remove(name).is_none() {
                    self.locks.remove(name).ok_or_else(unknown)?;
                }
            }
            ["leak", name] => match self.guards.remove(name) {
                Some(held) => mem::forget(held),
                None => mem::forget(self.locks.remove(name).ok_or_else(unknown)?),
            },
            ["is-locked", name] => return Ok(self.lock(name)?.is_locked()?.to_string()),
            ["state", name] => return Ok(state(self.lock(name)?.state())),
            ["holder", name] => return Ok(holder(self.lock(name)?.holder()?)),
            ["guarantee", name] => return Ok(guarantee(self.lock(name)?)),
            // Ask the host, not the crate.
            ["path", name] => return Ok(encode(self.lock(name)?.as_raw().path().as_bytes())),
            ["with", path, timeout] => {
                with_lock(&decode(path)?, parse_timeout(timeout)?, || ())?;
            }
            ["with-panic", path, timeout] => {
                with_lock(&decode(path)?, parse_timeout(timeout)?, || {
                    panic!("on request")
                })?;
            }
            ["read", path] => return Ok(encode(&fs::read(decode(path)?)?)),
            ["write", path, text] => fs::write(decode(path)?, decode(text)?)?,
            ["trap"] => core::arch::wasm32::unreachable(),
            ["spin"] => loop {
                std::hint::spin_loop();
            },
            ["exit", code] => process::exit(code.parse().map_err(|_| Failure::usage("code"))?),
            _ => return Err(Failure::usage("command")),
        }
        Ok(String::new())
    }

    fn lock(&self, name: &str) -> Result<&Rc<LockFile>, Failure> {
        self.locks.get(name).ok_or_else(unknown)
    }

    fn lock_mut(&mut self, name: &str) -> Result<&mut LockFile, Failure> {
        let lock = self.locks.get_mut(name).ok_or_else(unknown)?;
        Rc::get_mut(lock).ok_or_else(|| Failure::usage("guarded"))
    }
}

impl Held {
    fn new(lock: Rc<LockFile>, mode: &str, timeout: &str) -> Result<Self, Failure> {
        // SAFETY: the lock is kept alive beside the guard, which is dropped first.
        let borrowed: &'static LockFile = unsafe { &*Rc::as_ptr(&lock) };
        let guard = borrowed.acquire(parse_mode(mode)?, parse_timeout(timeout)?)?;
        Ok(Self { guard, _lock: lock })
    }
}

fn unknown() -> Failure {
    Failure::usage("name")
}

fn holder(holder: Option<Holder>) -> String {
    let Some(holder) = holder else {
        return "none".to_string();
    };
    let label = holder.label.map(|label| encode(label.as_bytes()));
    format!(
        "label={} mode={} self={}",
        or_none(label),
        or_none(holder.mode.map(mode)),
        holder.is_self
    )
}

fn guarantee(lock: &LockFile) -> String {
    let guarantee = lock.guarantee();
    let scope = match guarantee.scope {
        Scope::Host => "host",
        Scope::ClusterFileSystem => "cluster-file-system",
        Scope::Cluster => "cluster",
    };
    format!(
        "scope={scope} ttl={} fifo={} fencing={}",
        or_none(guarantee.ttl.map(|time| time.as_millis())),
        guarantee.fifo,
        guarantee.fencing
    )
}
