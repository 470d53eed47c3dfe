//! Names that the owner records of existence locks have, and that guests must not create.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use anyhow::{Result, ensure};
use locket::sandbox::Rights;
use locket::{Engine, Mode, Options, Protocol, State};
use locket_tests::harness::Host;

use crate::attacks::support::attacker::{Attacker, EXCLUSIVE};
use crate::attacks::support::canary::Canary;
use crate::attacks::takeover::dead_claims;
use crate::attacks::{KEEP, KERNEL, cycle, touch, with_rights};
use crate::stage::Outcome;

/// Directories that are a lock or have the name of one, and links to them.
const LOCK_DIRS: [&str; 8] = [
    "held.lock/",
    "empty.lock/",
    "full.lock/",
    "dir/deep.lock/",
    "to-held/",
    "dir/to-held/",
    "to-to-held/",
    "dir/../held.lock/../to-held/./",
];

/// Other directories.
const PLAIN_DIRS: [&str; 3] = ["", "dir/", "held.lock/../"];

/// A guest with these rights cannot create an owner record.
pub(super) async fn reserved(rights: Rights, outcome: &mut Outcome) -> Result<()> {
    let host = Host::new();
    let options = Options::new().protocol(Protocol::Mkdir);
    let lock = Engine::new().open_with(host.path("held"), &options)?;
    fs::create_dir(host.path("dir"))?;
    for name in ["empty.lock", "full.lock", "dir/deep.lock"] {
        fs::create_dir(host.path(name))?;
    }
    for name in ["one", "two"] {
        fs::write(host.path("full.lock").join(name), "")?;
    }
    symlink("held.lock", host.path("to-held"))?;
    symlink("../held.lock", host.path("dir/to-held"))?;
    symlink("dir/to-held", host.path("to-to-held"))?;
    let held = lock.acquire(Mode::Exclusive, Duration::ZERO)?;
    ensure!(
        host.path("held.lock").is_dir(),
        "a `mkdir` lock is not a directory"
    );

    let mut guest = with_rights(&host, rights).await?;
    let claims = dead_claims()?;
    for dir in LOCK_DIRS {
        for name in claims
            .each_ref()
            .map(String::as_str)
            .into_iter()
            .chain(["new", "x.lock"])
        {
            refuse(&host, &mut guest, &format!("{dir}{name}"), outcome).await?;
        }
    }
    for dir in PLAIN_DIRS {
        for name in &claims {
            // The shorter ones are names that any file may have outside of a lock.
            if name.len() > 60 {
                refuse(&host, &mut guest, &format!("{dir}{name}"), outcome).await?;
            }
        }
    }
    guest.keep_what_it_saw().await?;

    let third = Engine::new().open_with(host.path("held"), &options)?;
    let taken = third.try_acquire(Mode::Exclusive)?;
    outcome.must(taken.is_none(), || {
        "a living holder was displaced".to_owned()
    });
    let state = lock.state();
    outcome.must(state == State::Held, || {
        format!("the holder is in state {state:?}")
    });
    let released = held.release();
    outcome.must(released.is_ok(), || format!("the release: {released:?}"));
    let next = third.try_acquire(Mode::Exclusive)?;
    outcome.must(next.is_some(), || {
        "the lock is not free after its release".to_owned()
    });
    Ok(())
}

/// Tries to create a file at a path in each protocol of kernel locks: access must be denied, and nothing
/// may change.
async fn refuse(
    host: &Host,
    guest: &mut Attacker,
    path: &str,
    outcome: &mut Outcome,
) -> Result<()> {
    let before = Canary::of(host.dir.path(), &[])?;
    let guests = format!("/locks/{path}");
    let by_default = touch(guest, &guests).await?;
    let mut answers = vec![by_default.map_or(Ok(0), Err)];
    for protocol in KERNEL {
        let answer = cycle(guest, &guests, protocol, KEEP, EXCLUSIVE).await?;
        answers.push(answer);
    }
    for answer in answers {
        outcome.must(answer == Err("access-denied"), || {
            format!("{path}: {answer:?}")
        });
        outcome.did("names refused", 1);
    }
    let changes = Canary::of(host.dir.path(), &[])?.changes(&before);
    outcome.violations.extend(changes);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attacks::in_runtime;

    #[test]
    fn a_file_that_is_created_is_noticed() {
        let claim = &dead_claims().unwrap()[2];
        // The second is an ordinary name.
        for (path, violates) in [(&**claim, false), ("plain", true)] {
            let host = Host::new();
            let mut outcome = Outcome::default();
            let refused = async {
                let mut guest = with_rights(&host, Rights::LOCKS).await?;
                refuse(&host, &mut guest, path, &mut outcome).await
            };
            in_runtime(1, refused).unwrap();
            assert_eq!(!outcome.violations.is_empty(), violates, "{outcome:?}");
        }
    }
}
