//! What a host does with a guest while that runs or waits: lists what it has, and takes it away.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::basis::Basis;
use super::directory::Directory;
use super::limits::Limits;
use super::paths::Grant;
use super::quota::RangeEntry;
use super::quota::{HeldGrant, OpenEntry, Usage};
use super::rights::Rights;
use super::{GuestLock, GuestRanges, Sandbox};
use crate::lock_file::LockFile;
use crate::protocol::Protocol;
use crate::range::Range;
use crate::ranges::RangeFile;
use crate::types::Mode;

/// A lock that a guest holds or awaits.
#[derive(Clone, Debug, Eq, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Claim {
    /// The path, as the guest opened it.
    pub path: String,
    /// The protocol.
    pub protocol: Protocol,
    /// What the guest holds or awaits.
    pub mode: Mode,
    /// For how long it has held or awaited it.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::serialize::seconds"))]
    pub since: Duration,
}

impl Sandbox {
    /// Whether `ranges` was opened by this guest, and not by another.
    pub fn opened_ranges(&self, ranges: &GuestRanges) -> bool {
        Arc::ptr_eq(&self.guest, ranges.guest())
    }

    /// Whether `lock` was opened by this guest, and not by another.
    pub fn opened(&self, lock: &GuestLock) -> bool {
        Arc::ptr_eq(&self.guest, lock.guest())
    }

    /// Grants a directory under the name `guest_path`, as
    /// [`SandboxBuilder::grant`](super::SandboxBuilder::grant) does. Locks that are open already keep
    /// the rights with which they were opened.
    ///
    /// # Errors
    ///
    /// As [`SandboxBuilder::grant`](super::SandboxBuilder::grant).
    pub fn grant(
        &self,
        directory: &Directory,
        guest_path: impl AsRef<str>,
        rights: Rights,
    ) -> io::Result<()> {
        let grant = Grant::new(&self.guest.engine, directory, guest_path.as_ref(), rights)?;
        self.guest.grants().push(Arc::new(grant));
        Ok(())
    }

    /// Takes back every grant under the name `guest_path`, with the locks that the guest opened
    /// through it: it loses those that it holds, its waits for them are canceled, and it cannot
    /// acquire them any more. Returns whether there was such a grant.
    pub fn revoke_grant(&self, guest_path: &str) -> bool {
        if self.guest.is_forked() {
            return false;
        }
        let named = |grant: &mut Arc<Grant>| grant.is_named(guest_path);
        let revoked: Vec<_> = self.guest.grants().extract_if(.., named).collect();
        revoked.iter().for_each(|grant| grant.revoke());
        let through = |basis: &Basis| revoked.iter().any(|grant| basis.is(grant));
        self.revoke_ranges(|entry| through(&entry.basis));
        self.revoke_locks(|entry| through(&entry.basis));
        !revoked.is_empty()
    }

    /// Changes the limits. What is in use stays. [`Limits::longest_hold`] counts for locks that are
    /// opened from now on.
    pub fn set_limits(&self, limits: Limits) {
        if !self.guest.is_forked() {
            self.guest.created.own.set_limit(limits.created);
            self.guest.books().limits = limits;
        }
    }

    /// Changes what the host calls the guest, as [`SandboxBuilder::tag`](super::SandboxBuilder::tag)
    /// does: for a guest that serves one request after the other. Events of locks that are open
    /// already keep the tag with which they were opened.
    pub fn set_tag(&self, tag: impl AsRef<str>) {
        if !self.guest.is_forked() {
            self.guest.set_tag(tag.as_ref());
        }
    }

    /// What the guest holds, in the order of its grants. Lost holds are not listed.
    pub fn holds(&self) -> Vec<Claim> {
        if self.guest.is_forked() {
            return Vec::new();
        }
        let books = self.guest.books();
        let held = books.holds.iter().filter(|entry| entry.guard.is_held());
        held.map(|entry| Claim {
            path: entry.story.path().to_owned(),
            protocol: entry.story.protocol(),
            mode: entry.guard.mode(),
            since: entry.since.elapsed(),
        })
        .collect()
    }

