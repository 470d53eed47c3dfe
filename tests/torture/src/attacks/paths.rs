//! Paths that lead out of the grant, look as if they did, or are nonsense.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use anyhow::Result;
use locket::Engine;
use locket::sandbox::Rights;
use locket_tests::harness::Host;

use super::{KERNEL, cycle, in_runtime, one_of, renew, touch, with_rights};
use crate::attacks::support::attacker::{Attacker, EXCLUSIVE};
use crate::attacks::support::canary::Canary;
use crate::stage::{Context, Outcome};

/// What can have come of a path that a guest made up.
const TYPED: [&str; 3] = ["invalid-path", "access-denied", "no-entry"];

/// How many strings each guest makes up.
const RANDOM: u64 = 50_000;

/// How many byte strings that are no text.
const NO_TEXT: u64 = 1_000;

/// None of these is a lock of the guest; what is there or is not makes no difference.
const OUTSIDE: &[&str] = &[
    "",
    "/",
    ".",
    "..",
    "/..",
    "../outside/there",
    "/../outside/there",
    "/locks",
    "/locks/",
    "/locks/.",
    "/locks/..",
    "/locks//..//",
    "/locks/dir/..",
    "/locks/dir/../..",
    "/locks/../outside/there",
    "/locks/../outside/new",
    "/locks/dir/../../outside/there",
    "/locks/dir/../../outside/new",
    "/locks/./../outside/new",
    "/locks/../locks/data",
    "/locks/../../../../../../../../etc/passwd",
    "/locks/../../../../../../../../proc/self/fd/0",
    "/locks/data/",
    "/locks/data/.",
    "/locks/new/",
    "/locks/new/.",
    "/locks/new\0",
    "/locks/\0new",
    "/locks/data\0/../../outside/new",
    "\0",
    "/locks/out",
    "/locks/out/there",
    "/locks/out/new",
    "/locks/out/deep/new",
    "/locks/out/../outside/there",
    "/locks/out/../new",
    "/locks/out-there",
    "/locks/out-new",
    "/locks/out-absolute",
    "/locks/up",
    "/locks/chain",
    "/locks/chain/there",
    "/locks/loop",
    "/locks/loop/new",
    "/locks/null",
    "/locks/magic/0",
    "/locks/magic/cwd/new",
    "/locks/root/etc/passwd",
    "/locks/root/tmp/new",
    "/etc/passwd",
    "/etc/shadow",
    "/proc/self/environ",
    "/proc/self/fd/0",
    "/proc/self/cwd/new",
    "/proc/self/root/etc/passwd",
    "/proc/thread-self/root/tmp/new",
    "/dev/null",
    "/dev/fd/0",
    "/dev/shm/new",
    "/tmp/new",
    "//etc/passwd",
    "///locksmith/new",
    "/locksmith/new",
    "/lock",
    "/lockz/data",
    "locksmith/data",
    "etc/passwd",
    "~/new",
    "~root/new",
    "$HOME/new",
    "C:\\locks\\new",
    "C:/locks/new",
    "c:new",
    "\\locks\\new",
    "\\\\server\\share\\new",
    "\\\\?\\C:\\new",
    "\\\\.\\pipe\\new",
    "//server/share/new",
    "//?/C:/new",
    "//./COM1",
    "NUL",
    "CON",
    "COM1",
    "AUX.txt",
    "file:///locks/new",
    "／locks／new",
    "∕locks∕new",
    "/ＬＯＣＫＳ/new",
    "/LOCKS/new",
    "/locks\u{200b}/new",
    "/lo\u{0441}ks/new",
    "%2flocks%2fnew",
];

/// Files of the directory, however strange: where they may be opened, that is inside.
const INSIDE: &[&str] = &[
    "/locks/..\\..\\outside\\new",
    "/locks/C:\\new",
    "/locks/C:",
    "/locks/COM1",
    "/locks/COM¹",
    "/locks/NUL",
    "/locks/CON .txt",
    "/locks/PRN.",
    "/locks/new:stream",
    "/locks/．．／outside",
    "/locks/．．",
    "/locks/..／outside",
    "/locks/..%2foutside",
    "/locks/%2e%2e/outside",
    "/locks/...",
    "/locks/.. ",
    "/locks/ ..",
    "/locks/\u{202e}txt",
    "/locks/e\u{301}",
    "/locks/\u{e9}",
    "/locks/\u{feff}new",
    "/locks/\n",
    "/locks/-rf",
    "/locks/$HOME",
    "/locks/~",
    "locks/./././new",
    "//locks///new",
];

