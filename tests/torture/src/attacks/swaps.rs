//! Exchanges what a path leads to, again and again, while guests open it.
//!
//! Files and directories of the grant change places with links that lead out, and with a pipe. The
//! targets of the links are locked, and nothing inside is. So a guest that sees a lock, or has to wait for
//! one, has got out.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use locket::{Engine, Mode, Options, Protocol};
use rustix::fs::{CWD, FileType, Mode as Bits, RenameFlags, mknodat, renameat_with};

use super::{in_runtime, one_of};
use crate::attacks::support::attacker::{Attacker, Call, DEFAULT, EXCLUSIVE, ONE_TRY};
use crate::attacks::support::enclosure::Enclosure;
use crate::attacks::support::stop::Stop;
use crate::stage::{Context, Outcome};

/// For how long.
const TIME: Duration = Duration::from_secs(20);

/// What changes places with what.
const PAIRS: [(&str, &str); 4] = [
    ("file", "link-to-file"),
    ("plain", "link-to-new"),
    ("dir", "link-to-dir"),
    ("regular", "pipe"),
];

/// What the guest opens. Some that do not exist inside exist outside.
const PATHS: [&str; 6] = [
    "/locks/file",
    "/locks/plain",
    "/locks/dir/there",
    "/locks/dir/new",
    "/locks/dir/../file",
    "/locks/regular",
];

/// The errors of an open or an acquire: the file may be gone, or not be a regular one.
const TYPED: [&str; 2] = ["invalid-path", "no-entry"];

fn set_up() -> Result<Enclosure> {
    let enclosure = Enclosure::new()?;
    let host = &enclosure.host;
    for file in ["file", "plain", "regular"] {
        fs::write(host.path(file), "inside")?;
    }
    fs::create_dir(host.path("dir"))?;
    fs::write(host.path("dir/there"), "inside")?;
    fs::write(enclosure.outside("deep/there"), "outside")?;
    symlink(enclosure.outside("there"), host.path("link-to-file"))?;
    symlink(enclosure.outside("new"), host.path("link-to-new"))?;
    symlink("../outside/deep", host.path("link-to-dir"))?;
    mknodat(
        CWD,
        host.path("pipe"),
        FileType::Fifo,
        Bits::RUSR | Bits::WUSR,
        0,
    )?;
    Ok(enclosure)
}

pub(super) fn run(context: &Context) -> Result<Outcome> {
    let enclosure = set_up()?;
    let before = enclosure.canary()?;
    let others = Engine::new();
    let held = ["there", "deep/there"].map(|name| {
        let lock = others.open_with(
            enclosure.outside(name),
            &Options::new().protocol(Protocol::Native),
        );
        lock.and_then(|lock| lock.acquire(Mode::Exclusive, None))
    });
    let mut outcome = Outcome::default();
    for hold in &held {
        outcome.must(hold.is_ok(), || {
            format!("what is outside cannot be locked: {hold:?}")
        });
    }
    let (stop, swaps) = (Stop::default(), AtomicU64::new(0));
    thread::scope(|scope| {
        let swapper = scope.spawn(|| exchange(enclosure.host.dir.path(), &stop, &swaps));
        let end = stop.when_dropped();
        let guest = in_runtime(1, open(context, &enclosure, &mut outcome));
        drop(end);
        swapper.join().expect("the thread does not panic")?;
        guest
    })?;
    outcome.did("exchanges", swaps.into_inner());
    let changes = enclosure.canary()?.changes(&before);
    outcome.measured("changes outside", changes.len());
    outcome.violations.extend(changes);
    Ok(outcome)
}

fn exchange(dir: &Path, stop: &Stop, swaps: &AtomicU64) -> Result<()> {
    let pairs = PAIRS.map(|(one, other)| (dir.join(one), dir.join(other)));
    while !stop.is_due() {
        for (one, other) in &pairs {
            renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)?;
        }
        swaps.fetch_add(pairs.len() as u64, Relaxed);
    }
    Ok(())
}

