//! The test guest in Rust.

use locket_guest::{LockFile, Mode, OnRelease, Options};
use std::cell::RefCell;
use std::collections::HashMap;
use support::{Failure, parse_mode, parse_protocol, parse_timeout};

wit_bindgen::generate!({
    path: "../../polyglot/wit",
    world: "polyglot",
    with: { "locket:lock/api@0.1.0": locket_guest::bindings::api },
});

use locket::test::counter;

thread_local! {
    static LOCKS: RefCell<HashMap<String, LockFile>> = RefCell::default();
}

struct Component;

impl Guest for Component {
    fn run(command: String) -> String {
        match obey(&command) {
            Ok(result) => support::reply(Ok(result)),
            Err(Error::Closed) => "err closed".into(),
            Err(Error::Inside) => "err inside".into(),
            Err(Error::Failure(failure)) => support::reply(Err(failure)),
        }
    }
}

export!(Component);

/// Why a command fails.
enum Error {
    /// There is no lock of that name.
    Closed,
    /// The deliberate failure of `scoped`.
    Inside,
    Failure(Failure),
}

impl<E: Into<Failure>> From<E> for Error {
    fn from(error: E) -> Self {
        Self::Failure(error.into())
    }
}

fn obey(command: &str) -> Result<String, Error> {
    let (verb, rest) = command.split_once(' ').unwrap_or((command, ""));
    let (name, rest) = rest.split_once(' ').unwrap_or((rest, ""));
    match verb {
        "open" => {
            let lock = open(rest)?;
            LOCKS.with_borrow_mut(|locks| locks.insert(name.into(), lock));
        }
        "drop" => {
            let lock = LOCKS.with_borrow_mut(|locks| locks.remove(name));
            drop(lock.ok_or(Error::Closed)?);
        }
        "trap" => panic!("on request"),
        _ => {
            return LOCKS.with_borrow_mut(|locks| {
                let lock = locks.get_mut(name).ok_or(Error::Closed)?;
                on(lock, verb, rest)
            });
        }
    }
    Ok(String::new())
}

fn open(words: &str) -> locket_guest::Result<LockFile> {
    if let Some((path, last)) = words.rsplit_once(' ')
        && let Ok(protocol) = parse_protocol(last)
    {
        let options = Options {
            protocol: Some(protocol),
            on_release: OnRelease::Keep,
        };
        return LockFile::open_with(path, &options);
    }
    LockFile::open(words)
}

fn on(lock: &mut LockFile, verb: &str, rest: &str) -> Result<String, Error> {
    match verb {
        "acquire" => {
            let (mode, timeout) = rest.split_once(' ').ok_or(Failure::usage("mode"))?;
            lock.lock(parse_mode(mode)?, parse_timeout(timeout)?)?;
        }
        "release" => lock.release()?,
        "is-locked" => return Ok(lock.is_locked()?.to_string()),
        "state" => {
            let state = support::state(lock.state());
            // Leave out the grant.
            let is_held = state.starts_with("held");
            return Ok(if is_held { "held".into() } else { state });
        }
        "scoped" => {
            return match scoped(lock, rest) {
                Err(Error::Inside) => Ok("inside".into()),
                other => other.map(|()| String::new()),
            };
        }
        "count" => {
            for _ in 0..rest.parse().map_err(|_| Failure::usage("number"))? {
                let _guard = lock.acquire(Mode::Exclusive, None)?;
                counter::write(counter::read() + 1);
            }
        }
        _ => return Err(Failure::usage("command").into()),
    }
    Ok(String::new())
}

fn scoped(lock: &LockFile, timeout: &str) -> Result<(), Error> {
    let timeout = parse_timeout(timeout)?.ok_or(Failure::usage("milliseconds"))?;
    let _guard = lock.acquire(Mode::Exclusive, timeout)?;
    Err(Error::Inside)
}
