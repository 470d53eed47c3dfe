//! What the errors of a request mean.

use std::error::Error as StdError;
use std::io;

use etcd_client::Error;
use tonic::{Code, Status};

use crate::remote::unavailable;

/// Why a request was not answered as it should be.
#[derive(Debug)]
pub(super) enum Failure {
    /// The server has refused it, and would again. It has not been carried out.
    Refused(io::Error),
    /// Its lease does not exist any more. It has not been carried out.
    NoLease,
    /// It may have been carried out, and may still be. A request that is safe to repeat is.
    Unknown(io::Error),
}

impl Failure {
    /// What the engine is told once there is no time left to repeat the request.
    pub(super) fn into_error(self) -> io::Error {
        match self {
            Self::Refused(e) => e,
            Self::NoLease => unavailable("the lease has ended"),
            Self::Unknown(e) => unavailable(e.to_string()),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let refused = |kind, why: &str| Self::Refused(io::Error::new(kind, why));
        match &error {
            Error::GRpcStatus(status) => by_status(status),
            // So the client calls an answer with no time to live.
            Error::LeaseKeepAliveError(_) => Self::NoLease,
            // A connection is made later; here, the certificates were no use.
            Error::TransportError(e) => refused(io::ErrorKind::InvalidInput, &cause(e).to_string()),
            Error::InvalidUri(_) | Error::InvalidArgs(_) | Error::InvalidMetadataValue(_) => {
                refused(io::ErrorKind::InvalidInput, &error.to_string())
            }
            _ => Self::Unknown(io::Error::other(error.to_string())),
        }
    }
}

fn by_status(status: &Status) -> Failure {
    let message = status.message();
    let refused = |kind, why: &str| Failure::Refused(io::Error::new(kind, why));
    match status.code() {
        Code::NotFound if message.contains("lease not found") => Failure::NoLease,
        Code::PermissionDenied => refused(io::ErrorKind::PermissionDenied, message),
        Code::InvalidArgument | Code::FailedPrecondition if is_about_users(message) => {
            refused(io::ErrorKind::PermissionDenied, message)
        }
        // Roles have changed: with a new login, it may be carried out.
        Code::InvalidArgument if message.contains("revision of auth store is old") => {
            Failure::Unknown(io::Error::other(message))
        }
        Code::InvalidArgument | Code::NotFound | Code::OutOfRange => {
            refused(io::ErrorKind::InvalidInput, message)
        }
        Code::Unimplemented => refused(io::ErrorKind::Unsupported, message),
        Code::ResourceExhausted if message.contains("space exceeded") => {
            refused(io::ErrorKind::StorageFull, message)
        }
        _ => by_cause(status),
    }
}

/// The server wants a user, has no users, or does not know this one by this password.
fn is_about_users(message: &str) -> bool {
    [
        "authentication failed",
        "user name is empty",
        "authentication is not enabled",
    ]
    .iter()
    .any(|about| message.contains(about))
}

/// What the connection has to say.
fn by_cause(status: &Status) -> Failure {
    let Some(source) = status.source() else {
        return Failure::Unknown(io::Error::other(status.message()));
    };
    match input_output(source) {
        // So the library for TLS says that one of the two does not trust the other.
        Some(e) if e.kind() == io::ErrorKind::InvalidData => {
            let why = format!("TLS fails: {}", cause(e));
            Failure::Refused(io::Error::new(io::ErrorKind::PermissionDenied, why))
        }
        Some(e) => Failure::Unknown(io::Error::new(e.kind(), cause(source).to_string())),
        None => Failure::Unknown(io::Error::other(cause(source).to_string())),
    }
}

/// The first error of the system among the causes.
fn input_output<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a io::Error> {
    causes(error).find_map(|e| e.downcast_ref())
}

/// The first of the causes, which says most.
fn cause<'a>(error: &'a (dyn StdError + 'static)) -> &'a (dyn StdError + 'static) {
    causes(error).last().unwrap_or(error)
}

fn causes<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&e| e.source())
}
