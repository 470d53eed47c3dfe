//! Guests that create files without end, or files with reserved names.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::Result;
use locket::sandbox::{Limits, Rights};
use locket_tests::harness::Host;
use locket_wasmtime::LocketCtx;

use self::reserved::reserved;
use super::{EXISTENCE, KEEP, KERNEL, REMOVE, cycle, in_runtime};
use crate::attacks::support::attacker::{Answer, Attacker, Call, EXCLUSIVE, ONE_TRY};
use crate::stage::{Context, Outcome};

mod reserved;

/// How many files guests may create: none, a few, and the default.
const LIMITS: [usize; 3] = [0, 5, 1024];

/// How many more files a guest tries to create.
const BEYOND: usize = 50;

/// What the guest chooses for its files.
const PROTOCOLS: [u32; 3] = [KERNEL.start, KERNEL.start + 1, KERNEL.start + 2];
const ON_RELEASE: [u32; 2] = [KEEP, REMOVE];

/// Files that are in the directory before the guest starts.
const THERE: [&str; 40] = {
    const NAMES: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMN";
    let mut names = [""; 40];
    let mut i = 0;
    while i < names.len() {
        names[i] = NAMES.split_at(i).1.split_at(1).0;
        i += 1;
    }
    names
};

pub(super) fn run(_: &Context) -> Result<Outcome> {
    in_runtime(1, async {
        let mut outcome = Outcome::default();
        for limit in LIMITS {
            let mut fixture = Fixture::new(limit, allowance(limit)).await?;
            fixture.fill(&mut outcome).await?;
            fixture.lock_what_is_there(&mut outcome).await?;
            fixture.fill_what_is_freed(&mut outcome).await?;
            fixture.create_anew(&mut outcome).await?;
            fixture.guest.keep_what_it_saw().await?;
        }
        for rights in [Rights::LOCKS, Rights::READ_WRITE] {
            reserved(rights, &mut outcome).await?;
        }
        Ok(outcome)
    })
}

/// The limits for so many files.
fn allowance(limit: usize) -> Limits {
    let limits = Limits::new();
    // The last one is the default.
    if limit == LIMITS[2] {
        limits
    } else {
        limits.created(limit)
    }
}

/// Whether this is the right answer, depending on whether there is room for a file.
fn is_as_it_must_be(answer: Answer, room: bool) -> bool {
    match room {
        true => answer.is_ok(),
        false => answer == Err("limit-exceeded"),
    }
}

/// A directory with a guest that may create so many files in it.
struct Fixture {
    host: Host,
    guest: Attacker,
    limit: usize,
    /// How many files it has tried to create.
    tried: usize,
}

impl Fixture {
    async fn new(limit: usize, limits: Limits) -> Result<Self> {
        let host = Host::new();
        fs::create_dir(host.path("dir"))?;
        symlink("dir", host.path("link"))?;
        for name in THERE {
            fs::write(host.path(name), "")?;
        }
        let ctx = LocketCtx::builder(&host.locks).label("guest");
        let ctx = ctx.limits(limits);
        let ctx = ctx.grant_dir(host.dir.path(), "/locks", Rights::READ_WRITE)?;
        let guest = Attacker::with(&host, ctx.build()).await?;
        Ok(Self {
            host,
            guest,
            limit,
            tried: 0,
        })
    }

    /// Creates as many files as there is room for, and tries more.
    async fn create(&mut self, room: usize, what: &str, outcome: &mut Outcome) -> Result<()> {
        let what = format!("{what}, limit {}", self.limit);
        let before = self.created()?;
        let mut wrong = None;
        for turn in 0..room + BEYOND {
            // Combines the spellings of a path with the ways to open it.
            let spelling = ["/locks/", "/locks/dir/", "/locks/link/", "/locks/dir/../"][turn % 4];
            let path = format!("{spelling}new-{}", self.tried);
            self.tried += 1;
            self.guest.name(&path).await?;
            let opening = [1, PROTOCOLS[turn % 3], ON_RELEASE[turn / 3 % 2], 0];
            let answer = self.guest.call(Call::OpenAndClose, opening).await?;
            if !is_as_it_must_be(answer, turn < room) {
                wrong = wrong.or(Some((path, answer)));
            }
        }
        outcome.must(wrong.is_none(), || format!("{what}: {wrong:?}"));
        let new = self.created()? - before;
        outcome.must(new == room, || format!("{what}: {new} files, not {room}"));
        outcome.did("files created", new as u64);
        outcome.did("refusals at the limit", BEYOND as u64);
        Ok(())
    }

    /// The number of files that were not there before.
    fn created(&self) -> Result<usize> {
        let mut files = 0;
        for dir in [self.host.dir.path(), &self.host.path("dir")] {
            for entry in fs::read_dir(dir)? {
                let entry = entry?;
                let is_file = entry.file_type()?.is_file();
                let is_new = !THERE.iter().any(|name| entry.file_name() == *name);
                files += usize::from(is_file && is_new);
            }
        }
        Ok(files)
    }

    async fn fill(&mut self, outcome: &mut Outcome) -> Result<()> {
        self.create(self.limit, "at first", outcome).await
    }

