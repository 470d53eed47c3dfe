//! What a guest may do with the locks in a granted directory.

use std::fmt;
use std::ops::{BitOr, BitOrAssign};
use std::str::FromStr;

use crate::protocol::Protocol;
use crate::types::{Mode, OnRelease};

/// What a guest may do with the locks in a granted directory.
///
/// | right | allows | [`LOCKS`](Self::LOCKS) | [`READ_WRITE`](Self::READ_WRITE) |
/// |---|---|---|---|
/// | [`SHARED`](Self::SHARED), [`EXCLUSIVE`](Self::EXCLUSIVE) | holding kernel locks in that mode | yes | yes |
/// | [`CREATE`](Self::CREATE) | creating lock files that are missing | yes | yes |
/// | [`REMOVE`](Self::REMOVE) | removing an empty lock file on release | no | yes |
/// | [`EXISTENCE`](Self::EXISTENCE) | protocols whose lock is a directory entry or a row | no | yes |
/// | [`BREAK`](Self::BREAK) | taking locks away from their holders | no | no |
///
/// ```
/// use locket::sandbox::Rights;
///
/// let rights = Rights::CREATE | Rights::SHARED;
/// assert!(rights.contains(Rights::SHARED) && !rights.contains(Rights::EXCLUSIVE));
/// assert_eq!(rights.to_string(), "shared|create");
/// assert_eq!(Rights::NONE.to_string(), "none");
/// assert_eq!("locks|break".parse(), Ok(Rights::LOCKS | Rights::BREAK));
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Rights(u8);

impl Rights {
    /// No rights.
    pub const NONE: Self = Self(0);
    /// To create lock files that are missing, empty, as many at a time as
    /// [`Limits::created`](super::Limits::created) says.
    /// Never in a directory whose name ends in `.lock`, which is a lock of the protocol `mkdir`.
    pub const CREATE: Self = Self(1);
    /// To hold locks exclusively. The holder of a `native` or `fcntl` lock has the file open for
    /// writing, so no program can execute the file meanwhile.
    pub const EXCLUSIVE: Self = Self(2);
    /// To share locks.
    pub const SHARED: Self = Self(4);
    /// To break locks: to take them away from other guests, from this process and, for existence
    /// locks, from other processes.
    pub const BREAK: Self = Self(8);
    /// To have a lock file removed on release ([`OnRelease::Remove`]). Only an empty regular file
    /// with one name is removed, and only while the guest excludes all other holders.
    pub const REMOVE: Self = Self(16);
    /// To use [existence locks](Protocol::is_existence_lock). Such a guest creates and removes
    /// directory entries, and takes locks over from holders that are proven dead. It also needs
    /// [`CREATE`](Self::CREATE) and [`EXCLUSIVE`](Self::EXCLUSIVE).
    pub const EXISTENCE: Self = Self(32);

    /// To share the locks of files that exist: for a directory whose files the guest may read.
    pub const READ_ONLY: Self = Self::SHARED;
    /// Kernel locks, and the creation of lock files: for a guest that gets locks and no files.
    /// Nothing that was in the directory before can change.
    pub const LOCKS: Self = Self(Self::CREATE.0 | Self::EXCLUSIVE.0 | Self::SHARED.0);
    /// Everything but breaking locks: for a directory whose files the guest may write anyway.
    pub const READ_WRITE: Self = Self(Self::LOCKS.0 | Self::REMOVE.0 | Self::EXISTENCE.0);
    /// All rights.
    pub const ALL: Self = Self(Self::READ_WRITE.0 | Self::BREAK.0);

    /// Whether all of `rights` are among these.
    pub const fn contains(self, rights: Self) -> bool {
        self.0 & rights.0 == rights.0
    }

    /// These without `rights`.
    #[must_use]
    pub const fn without(self, rights: Self) -> Self {
        Self(self.0 & !rights.0)
    }

    /// The right to hold a lock in `mode`.
    pub(super) fn to_hold(mode: Mode) -> Self {
        match mode {
            Mode::Exclusive => Self::EXCLUSIVE,
            Mode::Shared => Self::SHARED,
        }
    }

    /// Whether a lock of `protocol` that does `on_release` may be opened with these.
    pub(super) fn allow(self, protocol: Protocol, on_release: OnRelease) -> bool {
        let needs = match (protocol.is_existence_lock(), on_release) {
            (true, _) => Self::EXISTENCE | Self::CREATE | Self::EXCLUSIVE,
            // Only an exclusive holder can remove the file.
            (false, OnRelease::Remove) => Self::REMOVE | Self::EXCLUSIVE,
            (false, OnRelease::Keep) => Self::NONE,
        };
        let usable = self.contains(Self::EXCLUSIVE) || self.contains(Self::SHARED);
        usable && self.contains(needs)
    }
}

/// The names of the rights, and of the usual combinations.
const NAMES: &[(&str, Rights)] = &[
    ("shared", Rights::SHARED),
    ("exclusive", Rights::EXCLUSIVE),
    ("create", Rights::CREATE),
    ("remove", Rights::REMOVE),
    ("existence", Rights::EXISTENCE),
    ("break", Rights::BREAK),
    ("none", Rights::NONE),
    ("read-only", Rights::READ_ONLY),
    ("locks", Rights::LOCKS),
    ("read-write", Rights::READ_WRITE),
    ("all", Rights::ALL),
];

/// How many of [`NAMES`] are single rights.
const SINGLE: usize = 6;

/// The error for a name that is not one of a [right](Rights).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UnknownRight(String);

impl fmt::Display for UnknownRight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = NAMES.iter().map(|(name, _)| *name).collect();
        write!(
            f,
            "unknown right {:?}; there are {}",
            self.0,
            names.join(", ")
        )
    }
}

impl std::error::Error for UnknownRight {}

/// Names with `|` in between, as they are displayed; also `read-only`, `locks`, `read-write` and
/// `all`.
impl FromStr for Rights {
    type Err = UnknownRight;

    fn from_str(names: &str) -> Result<Self, UnknownRight> {
        let mut rights = Self::NONE;
        for name in names.split('|').map(str::trim) {
            let found = NAMES.iter().find(|(known, _)| *known == name);
            let (_, named) = found.ok_or_else(|| UnknownRight(name.into()))?;
            rights |= *named;
        }
        Ok(rights)
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for Rights {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(feature = "serde")]
impl<'de> serde::Deserialize<'de> for Rights {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let names = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        names.parse().map_err(serde::de::Error::custom)
    }
}

impl BitOr for Rights {
    type Output = Self;

    fn bitor(self, rights: Self) -> Self {
        Self(self.0 | rights.0)
    }
}

impl BitOrAssign for Rights {
    fn bitor_assign(&mut self, rights: Self) {
        *self = *self | rights;
    }
}

/// The names of the rights, with `|` in between.
impl fmt::Display for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = NAMES[..SINGLE]
            .iter()
            .filter_map(|(name, right)| self.contains(*right).then_some(*name))
            .collect();
        f.write_str(if names.is_empty() { "none" } else { "" })?;
        f.write_str(&names.join("|"))
    }
}