/// Of these pieces, random strings are made.
const PIECES: &[&str] = &[
    "/",
    "/",
    "/",
    "/",
    "..",
    "..",
    ".",
    "locks",
    "/locks/",
    "/locks/",
    "dir",
    "deep",
    "data",
    "empty",
    "out",
    "out-there",
    "out-new",
    "up",
    "chain",
    "loop",
    "null",
    "magic",
    "root",
    "there",
    "new",
    "outside",
    "etc",
    "passwd",
    "proc",
    "self",
    "fd",
    "0",
    "cwd",
    "tmp",
    "dev",
    "\\",
    "\0",
    ":",
    "C:",
    "%2e",
    " ",
    "．．",
    "／",
    "é",
    "\u{202e}",
    "\u{10ffff}",
    "\n",
    "~",
    "*",
    "..\\",
    "....",
];

fn made_up(chance: &mut fastrand::Rng) -> String {
    let pieces = (0..chance.usize(1..12)).map(|_| match chance.u8(..16) {
        0 => chance.char(..).to_string(),
        // Around the length of the longest name.
        1 => "x".repeat(chance.usize(..300)),
        _ => one_of(chance, PIECES).to_owned(),
    });
    pieces.collect()
}

/// Where the guest has a directory from which links lead out, and what lies beside it.
pub(super) struct Enclosure {
    /// Of the guest.
    pub(super) host: Host,
    /// Around the guest's directory: all but that is none of its business.
    pub(super) around: tempfile::TempDir,
}

impl Enclosure {
    pub(super) fn new() -> Result<Self> {
        let around = tempfile::tempdir()?;
        let host = Host {
            dir: tempfile::tempdir_in(&around)?,
            locks: Engine::new(),
        };
        let outside = around.path().join("outside");
        fs::create_dir_all(outside.join("deep"))?;
        fs::write(outside.join("there"), "outside")?;
        Ok(Self { host, around })
    }

    pub(super) fn outside(&self, name: &str) -> PathBuf {
        self.around.path().join("outside").join(name)
    }

    /// What is there that is not the guest's.
    pub(super) fn canary(&self) -> Result<Canary> {
        Ok(Canary::of(self.around.path(), &[self.host.dir.path()])?)
    }
}

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
        outcome.must(refused, || format!("{path:.80?} came to {error:?}"));
        outcome.did("paths of a corpus", 1);
    }
    for path in INSIDE {
        let error = touch(&mut guest, path).await?;
        let typed = error.is_none_or(|error| TYPED.contains(&error));
        outcome.must(typed, || format!("{path:?} came to {error:?}"));
        outcome.did("paths of a corpus", 1);
    }
    let mut chance = context.chance(0);
    let inside = || Canary::of(host.dir.path(), &[]);
    let untouched = inside()?;
    let mut led = random(&mut outcome, &mut chance, host, Rights::LOCKS).await?;
    outcome.violations.extend(inside()?.harm(&untouched));
    led += random(&mut outcome, &mut chance, host, Rights::READ_WRITE).await?;
    // An empty file is a lock file, which these may remove.
    let untouched = untouched.with_content();
    outcome.violations.extend(inside()?.harm(&untouched));
    guest.keep_what_it_saw().await?;
    // Strings of a component are text, so this is a fault of the guest.
    for _ in 0..NO_TEXT {
        let bytes: Vec<u8> = (0..chance.usize(1..64)).map(|_| chance.u8(128..)).collect();
        if String::from_utf8(bytes.clone()).is_ok() {
            continue;
        }
        let path = [b"/locks/", &*bytes].concat();
        let result = touch(&mut guest, &path).await;
        outcome.must(result.is_err(), || format!("{path:?} came to {result:?}"));
        renew(host, &mut guest).await?;
        outcome.did("strings that are no text", 1);
    }
    let changes = enclosure.canary()?.changes(&before);
    outcome.measured("changes outside", changes.len());
    outcome.violations.extend(changes);
    outcome.measured("led inside", led);
    Ok(outcome)
}

/// Acquires the locks of random strings, in any protocol, to keep or to remove the file; how many
/// were had.
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
        // Mostly those of the kernel, since the rest is not granted to everyone.
        let protocol = if chance.u8(..4) == 0 {
            chance.u32(..8)
        } else {
            chance.u32(KERNEL)
        };
        let on_release = chance.u32(..2);
        let error = cycle(&mut guest, &path, protocol, on_release, EXCLUSIVE).await?;
        let error = error.err();
        had += u64::from(error.is_none());
        // To `pid-file` and `soft`, whatever has the name is the lock of another.
        let named = protocol >= 6 && error == Some("would-block");
        let typed = error.is_none_or(|error| TYPED.contains(&error));
        outcome.must(typed || named, || {
            format!("{path:?}, {protocol}, came to {error:?}")
        });
    }
    outcome.did("random strings", RANDOM);
    outcome.must(had > 0, || {
        format!("with {rights:?} no random string led to a file")
    });
    guest.keep_what_it_saw().await?;
    Ok(had)
}
