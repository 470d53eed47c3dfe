//! What carries the locks of one owner.

use std::io;
use std::sync::Arc;

use crate::object::LockObject;
use crate::range::Span;
use crate::sys::{RangeChange, RangeLocks};
use crate::types::Mode;

/// An open file description, and the locks that it carries.
#[derive(Debug)]
pub(super) struct Description {
    pub(super) object: Arc<LockObject>,
    pub(super) locks: RangeLocks,
}

impl Description {
    pub(super) fn new(object: LockObject) -> Self {
        Self {
            object: Arc::new(object),
            locks: RangeLocks::default(),
        }
    }

    pub(super) fn change(&mut self, mode: Option<Mode>, span: Span) -> io::Result<RangeChange> {
        self.locks.change(&self.object.file, mode, span)
    }

    pub(super) fn clear(&mut self) -> io::Result<()> {
        self.locks.clear(&self.object.file)
    }
}
