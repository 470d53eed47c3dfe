//! What a guest may do with a lock that it opened, and why.

use std::sync::Arc;

use super::paths::Grant;
use super::rights::Rights;

/// Where the rights of a guest to a lock come from.
#[derive(Clone, Debug)]
pub(super) enum Basis {
    /// Its path lies in a directory that is granted.
    Granted(Arc<Grant>),
    /// The guest has the file open, with these rights.
    Lent(Rights),
}

impl Basis {
    /// The rights that are left.
    pub(super) fn rights(&self) -> Rights {
        match self {
            Self::Granted(grant) => grant.rights(),
            Self::Lent(rights) => *rights,
        }
    }

    pub(super) fn is(&self, other: &Arc<Grant>) -> bool {
        matches!(self, Self::Granted(grant) if Arc::ptr_eq(grant, other))
    }
}
