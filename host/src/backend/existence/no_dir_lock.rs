//! Windows cannot lock directories, and needs no lock to remove the entry that was judged: it removes
//! what a handle has open.

use std::fs::File;
use std::io;
use std::marker::PhantomData;
use std::time::Duration;

/// Nothing.
pub(super) struct DirLock<'a>(PhantomData<&'a File>);

impl<'a> DirLock<'a> {
    #[expect(clippy::unnecessary_wraps, reason = "other systems can fail")]
    pub(super) fn of(_: &'a File, _: Duration) -> io::Result<Option<Self>> {
        Ok(Some(Self(PhantomData)))
    }
}

pub(super) const PATIENCE: Duration = Duration::ZERO;
pub(super) const LITTLE_PATIENCE: Duration = Duration::ZERO;
pub(super) const MUCH_PATIENCE: Duration = Duration::ZERO;
