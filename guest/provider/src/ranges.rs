//! Ranges of files, which no entry of a directory can stand for. Guests that import them start, and get
//! `not-supported`.

use alloc::string::String;

use crate::Provider;
use crate::bindings::api::{Error, Milliseconds, Mode};
use crate::bindings::ranges::{Conflict, Guest, GuestRangeFile, Range, RangeFile};

impl Guest for Provider {
    type RangeFile = NoRanges;
}

/// A file whose ranges are locked: there is none.
pub(crate) enum NoRanges {}

impl GuestRangeFile for NoRanges {
    fn open(_: String) -> Result<RangeFile, Error> {
        Err(Error::NotSupported)
    }

    fn lock(&self, _: Mode, _: Range, _: Option<Milliseconds>) -> Result<(), Error> {
        match *self {}
    }

    fn unlock(&self, _: Range) -> Result<(), Error> {
        match *self {}
    }

    fn query(&self, _: Mode, _: Range) -> Result<Option<Conflict>, Error> {
        match *self {}
    }
}
