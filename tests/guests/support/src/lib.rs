//! Parses the commands of the test guests and formats their replies. They use the
//! names of the interface. In texts, a byte can be written as `%` and two
//! hexadecimal digits.

#![no_std]

extern crate alloc;
#[cfg(feature = "stdio")]
extern crate std;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Write;
use core::time::Duration;
use locket_guest::{ErrorKind, Grant, IoKind, LostReason, Mode, OnRelease, Protocol, State};

#[cfg(feature = "stdio")]
mod stdio;
#[cfg(feature = "stdio")]
pub use stdio::serve;

/// Why a command failed: the part of the reply after `err`.
pub struct Failure(String);

impl Failure {
    /// The command is invalid, which is a mistake in the test.
    pub fn usage(what: &str) -> Self {
        Self(format!("usage {what}"))
    }
}

impl From<locket_guest::Error> for Failure {
    fn from(error: locket_guest::Error) -> Self {
        Self(kind(error.kind()))
    }
}

/// `ok` and the text, or `err` and the reason.
pub fn reply(result: Result<String, Failure>) -> String {
    match result {
        Ok(text) if text.is_empty() => "ok".to_string(),
        Ok(text) => format!("ok {text}"),
        Err(Failure(reason)) => format!("err {reason}"),
    }
}

/// The kind of an error, by its name in the interface, followed by its payload.
pub fn kind(kind: &ErrorKind) -> String {
    let name = match kind {
        ErrorKind::WouldBlock => "would-block",
        ErrorKind::Timeout => "timeout",
        ErrorKind::NotLocked => "not-locked",
        ErrorKind::NotOwner => "not-owner",
        ErrorKind::Deadlock => "deadlock",
        ErrorKind::AccessDenied => "access-denied",
        ErrorKind::NoEntry => "no-entry",
        ErrorKind::InvalidPath => "invalid-path",
        ErrorKind::LimitExceeded => "limit-exceeded",
        ErrorKind::NotSupported => "not-supported",
        ErrorKind::Unavailable => "unavailable",
        ErrorKind::Lost(reason) => return format!("lost {}", lost(*reason)),
        ErrorKind::Canceled => "canceled",
        ErrorKind::Io(kind) => return format!("io {}", io(*kind)),
        ErrorKind::Other(Some(why)) => return format!("other {}", encode(why.as_bytes())),
        ErrorKind::Other(None) => "other",
    };
    name.to_string()
}

/// `token=N|none valid-for=MS|none`.
pub fn grant(grant: Grant) -> String {
    let valid_for = grant.valid_for.map(|time| time.as_millis());
    format!(
        "token={} valid-for={}",
        or_none(grant.token),
        or_none(valid_for)
    )
}

/// `unlocked`, `held` and the grant, `uncertain MS`, or `lost REASON`.
pub fn state(state: State) -> String {
    match state {
        State::Unlocked => "unlocked".to_string(),
        State::Held(held) => format!("held {}", grant(held)),
        State::Uncertain(left) => format!("uncertain {}", left.as_millis()),
        State::Lost(reason) => format!("lost {}", lost(reason)),
    }
}

/// The value, or `none`.
pub fn or_none(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "none".to_string(), |value| value.to_string())
}

/// The name of a mode.
pub fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Exclusive => "exclusive",
        Mode::Shared => "shared",
    }
}

/// Parses `exclusive` or `shared`.
pub fn parse_mode(text: &str) -> Result<Mode, Failure> {
    [Mode::Exclusive, Mode::Shared]
        .into_iter()
        .find(|candidate| mode(*candidate) == text)
        .ok_or_else(|| Failure::usage("mode"))
}

/// Parses a number of milliseconds, or `none`.
pub fn parse_timeout(text: &str) -> Result<Option<Duration>, Failure> {
    match text {
        "none" => Ok(None),
        text => match text.parse() {
            Ok(millis) => Ok(Some(Duration::from_millis(millis))),
            Err(_) => Err(Failure::usage("milliseconds")),
        },
    }
}

/// Parses a protocol, by its name in the interface.
pub fn parse_protocol(text: &str) -> Result<Protocol, Failure> {
    Ok(match text {
        "native" => Protocol::Native,
        "flock" => Protocol::Flock,
        "fcntl" => Protocol::Fcntl,
        "link" => Protocol::Link,
        "symlink" => Protocol::Symlink,
        "mkdir" => Protocol::Mkdir,
        "pid-file" => Protocol::PidFile,
        "soft" => Protocol::Soft,
        "sqlite" => Protocol::Sqlite,
        _ => return Err(Failure::usage("protocol")),
    })
}

/// Parses `keep` or `remove`.
pub fn parse_on_release(text: &str) -> Result<OnRelease, Failure> {
    match text {
        "keep" => Ok(OnRelease::Keep),
        "remove" => Ok(OnRelease::Remove),
        _ => Err(Failure::usage("keep or remove")),
    }
}

/// Decodes percent-encoded text.
pub fn decode(text: &str) -> Result<String, Failure> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        if byte == b'%' {
            let digits = tail.get(..2).and_then(|digits| str::from_utf8(digits).ok());
            let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
            bytes.push(byte.ok_or_else(|| Failure::usage("percent sign"))?);
            rest = &tail[2..];
        } else {
            bytes.push(byte);
            rest = tail;
        }
    }
    String::from_utf8(bytes).map_err(|_| Failure::usage("text that is not UTF-8"))
}

/// Percent-encodes every byte except printable ASCII, so that the result is one
/// word on one line.
pub fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for &byte in bytes {
        if byte.is_ascii_graphic() && byte != b'%' {
            text.push(byte.into());
        } else {
            // Writing to a string does not fail.
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

fn lost(reason: LostReason) -> &'static str {
    match reason {
        LostReason::Expired => "expired",
        LostReason::Broken => "broken",
        LostReason::Disconnected => "disconnected",
        LostReason::Io => "io",
    }
}

fn io(kind: IoKind) -> &'static str {
    match kind {
        IoKind::NoSpace => "no-space",
        IoKind::Quota => "quota",
        IoKind::ReadOnly => "read-only",
        IoKind::Stale => "stale",
        IoKind::TooManyFiles => "too-many-files",
        IoKind::TooManyLocks => "too-many-locks",
        IoKind::Other => "other",
    }
}