async fn open(context: &Context, enclosure: &Enclosure, outcome: &mut Outcome) -> Result<()> {
    let mut guest = Attacker::new(&enclosure.host).await?;
    let mut chance = context.chance(1);
    let start = Instant::now();
    while start.elapsed() < TIME {
        let path = one_of(&mut chance, &PATHS);
        guest.name(path).await?;
        // Most of the time is spent on this.
        let storm = guest.storm(Call::OpenAndClose, DEFAULT, 200).await?;
        let typed: u32 = TYPED.iter().map(|error| storm.failed_with(error)).sum();
        outcome.must(storm.done() + typed == storm.all(), || {
            format!("{path}: {storm:?}")
        });
        outcome.did("opens", storm.done().into());
        outcome.did("refused opens", typed.into());
        match chance.u8(..8) {
            0 => acquire_name(&mut guest, &mut chance, outcome).await?,
            _ => acquire(&mut guest, path, chance.u32(..3), outcome).await?,
        }
    }
    guest.keep_what_it_saw().await?;
    for (what, times) in &outcome.amounts {
        if *times == 0 {
            outcome.violations.push(format!("no {what}"));
        }
    }
    Ok(())
}

/// Acquires the kernel lock of the path that was named.
async fn acquire(
    guest: &mut Attacker,
    path: &str,
    protocol: u32,
    outcome: &mut Outcome,
) -> Result<()> {
    let Ok(lock) = guest.call(Call::Open, [1, protocol, 0, 0]).await? else {
        return Ok(());
    };
    let locked = guest.call(Call::IsLocked, [lock, 0, 0, 0]).await?;
    outcome.must(locked != Ok(1), || {
        format!("{path} is locked, so it is outside")
    });
    let terms = [lock, EXCLUSIVE, ONE_TRY[0], ONE_TRY[1]];
    let granted = guest.call(Call::Acquire, terms).await?;
    outcome.did("acquires", granted.is_ok().into());
    let inside = granted.is_ok() || granted.is_err_and(|error| TYPED.contains(&error));
    outcome.must(inside, || format!("{path}: {granted:?}"));
    // Fails if the path leads elsewhere by now, because the lock is then lost.
    let _ = guest.call(Call::Release, [lock, 0, 0, 0]).await?;
    let _ = guest.call(Call::Close, [lock, 0, 0, 0]).await?;
    Ok(())
}

/// Acquires an existence lock, whose entry is created beside the path that was named, or at it.
async fn acquire_name(
    guest: &mut Attacker,
    chance: &mut fastrand::Rng,
    outcome: &mut Outcome,
) -> Result<()> {
    let options = [1, chance.u32(3..8), chance.u32(..2), 0];
    let Ok(lock) = guest.call(Call::Open, options).await? else {
        return Ok(());
    };
    let terms = [lock, EXCLUSIVE, ONE_TRY[0], ONE_TRY[1]];
    let granted = guest.call(Call::Acquire, terms).await?;
    outcome.did("acquires of existence locks", granted.is_ok().into());
    let _ = guest.call(Call::Close, [lock, 0, 0, 0]).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use locket_tests::harness::Host;

    #[test]
    fn seeing_a_held_lock_is_an_escape() {
        let host = Host::new();
        let _outside = host.foreign("a").acquire(Mode::Exclusive, None).unwrap();
        for (path, escapes) in [("/locks/a", 2), ("/locks/b", 0)] {
            let mut outcome = Outcome::default();
            let tried = async {
                let mut guest = Attacker::new(&host).await?;
                guest.name(path).await?;
                acquire(&mut guest, path, 0, &mut outcome).await
            };
            in_runtime(1, tried).unwrap();
            assert_eq!(outcome.violations.len(), escapes, "{outcome:?}");
        }
    }

    #[test]
    fn a_file_created_outside_is_noticed() {
        let enclosure = set_up().unwrap();
        let before = enclosure.canary().unwrap();
        fs::write(enclosure.host.path("dir/new"), "").unwrap();
        assert_eq!(enclosure.canary().unwrap(), before);
        fs::write(enclosure.host.path("link-to-dir/new"), "").unwrap();
        assert_ne!(enclosure.canary().unwrap(), before);
    }
}
