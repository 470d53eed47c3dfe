//! What the errors of the client library mean for a lock.

use std::error::Error as _;
use std::io::{Error, ErrorKind};
use std::time::Duration;

use tokio_postgres::error::SqlState;

use super::super::unavailable;

/// The error of a conversation with `server`, which is a host and a port.
pub(super) fn failed(error: &tokio_postgres::Error, server: &str) -> Error {
    if let Some(said) = error.as_db_error() {
        let why = format!("{server}: {} ({})", said.message(), said.code().code());
        return match kind(said.code()) {
            Some(kind) => Error::new(kind, why),
            None => unavailable(why),
        };
    }
    let why = format!("{server}: {}", with_causes(error));
    if is_refused_by_tls(error) {
        return Error::new(ErrorKind::PermissionDenied, why);
    }
    // The library's error has no kind to match.
    match error.to_string().as_str() {
        "error performing TLS handshake" => Error::new(ErrorKind::Unsupported, why),
        "invalid configuration" if why.ends_with("password missing") => {
            Error::new(ErrorKind::PermissionDenied, why)
        }
        "invalid configuration" => Error::new(ErrorKind::InvalidInput, why),
        "authentication error" => Error::new(ErrorKind::PermissionDenied, why),
        "unexpected message from server" | "error parsing response from server" => {
            Error::new(ErrorKind::Unsupported, why)
        }
        _ => unavailable(why),
    }
}

/// `None` for a server that takes part again later.
fn kind(code: &SqlState) -> Option<ErrorKind> {
    Some(match *code {
        SqlState::INVALID_PASSWORD
        | SqlState::INVALID_AUTHORIZATION_SPECIFICATION
        | SqlState::INSUFFICIENT_PRIVILEGE => ErrorKind::PermissionDenied,
        SqlState::T_R_DEADLOCK_DETECTED => ErrorKind::Deadlock,
        SqlState::LOCK_NOT_AVAILABLE => ErrorKind::TimedOut,
        SqlState::QUERY_CANCELED => ErrorKind::Interrupted,
        SqlState::FEATURE_NOT_SUPPORTED
        | SqlState::PROTOCOL_VIOLATION
        | SqlState::UNDEFINED_OBJECT
        | SqlState::UNDEFINED_TABLE
        | SqlState::UNDEFINED_FUNCTION
        | SqlState::READ_ONLY_SQL_TRANSACTION => ErrorKind::Unsupported,
        ref code if is_gone(code) => return None,
        ref code if code.code().starts_with("53") => return None,
        SqlState::INVALID_CATALOG_NAME => return None,
        _ => ErrorKind::Other,
    })
}

/// Whether the session is gone that got this answer.
fn is_gone(code: &SqlState) -> bool {
    let code = code.code();
    code.starts_with("08") || code.starts_with("57P")
}

/// Whether the other side is not the one that it should be, or says so of this side.
fn is_refused_by_tls(error: &tokio_postgres::Error) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        let inner = error
            .downcast_ref::<Error>()
            .and_then(|error| error.get_ref())
            .and_then(|inner| inner.downcast_ref::<rustls::Error>());
        if let Some(error) = inner.or_else(|| error.downcast_ref()) {
            use rustls::Error as E;
            return matches!(error, E::InvalidCertificate(_) | E::AlertReceived(_));
        }
        cause = error.source();
    }
    false
}

/// An error and what lies beneath, in one line.
pub(super) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let error_text = error.to_string();
        // Some repeat what is beneath them.
        if !text.ends_with(&error_text) {
            text = format!("{text}: {error_text}");
        }
        cause = error.source();
    }
    text
}

/// The error of a server that did not answer in time.
pub(super) fn no_answer(server: &str, limit: Duration) -> Error {
    unavailable(format!("{server}: no answer within {limit:?}"))
}

/// The error of what cannot keep locks.
pub(super) fn unsupported(server: &str, why: &str) -> Error {
    Error::new(ErrorKind::Unsupported, format!("{server}: {why}"))
}

/// Whether the session broke, so that another one may do better.
pub(super) fn is_broken(error: &Error) -> bool {
    error.kind() == ErrorKind::NotConnected
}
