//! What is in the way of an owner.

use std::io;
use std::sync::Arc;

use super::OwnedRanges;
use crate::range::Span;
use crate::sync::lock;
#[cfg(unix)]
use crate::sys::RangeLocks;
use crate::types::Mode;

impl OwnedRanges {
    /// What another owner here holds that excludes `mode` in a range.
    #[cfg(windows)]
    pub(super) fn blocked_here(&self, span: Span, mode: Mode) -> Option<(Span, Mode)> {
        let owners = self.file.owners();
        let mut others = owners.iter().filter(|owned| owned.owner != self.owner);
        others.find_map(|owned| lock(&owned.held).map.blocker(span, mode))
    }

    pub(crate) fn query(&self, span: Span, mode: Mode) -> io::Result<Option<(Span, Mode)>> {
        // Only POSIX systems tell what is locked.
        #[cfg(windows)]
        if let Some(found) = self.blocked_here(span, mode) {
            return Ok(Some(found));
        }
        #[cfg_attr(unix, expect(unused_mut, reason = "a try changes it"))]
        let mut description = lock(&self.description);
        let object = Arc::clone(&description.object);
        // On Windows it is a try, which must be made alone.
        #[cfg(windows)]
        let locks = &mut description.locks;
        #[cfg(unix)]
        let locks = {
            drop(description);
            &mut RangeLocks::default()
        };
        locks.query(&object.file, mode, span)
    }
}
