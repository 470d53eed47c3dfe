//! Guests that try to take a lock from its living holder without the right to break it: they remove the
//! files of the lock, by each family of kernel locks, and create records that name a dead process.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use locket::sandbox::Rights;
use locket::{Engine, Guard, LockFile, Mode, Options, Protocol, State};
use locket_tests::harness::Host;

use super::{EXISTENCE, KEEP, KERNEL, REMOVE, cycle, guest_in, in_runtime, number, with_rights};
use crate::attacks::support::attacker::{Attacker, Call, EXCLUSIVE, ONE_TRY, SHARED};
use crate::faults::answer::{Done, OwnState};
use crate::faults::fixture::{Fixture, STUCK, Scenario, SubjectProcess};
use crate::faults::operation::{Operation, options};
use crate::stage::{Context, Outcome};

/// The rights of the attackers. Those with `EXISTENCE` can use the protocol of the holder themselves.
const RIGHTS: [Rights; 3] = [
    Rights::LOCKS,
    Rights::READ_WRITE.without(Rights::EXISTENCE),
    Rights::READ_WRITE,
];

/// The number of files in a crowded directory, of holders, and of additional links to each of their locks.
const CROWD: usize = 15_000;
const HOLDERS: usize = 8;
const LINKS: usize = 4;

/// The lock of a holder, and what the holder is.
#[derive(Clone, Copy, Debug)]
struct Case {
    protocol: Protocol,
    mode: Mode,
    kind: HolderKind,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum HolderKind {
    /// In another process.
    Process,
    /// In another engine.
    Engine,
    /// In a guest of the attacker's engine.
    Guest,
}

impl Case {
    fn all() -> impl Iterator<Item = Self> {
        let places = [HolderKind::Process, HolderKind::Engine, HolderKind::Guest];
        let every = Protocol::ALL.iter().flat_map(move |&protocol| {
            let modes: &[_] = match protocol.is_existence_lock() {
                true => &[Mode::Exclusive],
                false => &[Mode::Exclusive, Mode::Shared],
            };
            modes.iter().flat_map(move |&mode| {
                places.map(|kind| Self {
                    protocol,
                    mode,
                    kind,
                })
            })
        });
        every.filter(|case| match case.kind {
            // Such a process always holds exclusively.
            HolderKind::Process => case.mode == Mode::Exclusive,
            // The host keeps its database away from guests, and so from the attacker.
            HolderKind::Guest => case.protocol != Protocol::Sqlite,
            HolderKind::Engine => true,
        })
    }
}

pub(super) fn run(_: &Context) -> Result<Outcome> {
    let program = std::env::current_exe()?;
    in_runtime(1, async {
        let mut outcome = Outcome::default();
        for case in Case::all() {
            for rights in RIGHTS {
                let mut held = HeldLock::new(&program, case).await?;
                let what = format!("{case:?}, attacker with {rights:?}");
                let tries = held.attack(rights).await?;
                outcome.did("attempts", tries);
                outcome.did("holders", 1);
                let lost = held.lost().await?;
                outcome.must(lost.is_none(), || format!("{what}: {lost:?}"));
            }
        }
        in_a_crowd(&mut outcome).await?;
        Ok(outcome)
    })
}

/// Holders of `link` locks in a directory with more entries than are read, and an attacker with access to
/// the files there, which can link records of dead processes to those locks.
async fn in_a_crowd(outcome: &mut Outcome) -> Result<()> {
    let host = Host::new();
    let claim = dead_claims()?[0].clone();
    for number in 0..CROWD {
        File::create(host.path(&format!("{claim}-{}", number + 1)))?;
    }
    let options = Options::new().protocol(Protocol::Link);
    let mut held = Vec::new();
    for number in 0..HOLDERS {
        let lock = Engine::new().open_with(host.path(&format!("{number}")), &options)?;
        held.push(lock.acquire(Mode::Exclusive, Duration::ZERO)?);
        for link in 0..LINKS {
            let link = format!("{claim}-{}", CROWD + number * LINKS + link + 1);
            fs::hard_link(host.path(&format!("{number}.lock")), host.path(&link))?;
        }
    }
    let mut guest = with_rights(&host, Rights::READ_WRITE).await?;
    let link = number(Protocol::Link);
    for (number, held) in held.into_iter().enumerate() {
        let path = format!("/locks/{number}");
        let answer = cycle(&mut guest, &path, link, KEEP, EXCLUSIVE).await?;
        let released = held.release();
        outcome.must(answer == Err("would-block") && released.is_ok(), || {
            format!("in a crowd the attacker got {answer:?}, and the holder {released:?}")
        });
        outcome.did("holders", 1);
    }
    Ok(guest.keep_what_it_saw().await?)
}

/// A lock with its holder.
struct HeldLock {
    fixture: Fixture,
    /// The engine of the attacker.
    engine: Engine,
    holder: Holder,
}

enum Holder {
    Process(SubjectProcess),
    Engine(LockFile, Guard),
    Guest(Attacker, u32),
}

impl HeldLock {
    /// `program` is the one that runs the process of a holder.
    async fn new(program: &Path, case: Case) -> Result<Self> {
        let scenario = Scenario {
            protocol: case.protocol,
            operation: Operation::Release,
        };
        let fixture = Fixture::new(program, scenario)?;
        if !case.protocol.is_existence_lock() {
            // Only an empty lock file can be removed.
            fs::write(fixture.path(), "")?;
        }
        let engine = Engine::new();
        let holder = match case.kind {
            HolderKind::Process => {
                let subject = fixture.subject(None)?;
                Holder::Process(subject)
            }
            HolderKind::Engine => {
                let lock = lock(&fixture)?;
                let guard = lock.acquire(case.mode, Duration::ZERO)?;
                Holder::Engine(lock, guard)
            }
            HolderKind::Guest => {
                let mut guest = guest_in(&engine, &fixture.dir(), Rights::READ_WRITE).await?;
                guest.name("/locks/lock").await?;
                let opening = [1, number(case.protocol), KEEP, 0];
                let lock = guest.call(Call::Open, opening).await?;
                let lock = lock.map_err(|error| anyhow!("{case:?} is not opened: {error}"))?;
                let mode = if case.mode == Mode::Shared {
                    SHARED
                } else {
                    EXCLUSIVE
                };
                let terms = [lock, mode, ONE_TRY[0], ONE_TRY[1]];
                let granted = guest.call(Call::Acquire, terms).await?;
                ensure!(granted.is_ok(), "{case:?} is not held: {granted:?}");
                Holder::Guest(guest, lock)
            }
        };
        Ok(Self {
            fixture,
            engine,
            holder,
        })
    }

