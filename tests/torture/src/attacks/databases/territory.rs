//! The host may not keep a database where guests lock.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;

use anyhow::Result;
use locket::sandbox::Rights;
use locket::{Engine, Options, Protocol};
use locket_wasmtime::{LocketCtx, LocketCtxBuilder};

use crate::attacks::support::attacker::{Attacker, Call};
use crate::attacks::{KEEP, in_runtime, number};
use crate::stage::Outcome;

/// A database must not lie where guests lock, whichever is named first and however it is spelled. The
/// engine of the guests is that of the database.
pub(super) fn must_not_meet(outcome: &mut Outcome, engines: fn() -> [Engine; 2]) -> Result<()> {
    let root = tempfile::tempdir()?;
    let path = |name: &str| root.path().join(name);
    fs::create_dir_all(path("granted/deep"))?;
    fs::create_dir_all(path("kept/deep"))?;
    symlink("granted", path("link"))?;
    symlink("kept", path("kept-link"))?;
    let mut must = |what: &str, refused: bool, result: io::Result<()>| {
        let denied = |e: &io::Error| e.kind() == io::ErrorKind::PermissionDenied;
        let kept = result.as_ref().err().is_some_and(denied) == refused;
        outcome.must(kept, || format!("{what}: {result:?}"));
        outcome.did("databases named beside grants", 1);
    };
    for name in [
        "granted/db",
        "granted/deep/db",
        "granted/./deep/../db",
        "link/db",
    ] {
        let [guests, host] = engines();
        let database = path(name);
        let guest = grant(&guests, &path("granted"))?.build();
        let named = || LocketCtx::builder(&host).database(&database).map(drop);
        must("a database after the grant", true, named());
        let options = Options::new()
            .protocol(Protocol::Sqlite)
            .database(&database);
        let opened = host.open_with(path("x"), &options).map(drop);
        let opened = opened.map_err(|e| match e.is_denied() {
            true => io::ErrorKind::PermissionDenied.into(),
            false => io::Error::other(e),
        });
        must("a lock of the host in it", true, opened);
        drop(guest);
        must("a database after the guest", false, named());
        for (dir, refused) in [
            ("granted", true),
            (".", true),
            ("link", true),
            ("kept", false),
        ] {
            let granted = grant(&guests, &path(dir)).map(drop);
            must(&format!("a grant of {dir} after {name}"), refused, granted);
        }
    }
    // It is moved into the grant after both were named.
    let [guests, _] = engines();
    let ctx = grant(&guests, &path("granted"))?.database(path("kept-link/db"))?;
    fs::rename(path("kept"), path("granted/kept"))?;
    fs::remove_file(path("kept-link"))?;
    symlink("granted/kept", path("kept-link"))?;
    let opened = in_runtime(1, async {
        let mut guest = Attacker::in_dir(&path("granted"), ctx.build()).await?;
        guest.name("/locks/x").await?;
        let opening = [1, number(Protocol::Sqlite), KEEP, 0];
        Ok(guest.call(Call::Open, opening).await?)
    })?;
    let kept = opened.is_err();
    outcome.must(kept, || format!("a database that was moved: {opened:?}"));
    Ok(())
}

/// A directory that is gone does not prevent the grant of another, even if the system uses its number
/// again.
pub(super) fn is_forgotten(outcome: &mut Outcome) -> Result<()> {
    /// How many are removed, and how many are created to get one with the number of one of those.
    const GONE: usize = 50;
    const NEW: usize = 200;
    let root = tempfile::tempdir()?;
    let engine = Engine::new();
    let make = |name: String| -> Result<_> {
        let dir = root.path().join(name);
        fs::create_dir(&dir)?;
        Ok((fs::metadata(&dir)?.ino(), dir))
    };
    let mut gone = BTreeSet::new();
    for number in 0..GONE {
        let (identity, dir) = make(format!("gone-{number}"))?;
        drop(LocketCtx::builder(&engine).database(dir.join("db"))?);
        fs::remove_dir(&dir)?;
        gone.insert(identity);
    }
    for number in 0..NEW {
        let (identity, dir) = make(format!("new-{number}"))?;
        if gone.contains(&identity) {
            let granted = grant(&engine, &dir).map(drop);
            let kept = granted.is_ok();
            outcome.must(kept, || format!("where another directory was: {granted:?}"));
            outcome.did("databases named beside grants", 1);
            return Ok(());
        }
    }
    let omitted = "a directory with the number of one that is gone: no number is used again";
    outcome.omitted.push(omitted.to_owned());
    Ok(())
}

/// Two handles of one engine.
pub(super) fn one() -> [Engine; 2] {
    let engine = Engine::new();
    [engine.clone(), engine]
}

fn grant(engine: &Engine, dir: &Path) -> io::Result<LocketCtxBuilder> {
    LocketCtx::builder(engine).grant_dir(dir, "/locks", Rights::READ_ONLY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_that_a_guest_can_reach_is_noticed() {
        let two = || [Engine::new(), Engine::new()];
        for (engines, noticed) in [(one as fn() -> [Engine; 2], 0), (two, 5)] {
            let mut outcome = Outcome::default();
            must_not_meet(&mut outcome, engines).unwrap();
            let violations = outcome.violations;
            assert_eq!(violations.len() / 4, noticed, "{violations:?}");
        }
    }
}