    /// At the limit, a guest can still acquire the lock of each existing file.
    async fn lock_what_is_there(&mut self, outcome: &mut Outcome) -> Result<()> {
        let own = (self.limit > 0).then_some("new-0");
        for name in THERE.into_iter().chain(own) {
            let path = format!("/locks/{name}");
            for protocol in KERNEL {
                let answer = cycle(&mut self.guest, &path, protocol, KEEP, EXCLUSIVE).await?;
                outcome.must(answer.is_ok(), || {
                    format!("at the limit, {path}: {answer:?}")
                });
                outcome.did("locks of existing files", 1);
            }
        }
        Ok(())
    }

    /// Removed files make room for as many others, whether the host or the guest removes them.
    async fn fill_what_is_freed(&mut self, outcome: &mut Outcome) -> Result<()> {
        let mut own = Vec::new();
        for name in names(self.host.dir.path())? {
            if name.starts_with("new-") {
                own.push(name);
            }
        }
        let half = own.len() / 2;
        for name in &own[..half] {
            fs::remove_file(self.host.path(name))?;
        }
        self.create(half, "after removals by the host", outcome)
            .await?;
        for name in &own[half..] {
            let path = format!("/locks/{name}");
            let removed = cycle(&mut self.guest, &path, 0, REMOVE, EXCLUSIVE).await?;
            outcome.must(removed.is_ok() && !self.host.path(name).exists(), || {
                format!("{name} is not removed: {removed:?}")
            });
        }
        self.create(own.len() - half, "after its own removals", outcome)
            .await?;
        // The entry of an existence lock exists no longer than the hold.
        for protocol in EXISTENCE.start..EXISTENCE.end - 1 {
            let answer = cycle(&mut self.guest, "/locks/name", protocol, KEEP, EXCLUSIVE).await?;
            outcome.must(answer.is_ok(), || {
                format!("protocol {protocol}: {answer:?}")
            });
        }
        self.create(0, "after existence locks", outcome).await
    }

    /// The files of the host are removed while the guest has their locks open. Its acquires create them
    /// again, but no more than there is room for.
    async fn create_anew(&mut self, outcome: &mut Outcome) -> Result<()> {
        let mut open = Vec::new();
        for (turn, name) in THERE.into_iter().enumerate() {
            self.guest.name(format!("/locks/{name}")).await?;
            let opening = [1, PROTOCOLS[turn % 3], KEEP, 0];
            let lock = self.guest.call(Call::Open, opening).await?;
            outcome.must(lock.is_ok(), || format!("{name} is not opened: {lock:?}"));
            open.extend(lock);
        }
        for name in THERE {
            fs::remove_file(self.host.path(name))?;
        }
        let room = THERE.len().min(self.limit) / 2;
        let own = names(&self.host.path("dir"))?;
        let own = own.iter().filter(|name| name.starts_with("new-"));
        let freed = own.take(room).map(|name| self.host.path("dir").join(name));
        let freed = freed.map(fs::remove_file).filter(Result::is_ok).count();
        let mut wrong = None;
        for (turn, lock) in open.into_iter().enumerate() {
            let answer = self.guest.acquire(lock, ONE_TRY).await?;
            if !is_as_it_must_be(answer, turn < freed) {
                wrong = wrong.or(Some((turn, answer)));
            }
            // Fails if the lock was not acquired.
            let _ = self.guest.call(Call::Release, [lock, 0, 0, 0]).await?;
            let _ = self.guest.call(Call::Close, [lock, 0, 0, 0]).await?;
        }
        outcome.must(wrong.is_none(), || {
            let limit = self.limit;
            format!("acquires with room for {freed} files, limit {limit}: {wrong:?}")
        });
        let anew = THERE.iter().filter(|name| self.host.path(name).exists());
        let anew = anew.count();
        outcome.must(anew == freed, || {
            format!("{anew} files are created again with room for {freed}")
        });
        outcome.did("files created again", anew as u64);
        self.create(0, "after files that were created again", outcome)
            .await
    }
}

fn names(dir: &Path) -> Result<Vec<String>> {
    let names = fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into()));
    names.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_limit_is_noticed() {
        for (limit, violates) in [(3, false), (2, true), (4, true)] {
            let mut outcome = Outcome::default();
            let filled = async {
                let mut fixture = Fixture::new(3, Limits::new().created(limit)).await?;
                fixture.fill(&mut outcome).await
            };
            in_runtime(1, filled).unwrap();
            let files = |violation: &String| violation.contains("files, not 3");
            let noticed = outcome.violations.iter().any(files);
            assert_eq!(noticed, violates, "{outcome:?}");
        }
    }

    #[test]
    fn a_wrong_answer_at_the_limit_is_noticed() {
        assert!(is_as_it_must_be(Ok(1), true));
        assert!(is_as_it_must_be(Err("limit-exceeded"), false));
        assert!(!is_as_it_must_be(Err("limit-exceeded"), true));
        assert!(!is_as_it_must_be(Err("io"), false));
        assert!(!is_as_it_must_be(Ok(1), false));
    }
}