    /// Does all that a guest with these rights can do; returns the number of attempts.
    async fn attack(&mut self, rights: Rights) -> Result<u64> {
        let mut tries = 0;
        let mut guest = guest_in(&self.engine, &self.fixture.dir(), rights).await?;
        let mut names = names(&self.fixture.dir(), "")?;
        names.extend(["lock".to_owned(), "lock.lock".to_owned()]);
        for claim in dead_claims()? {
            names.push(format!("lock.lock/{claim}"));
            names.push(claim);
        }
        for name in &names {
            let path = format!("/locks/{name}");
            for protocol in KERNEL {
                for (on_release, mode) in [(REMOVE, SHARED), (REMOVE, EXCLUSIVE), (KEEP, EXCLUSIVE)]
                {
                    let _ = cycle(&mut guest, &path, protocol, on_release, mode).await?;
                    tries += 1;
                }
            }
            for protocol in EXISTENCE {
                let _ = cycle(&mut guest, &path, protocol, KEEP, EXCLUSIVE).await?;
                tries += 1;
            }
        }
        guest.name("/locks/lock").await?;
        let broken = guest.call(Call::Break, [0; 4]).await?;
        ensure!(broken == Err("access-denied"), "a break: {broken:?}");
        guest.keep_what_it_saw().await?;
        Ok(tries)
    }

