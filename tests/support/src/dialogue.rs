//! The dialogue between a test and a holder of locks: one command a line, and one line of answer,
//! `ok` and a result, or `err` and the kind of error. The guest `remote` speaks it too, with the
//! words of the interface.
//!
//! | command | result |
//! |---|---|
//! | `open H PATH [keep\|remove] [PROTOCOL]` | |
//! | `acquire H MODE none\|MS`, `acquire-async H MODE none\|MS` | |
//! | `release H` | |
//! | `guard G H MODE none\|MS`, `unguard G` (a `drop` that reports errors) | |
//! | `drop H\|G` | |
//! | `is-locked H` | `true` or `false` |
//! | `state H` | `Unlocked`, `Held` or `Lost(REASON)` |
//! | `holder H` | `none`, or `mode=MODE self=true\|false pid=N\|none` |
//! | `guarantee H` | `scope=host ttl=MS\|none fifo=true\|false` |
//! | `path H` | the path |
//! | `break H` | |
//! | `with PATH none\|MS`, `with-panic PATH none\|MS` | |
//! | `elapsed` | the milliseconds that the command before took |
//! | `exit N`, `panic` | none |
//!
//! H and G are names that the test chooses. Paths are percent-encoded. A session that has one lock
//! only leaves its name out, and has two more commands: `let-go` drops the guards, and `by-path`
//! opens the lock anew, acquires it and drops it.

use std::collections::HashMap;
use std::fmt::Display;
use std::time::{Duration, Instant};

use locket::{Engine, Error, Guard, Holder, LockFile, Mode, OnRelease, Options};

use crate::waits::block_on;

/// What one side of the dialogue has open.
#[derive(Debug)]
pub struct Session {
    engine: Engine,
    options: Options,
    locks: HashMap<String, LockFile>,
    /// What was acquired, by the name of its handle.
    held: HashMap<String, Vec<Guard>>,
    guards: HashMap<String, Guard>,
    elapsed: Duration,
}

/// The name of the lock if there is only one.
const THE_LOCK: &str = "";

impl Session {
    /// A session in which `open` uses `options` unless the command says otherwise.
    pub fn new(engine: Engine, options: Options) -> Self {
        Self {
            engine,
            options,
            locks: HashMap::new(),
            held: HashMap::new(),
            guards: HashMap::new(),
            elapsed: Duration::ZERO,
        }
    }

    /// The same with one lock, which commands do not name.
    pub fn with_lock(engine: Engine, options: Options, lock: LockFile) -> Self {
        let mut session = Self::new(engine, options);
        session.locks.insert(THE_LOCK.into(), lock);
        session
    }

    /// The lock that a command names.
    pub fn lock(&self, name: &str) -> &LockFile {
        let lock = self.locks.get(name);
        lock.unwrap_or_else(|| panic!("no lock is named {name:?}"))
    }

    /// Does what a line says, and returns the line that answers it.
    ///
    /// # Panics
    ///
    /// If the line makes no sense, or is `panic`.
    pub fn obey(&mut self, line: &str) -> String {
        let words: Vec<_> = line.split(' ').collect();
        if words == ["elapsed"] {
            return format!("ok {}", self.elapsed.as_millis());
        }
        let start = Instant::now();
        let result = self.run(&words);
        self.elapsed = start.elapsed();
        match result {
            Ok(text) if text.is_empty() => "ok".into(),
            Ok(text) => format!("ok {text}"),
            Err(e) => format!("err {}", kind(&e)),
        }
    }

    fn run(&mut self, words: &[&str]) -> locket::Result<String> {
        match *words {
            ["open", name, path, ref options @ ..] => self.open(name, path, options)?,
            [
                acquire @ ("acquire" | "acquire-async"),
                ref name @ ..,
                mode,
                timeout,
            ] => {
                let name = one(name);
                let guard = acquired(self.lock(name), acquire, mode, timeout)?;
                self.held.entry(name.into()).or_default().push(guard);
            }
            ["release", ref name @ ..] => self.release(one(name))?,
            ["guard", name, lock, mode, timeout] => {
                let guard = acquired(self.lock(lock), "acquire", mode, timeout)?;
                self.guards.insert(name.into(), guard);
            }
            ["unguard", name] => {
                let guard = self.guards.remove(name).expect("the guard is named");
                guard.release()?;
            }
            ["drop", name] => self.drop(name),
            ["let-go"] => self.held.clear(),
            ["is-locked", ref name @ ..] => {
                return Ok(self.lock(one(name)).is_locked()?.to_string());
            }
            ["state", ref name @ ..] => return Ok(format!("{:?}", self.lock(one(name)).state())),
            ["holder", ref name @ ..] => return Ok(holder(self.lock(one(name)).holder()?)),
            ["guarantee", ref name @ ..] => return Ok(guarantee(self.lock(one(name)))),
            ["path", ref name @ ..] => {
                return Ok(encode(&self.lock(one(name)).path().to_string_lossy()));
            }
            ["break", ref name @ ..] => self.lock(one(name)).break_lock()?,
            ["with", path, timeout] => self.with(path, timeout, || ())?,
            ["with-panic", path, timeout] => self.with(path, timeout, || panic!("on request"))?,
            ["by-path"] => {
                let path = self.lock(THE_LOCK).path();
                let lock = self.engine.open_with(path, &self.options)?;
                drop(lock.acquire(Mode::Exclusive, None)?);
            }
            ["exit", code] => std::process::exit(code.parse().expect("an exit code")),
            ["panic"] => panic!("on request"),
            _ => panic!("unknown command: {words:?}"),
        }
        Ok(String::new())
    }

