//! What a subject reports to the process that started it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use locket::Error;
use serde::{Deserialize, Serialize};

/// The answer to an operation.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Done {
    /// Its result.
    pub result: Result<Answer, Failure>,
    /// What the process knows of its own hold.
    pub state: OwnState,
}

/// What a successful operation answers.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Answer {
    /// Nothing in particular.
    Done,
    /// Whether there is a holder.
    IsHeld(bool),
}

/// An error.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Failure {
    /// Its message.
    pub text: String,
    /// Its kind, by the first predicate that is true.
    pub kind: Option<String>,
    /// The path that it names.
    pub path: PathBuf,
    /// The error of the system.
    pub cause: Option<String>,
}

/// Whether the process holds the lock, as it sees it.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum OwnState {
    /// It is.
    Held,
    /// It is not.
    Unlocked,
    /// It was.
    Lost,
}

/// How the process continued without faults.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct After {
    /// The result of acquiring and releasing the lock once more.
    pub again: Result<(), Failure>,
    /// Its descriptors and threads at the start.
    pub before: Resources,
    /// The same at the end, with all locks closed.
    pub after: Resources,
}

/// The descriptors and threads of a process by what they are, and how many of each.
pub type Resources = BTreeMap<String, usize>;

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        let kinds = [
            ("would-block", error.is_would_block()),
            ("timeout", error.is_timeout()),
            ("not-locked", error.is_not_locked()),
            ("not-owner", error.is_not_owner()),
            ("deadlock", error.is_deadlock()),
            ("denied", error.is_denied()),
            ("not-found", error.is_not_found()),
            ("invalid-path", error.is_invalid_path()),
            ("limit-exceeded", error.is_limit_exceeded()),
            ("unsupported", error.is_unsupported()),
            ("lost", error.is_lost()),
            ("canceled", error.is_canceled()),
            ("io", error.is_io()),
        ];
        let kind = kinds.into_iter().find(|(_, is)| *is);
        Self {
            text: error.to_string(),
            kind: kind.map(|(kind, _)| kind.to_owned()),
            path: error.path().to_owned(),
            cause: error.os_error().map(ToString::to_string),
        }
    }
}