    /// What the holder has lost, if anything.
    async fn lost(mut self) -> Result<Option<String>> {
        let third = || lock(&self.fixture)?.try_acquire(Mode::Exclusive);
        match third() {
            Ok(None) => {}
            other => return Ok(Some(format!("a third one got {other:?}"))),
        }
        let kept = match self.holder {
            Holder::Process(ref mut subject) => release(subject)?,
            Holder::Engine(lock, guard) => {
                let state = lock.state();
                let released = guard.release();
                let kept = state == State::Held && released.is_ok();
                (!kept).then(|| format!("in state {state:?}, released: {released:?}"))
            }
            Holder::Guest(ref mut guest, lock) => {
                let state = guest.call(Call::State, [lock, 0, 0, 0]).await?;
                let released = guest.call(Call::Release, [lock, 0, 0, 0]).await?;
                let kept = state == Ok(1) && released.is_ok();
                (!kept).then(|| format!("in state {state:?}, released: {released:?}"))
            }
        };
        if kept.is_some() {
            return Ok(kept);
        }
        // Nothing may be in the way of the next owner either.
        Ok(match third() {
            Ok(Some(_)) => None,
            other => Some(format!("after the release a third one got {other:?}")),
        })
    }
}

/// The lock of the holder, in an engine of its own.
fn lock(fixture: &Fixture) -> Result<LockFile, locket::Error> {
    let path = fixture.path();
    let options = options(Operation::Release, fixture.scenario.protocol, &path);
    Engine::new().open_with(&path, &options)
}

/// Lets the process of a holder release its lock; returns what went wrong.
fn release(holder: &mut SubjectProcess) -> Result<Option<String>> {
    holder.proceed()?;
    let () = holder.receive(STUCK)?.context("the holder died")?;
    let done: Done = holder.receive(STUCK)?.context("the holder died")?;
    let kept = done.result.is_ok() && done.state == OwnState::Unlocked;
    Ok((!kept).then(|| format!("its process: {done:?}")))
}

/// The names of all files below a directory, which a guest that may read it can list.
fn names(dir: &Path, prefix: &str) -> io::Result<Vec<String>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            all.extend(names(&entry.path(), &format!("{name}/"))?);
        }
        all.push(name);
    }
    Ok(all)
}

/// Owner records of a process that does not exist, in the forms that the protocols know.
pub(super) fn dead_claims() -> io::Result<[String; 3]> {
    let host = fs::read_to_string("/proc/sys/kernel/hostname")?;
    let process = format!("{}.4194303", host.trim());
    Ok([
        process.clone(),
        format!("{process}-1299480933727220916"),
        format!(
            "{process}-0{:039}{:010}{:010}{}",
            0, 4_026_531_836_u64, 0, 1
        ),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is noticed after an action on the lock of a holder.
    fn noticed(
        protocol: Protocol,
        kind: HolderKind,
        act: impl FnOnce(&Fixture) -> Result<()>,
    ) -> Option<String> {
        let case = Case {
            protocol,
            mode: Mode::Exclusive,
            kind,
        };
        let lost = async {
            let mut held = HeldLock::new(Path::new("none"), case).await?;
            held.attack(Rights::READ_WRITE).await?;
            act(&held.fixture)?;
            held.lost().await
        };
        in_runtime(1, lost).unwrap()
    }

    #[test]
    fn a_lock_that_is_taken_over_is_noticed() {
        for kind in [HolderKind::Engine, HolderKind::Guest] {
            for protocol in [Protocol::Native, Protocol::Soft] {
                let kept = noticed(protocol, kind, |_| Ok(()));
                assert_eq!(kept, None);
                let lost = noticed(protocol, kind, |fixture| {
                    Ok(fs::remove_file(fixture.path())?)
                });
                assert!(lost.is_some(), "{protocol}");
            }
            let lost = noticed(Protocol::Mkdir, kind, |fixture| {
                let lock = fixture.dir().join("lock.lock");
                for record in fs::read_dir(&lock)? {
                    fs::remove_file(record?.path())?;
                }
                Ok(fs::write(lock.join(&dead_claims()?[0]), "")?)
            });
            assert!(lost.is_some(), "a record of a dead process");
        }
    }
}
