//! The ways in which a guest, or what it has, comes to an end.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use anyhow::{Result, anyhow, ensure};
use locket::sandbox::Limits;
use locket::{Guard, Mode};
use locket_tests::harness::{Guest, STUCK, component, runtime, waiters};
use locket_wasmtime::LocketView as _;

use super::Fixture;
use crate::attacks::support::attacker::{Answer, Attacker, Call, EXCLUSIVE, INDEFINITELY};

/// Ways for a guest, or for what it has, to end; most while it holds the lock.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Ending {
    /// It releases and closes, and lives on.
    Return,
    /// It closes the handle through which it holds.
    Close,
    /// Its store is dropped with everything in it.
    Drop,
    /// It traps.
    Trap,
    /// Its epoch ends.
    Epoch,
    /// It calls `exit`.
    Exit,
    /// It is a task that is aborted.
    Abort,
    /// It waits, and the future of its call is dropped.
    DropWaiting,
    /// It waits, and is a task that is aborted.
    AbortWaiting,
    /// It drops a pending acquire that waits.
    Abandon,
    /// It drops a pending acquire that was granted and never polled.
    AbandonGranted,
    /// It drops a guard.
    DropGuard,
    /// Its store is dropped with pending acquires, pollables and subtasks.
    DropPending,
    /// It cancels an acquire of WASI 0.3.
    Cancel,
    /// It releases a lock file, which is then removed.
    Remove,
    /// It traps with a lock file that is removed on release.
    TrapRemoving,
    /// It traps with an existence lock.
    TrapNamed,
    /// Its hold reaches the host's limit.
    Expire,
    /// The host takes all its locks away.
    ReleaseAll,
}

pub(super) const ENDINGS: [Ending; 19] = [
    Ending::Return,
    Ending::Close,
    Ending::Drop,
    Ending::Trap,
    Ending::Epoch,
    Ending::Exit,
    Ending::Abort,
    Ending::DropWaiting,
    Ending::AbortWaiting,
    Ending::Abandon,
    Ending::AbandonGranted,
    Ending::DropGuard,
    Ending::DropPending,
    Ending::Cancel,
    Ending::Remove,
    Ending::TrapRemoving,
    Ending::TrapNamed,
    Ending::Expire,
    Ending::ReleaseAll,
];

impl Fixture {
    pub(super) async fn end(&mut self, ending: Ending, chance: &mut fastrand::Rng) -> Result<()> {
        match ending {
            Ending::Return
            | Ending::Close
            | Ending::AbandonGranted
            | Ending::DropGuard
            | Ending::Remove => self.release_all(ending).await,
            Ending::Abandon | Ending::Cancel => {
                let held = self.held(chance)?;
                self.release_all(ending).await?;
                Ok(held.release()?)
            }
            Ending::DropWaiting | Ending::AbortWaiting | Ending::DropPending => {
                let held = self.held(chance)?;
                self.end_waiting(ending).await?;
                Ok(held.release()?)
            }
            Ending::Exit => self.exit().await,
            _ => self.end_holding(ending, chance).await,
        }
    }

    /// Holds the lock for another owner, in this engine or in another one.
    fn held(&self, chance: &mut fastrand::Rng) -> Result<Guard> {
        let lock = if chance.bool() { &self.near } else { &self.far };
        Ok(lock.acquire(Mode::Exclusive, STUCK)?)
    }

    /// The resident guest releases what it has.
    async fn release_all(&mut self, ending: Ending) -> Result<()> {
        let guest = &mut self.resident;
        let removing = u32::from(ending == Ending::Remove);
        let path = if ending == Ending::Remove {
            "/locks/removed"
        } else {
            "/locks/a"
        };
        guest.name(path).await?;
        let lock = ok(guest.call(Call::Open, [0, 0, removing, 0]).await?)?;
        let terms = [lock, EXCLUSIVE, INDEFINITELY[0], INDEFINITELY[1]];
        let (take, give) = match ending {
            Ending::Return | Ending::Remove => (Call::Acquire, Some(Call::Release)),
            Ending::Close => (Call::Acquire, None),
            Ending::Cancel => (Call::AcquireAsync, None),
            Ending::DropGuard => (Call::Start, Some(Call::GuardDrop)),
            _ => (Call::Start, Some(Call::Abandon)),
        };
        let taken = ok(guest.call(take, terms).await?)?;
        let of = match ending {
            Ending::DropGuard => {
                let guard = ok(guest.finish(taken).await?)?;
                ok(guest.call(Call::Abandon, [taken, 0, 0, 0]).await?)?;
                guard
            }
            Ending::Return | Ending::Remove => lock,
            _ => taken,
        };
        if ending == Ending::Cancel {
            guest.cancel(taken).await?;
        }
        if let Some(give) = give {
            ok(guest.call(give, [of, 0, 0, 0]).await?)?;
        }
        ok(guest.call(Call::Close, [lock, 0, 0, 0]).await?)?;
        Ok(())
    }