    /// What the guest waits for, in the order in which it began to. An acquire that is about to be
    /// granted is still listed.
    pub fn waits(&self) -> Vec<Claim> {
        if self.guest.is_forked() {
            return Vec::new();
        }
        let books = self.guest.books();
        let claims = books.waits.iter().map(|wait| Claim {
            path: wait.story.path().to_owned(),
            protocol: wait.story.protocol(),
            mode: wait.mode,
            since: wait.since.elapsed(),
        });
        claims.collect()
    }

    /// How much the guest uses.
    pub fn usage(&self) -> Usage {
        if self.guest.is_forked() {
            return Usage::default();
        }
        let created = self.guest.created.own.len();
        let usage = self.guest.books().usage();
        Usage { created, ..usage }
    }

    /// Cancels the waits of the guest: each fails with [canceled](crate::Error::is_canceled). Later
    /// acquires are not affected.
    pub fn cancel_waits(&self) {
        self.locks(|_| true).iter().for_each(LockFile::cancel_waits);
        for file in self.ranges(|_| true) {
            file.cancel_waits();
        }
    }

    /// Takes away what the guest holds under `path`, as it opened that, and cancels its waits for
    /// it. The guest sees [`State::Lost`](crate::State::Lost) and the error
    /// [canceled](crate::Error::is_canceled). Ranges are unlocked without a word. Returns whether the
    /// guest has such a lock open.
    pub fn revoke(&self, path: &str) -> bool {
        let ranges = self.revoke_ranges(|entry| entry.path == path);
        self.revoke_locks(|entry| entry.story.path() == path) || ranges
    }

    /// Revokes every lock that the guest holds, and cancels its waits. The guest sees
    /// [`State::Lost`](crate::State::Lost) for its locks and the error
    /// [canceled](crate::Error::is_canceled) for its waits.
    pub fn release_all(&self) {
        if !self.guest.is_forked() {
            self.guest.listener().revoked();
            self.revoke_ranges(|_| true);
            self.revoke_locks(|_| true);
        }
    }

    /// The files with ranges that `concerns` selects; none in a forked child.
    fn ranges(&self, concerns: impl Fn(&RangeEntry) -> bool) -> Vec<RangeFile> {
        if self.guest.is_forked() {
            return Vec::new();
        }
        let books = self.guest.books();
        let entries = books.ranges.iter().filter(|entry| concerns(entry));
        entries.map(|entry| entry.file.clone()).collect()
    }

    /// Cancels the waits of the guest for ranges, and unlocks what it holds. There is no call that
    /// would tell it so.
    fn revoke_ranges(&self, concerns: impl Fn(&RangeEntry) -> bool) -> bool {
        let files = self.ranges(concerns);
        for file in &files {
            file.cancel_waits();
            // As the end of the guest would: whether it worked, no call can tell.
            let _ = file.unlock(Range::ALL);
        }
        !files.is_empty()
    }

    /// The open locks that `concerns` selects; none in a forked child.
    fn locks(&self, concerns: impl Fn(&OpenEntry) -> bool) -> Vec<LockFile> {
        if self.guest.is_forked() {
            return Vec::new();
        }
        let books = self.guest.books();
        let entries = books.locks.iter().filter(|entry| concerns(entry));
        entries.map(|entry| entry.file.clone()).collect()
    }

    fn revoke_locks(&self, concerns: impl Fn(&OpenEntry) -> bool) -> bool {
        if self.guest.is_forked() {
            return false;
        }
        // Not under the mutex: a waiter that this wakes may need it.
        let locks = self.locks(&concerns);
        // Before a hold that ends lets one of them in.
        locks.iter().for_each(LockFile::cancel_waits);
        locks.iter().for_each(LockFile::revoke);
        // Holds on files that were replaced meanwhile: no open lock leads to them any more.
        let mut books = self.guest.books();
        let concerned: Vec<_> = books.locks.iter().filter(|entry| concerns(entry)).collect();
        let concerned: Vec<_> = concerned.iter().map(|entry| entry.id).collect();
        let stray =
            |entry: &mut HeldGrant| concerned.contains(&entry.lock) && entry.guard.is_held();
        let stray: Vec<_> = books.holds.extract_if(.., stray).collect();
        drop(books);
        drop(stray);
        !locks.is_empty()
    }
}
