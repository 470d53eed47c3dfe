//! Paths that lead out of the grant, look as if they did, or make no sense.

use std::fs;
use std::os::unix::fs::symlink;

use anyhow::Result;
use locket::sandbox::Rights;
use locket_tests::harness::Host;

use self::corpus::{INSIDE, OUTSIDE, made_up};
use super::{KERNEL, cycle, in_runtime, renew, touch, with_rights};
use crate::attacks::support::attacker::{Attacker, EXCLUSIVE};
use crate::attacks::support::canary::Canary;
use crate::attacks::support::enclosure::Enclosure;
use crate::stage::{Context, Outcome};

mod corpus;

/// The errors that a path may cause.
const TYPED: [&str; 3] = ["invalid-path", "access-denied", "no-entry"];

/// How many random strings each guest tries.
const RANDOM: u64 = 50_000;

/// How many random byte strings are tried that are not UTF-8.
const NO_TEXT: u64 = 1_000;

fn path_tree() -> Result<Enclosure> {
    let enclosure = Enclosure::new()?;
    let host = &enclosure.host;
    fs::write(host.path("data"), "inside")?;
    fs::write(host.path("empty"), "")?;
    fs::create_dir_all(host.path("dir/deep"))?;
    symlink("../outside", host.path("out"))?;
    symlink("../outside/there", host.path("out-there"))?;
    symlink("../outside/new", host.path("out-new"))?;
    symlink(enclosure.outside("there"), host.path("out-absolute"))?;
    symlink("..", host.path("up"))?;
    symlink("dir/../out", host.path("chain"))?;
    symlink("loop", host.path("loop"))?;
    symlink("/dev/null", host.path("null"))?;
    symlink("/proc/self", host.path("magic"))?;
    symlink("/", host.path("root"))?;
    Ok(enclosure)
}

pub(super) fn run(context: &Context) -> Result<Outcome> {
    in_runtime(1, paths(context))
}

async fn paths(context: &Context) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let enclosure = path_tree()?;
    let host = &enclosure.host;
    let before = enclosure.canary()?;
    let mut guest = Attacker::new(host).await?;
    let long = format!("/locks/{}", "x".repeat(64 << 10));
    let deep = format!("/locks/{}new", "dir/../".repeat(9 << 10));
    let real = host.path("data").display().to_string();
    let there = enclosure.outside("there").display().to_string();
    let outside = OUTSIDE
        .iter()
        .copied()
        .chain([&*long, &*deep, &*real, &*there]);
    for path in outside {
        let error = touch(&mut guest, path).await?;
        let refused = error.is_some_and(|error| TYPED[..2].contains(&error));
        outcome.must(refused, || format!("{path:.80?}: {error:?}"));
        outcome.did("chosen paths", 1);
    }
    for path in INSIDE {
        let error = touch(&mut guest, path).await?;
        let typed = error.is_none_or(|error| TYPED.contains(&error));
        outcome.must(typed, || format!("{path:?}: {error:?}"));
        outcome.did("chosen paths", 1);
    }
    let mut chance = context.chance(0);
    let inside = || Canary::of(host.dir.path(), &[]);
    let untouched = inside()?;
    let mut led = random(&mut outcome, &mut chance, host, Rights::LOCKS).await?;
    outcome.violations.extend(inside()?.harm(&untouched));
    led += random(&mut outcome, &mut chance, host, Rights::READ_WRITE).await?;
    // An empty file is a lock file, which these guests may remove.
    let untouched = untouched.with_content();
    outcome.violations.extend(inside()?.harm(&untouched));
    guest.keep_what_it_saw().await?;
    // Strings of a component are UTF-8, so anything else is a fault of the guest.
    for _ in 0..NO_TEXT {
        let bytes: Vec<u8> = (0..chance.usize(1..64)).map(|_| chance.u8(128..)).collect();
        if String::from_utf8(bytes.clone()).is_ok() {
            continue;
        }
        let path = [b"/locks/", &*bytes].concat();
        let result = touch(&mut guest, &path).await;
        outcome.must(result.is_err(), || format!("{path:?}: {result:?}"));
        renew(host, &mut guest).await?;
        outcome.did("strings that are not UTF-8", 1);
    }
    let changes = enclosure.canary()?.changes(&before);
    outcome.measured("changes outside", changes.len());
    outcome.violations.extend(changes);
    outcome.measured("acquired inside", led);
    Ok(outcome)
}

/// Acquires the locks of random strings, in any protocol, to keep or to remove the file; returns how many
/// were acquired.
async fn random(
    outcome: &mut Outcome,
    chance: &mut fastrand::Rng,
    host: &Host,
    rights: Rights,
) -> Result<u64> {
    let mut guest = with_rights(host, rights).await?;
    let mut had = 0;
    for _ in 0..RANDOM {
        let path = made_up(chance);
        // Mostly kernel locks, because not all guests have the right to the others.
        let protocol = if chance.u8(..4) == 0 {
            chance.u32(..8)
        } else {
            chance.u32(KERNEL)
        };
        let on_release = chance.u32(..2);
        let error = cycle(&mut guest, &path, protocol, on_release, EXCLUSIVE).await?;
        let error = error.err();
        had += u64::from(error.is_none());
        // To `pid-file` and `soft`, any file of that name is the lock of another holder.
        let named = protocol >= 6 && error == Some("would-block");
        let typed = error.is_none_or(|error| TYPED.contains(&error));
        outcome.must(typed || named, || {
            format!("{path:?}, protocol {protocol}: {error:?}")
        });
    }
    outcome.did("random strings", RANDOM);
    outcome.must(had > 0, || {
        format!("with {rights:?} no random string led to a file")
    });
    guest.keep_what_it_saw().await?;
    Ok(had)
}
