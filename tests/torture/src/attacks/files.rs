//! Foreign files under the names of lock files: files with content, links to them, hard links.

use std::fs;
use std::os::unix::fs::symlink;

use anyhow::Result;

use super::{EXISTENCE, KEEP, KERNEL, REMOVE, ask, in_runtime};
use crate::attacks::support::attacker::{Attacker, Call, EXCLUSIVE, ONE_TRY};
use crate::attacks::support::canary::Canary;
use crate::attacks::support::enclosure::Enclosure;
use crate::stage::{Context, Outcome};

/// How often each is tried.
const ROUNDS: usize = 50;

pub(super) fn run(_: &Context) -> Result<Outcome> {
    in_runtime(1, files())
}

async fn files() -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let enclosure = Enclosure::new()?;
    let host = &enclosure.host;
    let contents = [
        "",
        "text",
        "1\n",
        "4194304\nhost\nname\n",
        "\0\0\0\0",
        "SQLite format 3\0",
    ];
    let mut names = Vec::new();
    for (number, content) in contents.into_iter().enumerate() {
        let foreign = format!("foreign-{number}");
        fs::write(enclosure.outside(&foreign), content)?;
        let kinds = ["own", "linked", "hard"].map(|kind| format!("{kind}-{number}"));
        fs::write(host.path(&kinds[0]), content)?;
        symlink(&kinds[0], host.path(&kinds[1]))?;
        fs::hard_link(enclosure.outside(&foreign), host.path(&kinds[2]))?;
        names.extend(kinds);
    }
    let outside = enclosure.canary()?;
    let inside = Canary::of(host.dir.path(), &[])?;
    let mut guest = Attacker::new(host).await?;
    let mut locked = 0;
    for _ in 0..ROUNDS {
        for name in &names {
            for protocol in KERNEL {
                locked += use_lock(&mut guest, &mut outcome, name, protocol, KEEP).await?;
            }
        }
    }
    outcome.must(locked > 0, || "no file was locked".to_owned());
    let changes = Canary::of(host.dir.path(), &[])?.changes(&inside);
    outcome.violations.extend(changes);
    for name in &names {
        for protocol in EXISTENCE {
            use_lock(&mut guest, &mut outcome, name, protocol, KEEP).await?;
        }
        for protocol in KERNEL {
            use_lock(&mut guest, &mut outcome, name, protocol, REMOVE).await?;
        }
    }
    guest.keep_what_it_saw().await?;
    outcome.measured("files locked", locked);
    // Only empty lock files may be gone.
    let now = Canary::of(host.dir.path(), &[])?;
    outcome.violations.extend(now.harm(&inside.with_content()));
    outcome
        .violations
        .extend(enclosure.canary()?.changes(&outside));
    Ok(outcome)
}

/// Acquires the lock, queries it and releases it; returns 1 if it was acquired.
async fn use_lock(
    guest: &mut Attacker,
    outcome: &mut Outcome,
    name: &str,
    protocol: u32,
    on_release: u32,
) -> Result<u64> {
    outcome.did("attempts", 1);
    guest.name(format!("/locks/{name}")).await?;
    let Ok(lock) = guest.call(Call::Open, [1, protocol, on_release, 0]).await? else {
        return Ok(0);
    };
    let terms = [lock, EXCLUSIVE, ONE_TRY[0], ONE_TRY[1]];
    let acquired = guest.call(Call::Acquire, terms).await?.is_ok();
    ask(guest, lock).await?;
    // Fails if the lock was not acquired.
    let _ = guest.call(Call::Release, [lock, 0, 0, 0]).await?;
    let closed = guest.call(Call::Close, [lock, 0, 0, 0]).await?;
    outcome.must(closed.is_ok(), || format!("{name} cannot be closed"));
    Ok(acquired.into())
}
