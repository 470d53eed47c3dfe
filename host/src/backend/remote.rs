//! A lock that a [server](crate::remote) keeps. What claims it is in the object, not in a file.

use std::io;

use super::{Backend, Request};
use crate::object::{Claim, LockObject};
use crate::remote::Standing;
use crate::sys::TimedWait;
use crate::types::{ForeignHolder, LostReason};

#[derive(Debug)]
pub(super) struct OnServer;

fn claim(object: &LockObject) -> io::Result<&Claim> {
    object
        .as_claim()
        .ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

impl Backend for OnServer {
    fn try_lock(&self, object: &LockObject, request: Request) -> io::Result<bool> {
        claim(object)?.seat.try_lock(request.mode)
    }

    /// The wait of a claim is [another one](crate::waiter): no signal ends it.
    fn wait(&self, _: &LockObject, _: Request, _: &TimedWait) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn unlock(&self, object: &LockObject) -> io::Result<()> {
        claim(object)?.seat.unlock()
    }

    fn is_held(&self, object: &LockObject) -> bool {
        let standing = object.as_claim().map(|claim| claim.seat.standing());
        !matches!(standing, Some(Standing::Lost(_)))
    }

    fn loss(&self, object: &LockObject) -> LostReason {
        match object.as_claim().map(|claim| claim.seat.standing()) {
            Some(Standing::Lost(reason)) => reason,
            _ => LostReason::Broken,
        }
    }

    fn renew(&self, object: &LockObject) -> io::Result<()> {
        claim(object)?.seat.renew()
    }

    fn holder(&self, object: &LockObject) -> io::Result<Option<ForeignHolder>> {
        let claim = claim(object)?;
        claim.server.holder(&claim.name)
    }

    fn break_lock(&self, object: &LockObject, _: bool) -> io::Result<bool> {
        let claim = claim(object)?;
        claim.server.break_lock(&claim.name)
    }
}
