//! Guests that ask for removal on release: of files with content, of files with several names, and of
//! files that another process has locked.

use std::fs;
use std::ops::Range;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use anyhow::Result;
use locket::sandbox::Rights;
use locket::{Engine, Mode, Protocol};
use locket_tests::harness::{Foreign, Host};

use super::{EXISTENCE, KEEP, KERNEL, REMOVE, cycle, hold, in_runtime, with_rights};
use crate::attacks::support::attacker::{Attacker, EXCLUSIVE, SHARED};
use crate::attacks::support::canary::Canary;
use crate::attacks::support::enclosure::Enclosure;
use crate::stage::{Context, Outcome};

/// Files with content, and empty files that may be more than lock files.
const STAY: [&str; 9] = [
    "content",
    "read-only",
    "dir/content",
    "hard-content",
    "link-to-content",
    "hard-empty",
    "two",
    "names",
    "link-to-empty",
];

/// Lock files, empty and with one name: the path that the guest uses, and the file.
const MAY_GO: [[&str; 2]; 4] = [
    ["empty", "empty"],
    ["empty-read-only", "empty-read-only"],
    ["dir/empty", "dir/empty"],
    ["link-to-dir/other", "dir/other"],
];

/// Locks of another engine on the file that a guest wants to remove.
const HOLDS: [(Protocol, Mode); 6] = [
    (Protocol::Native, Mode::Exclusive),
    (Protocol::Native, Mode::Shared),
    (Protocol::Flock, Mode::Exclusive),
    (Protocol::Flock, Mode::Shared),
    (Protocol::Fcntl, Mode::Exclusive),
    (Protocol::Fcntl, Mode::Shared),
];

/// All protocols that guests may choose.
const ALL: Range<u32> = KERNEL.start..EXISTENCE.end;

pub(super) fn run(_: &Context) -> Result<Outcome> {
    let enclosure = Enclosure::new()?;
    create_files(&enclosure)?;
    in_runtime(1, async {
        let mut fixture = Fixture::new(&enclosure)?;
        let lock_files = MAY_GO.map(|[path, _]| path);
        fixture.must_stay(Rights::LOCKS, &STAY, ALL).await?;
        fixture.must_stay(Rights::LOCKS, &lock_files, ALL).await?;
        fixture.must_stay(Rights::READ_WRITE, &STAY, ALL).await?;
        // To existence locks, an empty file is a lock that is held.
        fixture
            .must_stay(Rights::READ_WRITE, &lock_files, EXISTENCE)
            .await?;
        fixture.must_stay_under_a_hold().await?;
        fixture.may_go().await?;
        let outside = enclosure.canary()?.changes(&fixture.outside);
        fixture.outcome.violations.extend(outside);
        Ok(fixture.outcome)
    })
}

/// Creates all files.
fn create_files(enclosure: &Enclosure) -> Result<()> {
    let host = &enclosure.host;
    fs::create_dir(host.path("dir"))?;
    fs::write(enclosure.outside("content"), "outside")?;
    fs::write(enclosure.outside("empty"), "")?;
    for name in ["content", "read-only", "dir/content"] {
        fs::write(host.path(name), "inside")?;
    }
    for name in MAY_GO.map(|[_, file]| file).into_iter().chain(["two"]) {
        fs::write(host.path(name), "")?;
    }
    fs::hard_link(enclosure.outside("content"), host.path("hard-content"))?;
    fs::hard_link(enclosure.outside("empty"), host.path("hard-empty"))?;
    fs::hard_link(host.path("two"), host.path("names"))?;
    symlink("content", host.path("link-to-content"))?;
    symlink("empty", host.path("link-to-empty"))?;
    symlink("dir", host.path("link-to-dir"))?;
    for name in ["read-only", "empty-read-only"] {
        fs::set_permissions(host.path(name), fs::Permissions::from_mode(0o444))?;
    }
    Ok(())
}

struct Fixture<'a> {
    host: &'a Host,
    outcome: Outcome,
    inside: Canary,
    outside: Canary,
}

impl<'a> Fixture<'a> {
    fn new(enclosure: &'a Enclosure) -> Result<Self> {
        Ok(Self {
            host: &enclosure.host,
            outcome: Outcome::default(),
            inside: Canary::of(enclosure.host.dir.path(), &[])?,
            outside: enclosure.canary()?,
        })
    }

