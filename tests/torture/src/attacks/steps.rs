//! What several parts do with guests and locks.

use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use locket::sandbox::Rights;
use locket::{Engine, Guard, LockFile, Mode, Options, Protocol};
use locket_tests::harness::{Host, STUCK, waiters};
use locket_wasmtime::LocketCtx;
use tokio::time::timeout;

use crate::attacks::support::attacker::{Answer, Attacker, Call, DEFAULT, ONE_TRY};

/// Runs guests on a thread or two of their own.
pub(crate) fn in_runtime<T>(threads: usize, guests: impl Future<Output = Result<T>>) -> Result<T> {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(threads).enable_all().build()?;
    runtime.block_on(guests)
}

/// A time in milliseconds.
pub(crate) fn millis(time: Option<Duration>) -> String {
    time.map_or_else(
        || "none".to_owned(),
        |time| format!("{:.2} ms", time.as_secs_f64() * 1e3),
    )
}

/// A random one of these.
pub(crate) fn one_of<T: Copy>(chance: &mut fastrand::Rng, of: &[T]) -> T {
    of[chance.usize(..of.len())]
}

/// Replaces a guest that has trapped, which cannot be called any more.
pub(crate) async fn renew(host: &Host, guest: &mut Attacker) -> Result<()> {
    *guest = Attacker::new(host).await?;
    Ok(())
}

/// Returns once a waiter is in line for a lock.
pub(crate) async fn is_awaited(lock: &LockFile) -> Result<()> {
    let in_line = async {
        while waiters(lock) == 0 {
            tokio::task::yield_now().await;
        }
    };
    Ok(timeout(STUCK, in_line).await?)
}

/// Makes all queries about a lock.
pub(crate) async fn ask(guest: &mut Attacker, lock: u32) -> Result<()> {
    for question in [
        Call::Holder,
        Call::IsLocked,
        Call::State,
        Call::Guarantee,
        Call::Path,
    ] {
        // What the guest sees counts, not whether a query succeeds.
        let _ = guest.call(question, [lock, 0, 0, 0]).await?;
    }
    Ok(guest.keep_what_it_saw().await?)
}

/// The protocols of kernel locks, by their number in the interface.
pub(crate) const KERNEL: Range<u32> = 0..3;

/// Those of existence locks: `link`, `symlink`, `mkdir`, `pid-file`, `soft` and `sqlite`.
pub(crate) const EXISTENCE: Range<u32> = 3..9;

/// The number of a protocol in the interface.
pub(crate) fn number(protocol: Protocol) -> u32 {
    let mut all = (0..).zip(Protocol::ALL);
    let found = all.find_map(|(number, other)| (*other == protocol).then_some(number));
    found.expect("each protocol is in the list of all")
}

/// What happens to a lock file on release.
pub(crate) const KEEP: u32 = 0;
pub(crate) const REMOVE: u32 = 1;

/// Opens a lock in a protocol, tries to acquire it, releases it and closes it; returns the answer to the
/// open if that failed, and otherwise to the acquire.
pub(crate) async fn cycle(
    guest: &mut Attacker,
    path: &str,
    protocol: u32,
    on_release: u32,
    mode: u32,
) -> Result<Answer> {
    guest.name(path).await?;
    let opened = guest.call(Call::Open, [1, protocol, on_release, 0]).await?;
    let Ok(lock) = opened else { return Ok(opened) };
    let terms = [lock, mode, ONE_TRY[0], ONE_TRY[1]];
    let granted = guest.call(Call::Acquire, terms).await?;
    // Fails if the lock was not acquired, or is lost by now.
    let _ = guest.call(Call::Release, [lock, 0, 0, 0]).await?;
    let closed = guest.call(Call::Close, [lock, 0, 0, 0]).await?;
    Ok(granted.and(closed))
}

/// Acquires a lock through an engine; to the guests of other engines, that is another process.
pub(crate) fn hold(engine: &Engine, path: &Path, protocol: Protocol, mode: Mode) -> Result<Guard> {
    let lock = engine.open_with(path, &Options::new().protocol(protocol))?;
    Ok(lock.acquire(mode, Duration::ZERO)?)
}

/// A guest that has these rights in the directory of the host.
pub(crate) async fn with_rights(host: &Host, rights: Rights) -> Result<Attacker> {
    guest_in(&host.locks, host.dir.path(), rights).await
}

/// A guest of the engine that has these rights in a directory.
pub(crate) async fn guest_in(engine: &Engine, dir: &Path, rights: Rights) -> Result<Attacker> {
    let ctx = LocketCtx::builder(engine).label("guest");
    let ctx = ctx.grant_dir(dir, "/locks", rights)?;
    Attacker::in_dir(dir, ctx.build()).await
}

/// Opens a path and closes the lock; returns the error, if there was one.
pub(crate) async fn touch(
    guest: &mut Attacker,
    path: impl AsRef<[u8]>,
) -> Result<Option<&'static str>> {
    guest.name(path).await?;
    Ok(guest.call(Call::OpenAndClose, DEFAULT).await?.err())
}