    /// A guest of its own ends while it waits.
    async fn end_waiting(&self, ending: Ending) -> Result<()> {
        let mut guest = Attacker::new(&self.host).await?;
        let lock = guest.open("/locks/a").await?;
        match ending {
            Ending::DropWaiting => {
                let mut wait = pin!(guest.acquire(lock, INDEFINITELY));
                let begun = poll_fn(|cx| Poll::Ready(wait.as_mut().poll(cx))).await;
                ensure!(begun.is_pending(), "the guest does not wait");
            }
            Ending::AbortWaiting => {
                let task = tokio::spawn(async move { guest.acquire(lock, INDEFINITELY).await });
                while waiters(&self.near) == 0 {
                    tokio::task::yield_now().await;
                }
                task.abort();
                ensure!(
                    task.await.is_err_and(|end| end.is_cancelled()),
                    "the task was not aborted"
                );
            }
            _ => {
                let terms = [lock, EXCLUSIVE, INDEFINITELY[0], INDEFINITELY[1]];
                let pending = ok(guest.call(Call::Start, terms).await?)?;
                ok(guest.call(Call::Subscribe, [pending, 0, 0, 0]).await?)?;
                ok(guest.call(Call::AcquireAsync, terms).await?)?;
                ok(guest.call(Call::Lost, [lock, 0, 0, 0]).await?)?;
                ok(guest.call(Call::LostAsync, [lock, 0, 0, 0]).await?)?;
            }
        }
        Ok(())
    }

    /// A guest of its own ends with the lock held.
    async fn end_holding(&self, ending: Ending, chance: &mut fastrand::Rng) -> Result<()> {
        const LONGEST_HOLD: Duration = Duration::from_millis(2);
        let limit = (ending == Ending::Expire).then_some(LONGEST_HOLD);
        let limits = Limits::new().longest_hold(limit);
        let mut guest = Attacker::with(&self.host, self.host.ctx().limits(limits).build()).await?;
        let (path, options) = match ending {
            Ending::TrapRemoving => ("/locks/removed", [0, 0, 1, 0]),
            // `link` to `soft`
            Ending::TrapNamed => ("/locks/named", [1, chance.u32(3..8), 0, 0]),
            _ => ("/locks/a", [0, 0, 0, 0]),
        };
        guest.name(path).await?;
        let lock = ok(guest.call(Call::Open, options).await?)?;
        let granted = guest.acquire(lock, INDEFINITELY).await?;
        // Its hold may be over before it learns of it.
        if limit.is_none() || granted != Err("lost") {
            ok(granted)?;
        }
        match ending {
            Ending::Trap | Ending::TrapRemoving | Ending::TrapNamed => {
                let end = guest.call(Call::Trap, [0; 4]).await;
                ensure!(end.is_err(), "a trap ended with {end:?}");
            }
            Ending::Epoch => {
                guest.store.set_epoch_deadline(1);
                runtime().increment_epoch();
                let end = guest.call(Call::Spin, [0; 4]).await;
                ensure!(end.is_err(), "a loop ended with {end:?}");
            }
            Ending::Abort => {
                let task = tokio::spawn(async move {
                    std::future::pending::<()>().await;
                    drop(guest);
                });
                tokio::task::yield_now().await;
                task.abort();
                ensure!(
                    task.await.is_err_and(|end| end.is_cancelled()),
                    "the task was not aborted"
                );
            }
            Ending::Expire => self.far.acquire(Mode::Exclusive, STUCK)?.release()?,
            Ending::ReleaseAll => {
                guest.store.data_mut().locket().ctx.release_all();
                self.nothing_is_held()?;
            }
            _ => {}
        }
        Ok(())
    }

    async fn exit(&self) -> Result<()> {
        let wasi = |wasi: &mut _| self.host.store_with(self.host.ctx().build(), wasi);
        let mut guest = Guest::start(component("remote"), wasi).await;
        guest.ok("open a /locks/a").await;
        guest.ok("acquire a exclusive 0").await;
        guest.tell("exit 3").await;
        let end = guest.end().await;
        ensure!(end.result.is_err(), "the guest did not exit");
        Ok(())
    }
}

pub(super) fn ok(answer: Answer) -> Result<u32> {
    answer.map_err(|error| anyhow!("refused: {error}"))
}