    fn open(&mut self, name: &str, path: &str, options: &[&str]) -> locket::Result<()> {
        let mut chosen = self.options.clone();
        if let [on_release, protocol @ ..] = options {
            chosen = chosen.on_release(match *on_release {
                "keep" => OnRelease::Keep,
                "remove" => OnRelease::Remove,
                word => panic!("neither keep nor remove: {word}"),
            });
            if let [protocol] = protocol {
                chosen = chosen.protocol(protocol.parse().expect("a protocol"));
            }
        }
        let lock = self.engine.open_with(decode(path), &chosen)?;
        self.locks.insert(name.into(), lock);
        Ok(())
    }

    fn release(&mut self, name: &str) -> locket::Result<()> {
        self.lock(name).release()?;
        for guards in self.held.values_mut() {
            guards.retain(Guard::is_held);
        }
        Ok(())
    }

    fn drop(&mut self, name: &str) {
        if self.guards.remove(name).is_none() {
            self.held.remove(name);
            self.locks.remove(name).expect("the lock is named");
        }
    }

    fn with(&self, path: &str, timeout: &str, body: impl FnOnce()) -> locket::Result<()> {
        let lock = self.engine.open_with(decode(path), &self.options)?;
        lock.with_lock(parse_timeout(timeout), body)
    }
}

fn one<'a>(name: &[&'a str]) -> &'a str {
    match *name {
        [] => THE_LOCK,
        [name] => name,
        _ => panic!("more than one name: {name:?}"),
    }
}

fn acquired(lock: &LockFile, how: &str, mode: &str, timeout: &str) -> locket::Result<Guard> {
    let mode = match mode {
        "exclusive" => Mode::Exclusive,
        "shared" => Mode::Shared,
        _ => panic!("unknown mode: {mode}"),
    };
    let timeout = parse_timeout(timeout);
    match how {
        "acquire" => lock.acquire(mode, timeout),
        _ => block_on(lock.acquire_async(mode, timeout)),
    }
}

fn parse_timeout(timeout: &str) -> Option<Duration> {
    let millis = || timeout.parse().expect("milliseconds");
    (timeout != "none").then(|| Duration::from_millis(millis()))
}

fn holder(holder: Option<Holder>) -> String {
    let Some(holder) = holder else {
        return "none".into();
    };
    let (mode, is_self, pid) = (holder.mode, holder.is_self, or_none(holder.pid));
    format!("mode={mode} self={is_self} pid={pid}")
}

fn guarantee(lock: &LockFile) -> String {
    let guarantee = lock.guarantee();
    let scope = match guarantee.scope {
        locket::Scope::Host => "host",
        _ => "cluster-file-system",
    };
    let ttl = or_none(guarantee.ttl.map(|ttl| ttl.as_millis()));
    format!("scope={scope} ttl={ttl} fifo={}", guarantee.fifo)
}

fn or_none(value: Option<impl Display>) -> String {
    value.map_or_else(|| "none".into(), |value| value.to_string())
}

/// The kind of an error, in one word.
pub fn kind(error: &Error) -> &'static str {
    let kinds = [
        (error.is_would_block(), "would-block"),
        (error.is_timeout(), "timeout"),
        (error.is_not_locked(), "not-locked"),
        (error.is_not_owner(), "not-owner"),
        (error.is_lost(), "lost"),
        (error.is_denied(), "denied"),
        (error.is_not_found(), "not-found"),
        (error.is_invalid_path(), "invalid-path"),
        (error.is_unsupported(), "unsupported"),
        (error.is_canceled(), "canceled"),
        (error.is_io(), "io"),
    ];
    let kind = kinds.into_iter().find_map(|(is, kind)| is.then_some(kind));
    kind.unwrap_or("other")
}

/// A text as one word: percent signs and what is not printable ASCII are encoded.
pub fn encode(text: &str) -> String {
    let mut word = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_graphic() && byte != b'%' {
            word.push(byte.into());
        } else {
            word.push_str(&format!("%{byte:02X}"));
        }
    }
    word
}

/// The text that [`encode`] made a word of.
///
/// # Panics
///
/// If it did not.
pub fn decode(word: &str) -> String {
    let mut bytes = Vec::with_capacity(word.len());
    let mut rest = word.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || char::from(rest.next().expect("a digit")).to_digit(16);
        let value = 16 * digit().expect("a digit") + digit().expect("a digit");
        bytes.push(u8::try_from(value).expect("two digits"));
    }
    String::from_utf8(bytes).expect("the text is UTF-8")
}