    /// A guest with these rights must not remove these files in these protocols.
    async fn must_stay(
        &mut self,
        rights: Rights,
        paths: &[&str],
        protocols: Range<u32>,
    ) -> Result<()> {
        let mut guest = with_rights(self.host, rights).await?;
        for path in paths {
            self.try_to_remove(&mut guest, path, protocols.clone())
                .await?;
            self.must_be_unharmed(&[], &format!("{path} with {rights:?}"))?;
        }
        Ok(guest.keep_what_it_saw().await?)
    }

    /// A guest with the right to remove lock files must not remove those that another engine or program
    /// has locked.
    async fn must_stay_under_a_hold(&mut self) -> Result<()> {
        let mut guest = with_rights(self.host, Rights::READ_WRITE).await?;
        for [path, file] in MAY_GO {
            for (protocol, mode) in HOLDS {
                let held = hold(&Engine::new(), &self.host.path(file), protocol, mode)?;
                self.try_to_remove(&mut guest, path, KERNEL).await?;
                held.release()?;
                self.must_be_unharmed(&[], &format!("{path} under {protocol}, {mode}"))?;
            }
        }
        for function in ["flock", "lockf"] {
            let held = Foreign::hold(&self.host.path("empty"), function);
            self.try_to_remove(&mut guest, "empty", KERNEL).await?;
            held.release();
            self.must_be_unharmed(&[], &format!("empty under {function}"))?;
        }
        Ok(guest.keep_what_it_saw().await?)
    }

    /// The same guest removes lock files that are free, and nothing else.
    async fn may_go(&mut self) -> Result<()> {
        let mut guest = with_rights(self.host, Rights::READ_WRITE).await?;
        let files = MAY_GO.map(|[_, file]| self.host.path(file));
        for path in MAY_GO.map(|[path, _]| path) {
            self.try_to_remove(&mut guest, path, KERNEL).await?;
        }
        self.must_be_unharmed(&files.each_ref().map(|file| &**file), "lock files")?;
        let removed = files.iter().filter(|file| !file.exists()).count();
        // Otherwise this part shows nothing.
        self.outcome.must(removed == files.len(), || {
            format!("{removed} of {} lock files are removed", files.len())
        });
        self.outcome.did("lock files removed", removed as u64);
        Ok(())
    }

    async fn try_to_remove(
        &mut self,
        guest: &mut Attacker,
        path: &str,
        protocols: Range<u32>,
    ) -> Result<()> {
        let path = format!("/locks/{path}");
        for protocol in protocols {
            for (on_release, mode) in [(KEEP, EXCLUSIVE), (REMOVE, SHARED), (REMOVE, EXCLUSIVE)] {
                // Only the file counts, not the answer.
                let _ = cycle(guest, &path, protocol, on_release, mode).await?;
                self.outcome.did("attempts", 1);
            }
        }
        Ok(())
    }

    fn must_be_unharmed(&mut self, except: &[&Path], what: &str) -> Result<()> {
        let now = Canary::of(self.host.dir.path(), except)?;
        let before = std::mem::replace(&mut self.inside, now).without(except);
        let harm = self.inside.harm(&before);
        let harm = harm.into_iter().map(|harm| format!("{what}: {harm}"));
        self.outcome.violations.extend(harm);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_removed_without_the_right_is_noticed() {
        let enclosure = Enclosure::new().unwrap();
        create_files(&enclosure).unwrap();
        let mut fixture = Fixture::new(&enclosure).unwrap();
        let mut violations = |rights, path| {
            let paths = [path];
            in_runtime(1, fixture.must_stay(rights, &paths, KERNEL)).unwrap();
            std::mem::take(&mut fixture.outcome.violations).len()
        };
        assert_eq!(violations(Rights::LOCKS, "empty"), 0);
        assert_eq!(violations(Rights::LOCKS | Rights::REMOVE, "two"), 0);
        assert_eq!(violations(Rights::LOCKS | Rights::REMOVE, "empty"), 1);
        fs::remove_file(enclosure.host.path("content")).unwrap();
        assert_eq!(violations(Rights::LOCKS, "two"), 1);
    }
}
