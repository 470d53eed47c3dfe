//! Guests that keep a pollable of each lock that they open, and close the lock: what such a pollable
//! keeps open must count.

use anyhow::{Result, anyhow};
use locket_tests::harness::{Host, descriptors, eventually};

use super::attack_beside;
use crate::attacks::support::attacker::{Attacker, Call, DEFAULT, EXCLUSIVE, INDEFINITELY};
use crate::attacks::support::usage::{Usage, bytes};
use crate::stage::{Context, Outcome};

/// How many handles a guest may have by default. Calls that cannot fail may go up to twice that.
pub(super) const HANDLES: u32 = 64;
const TWICE: u32 = 2 * HANDLES;

/// How many guests do this with each kind of object.
const ROUNDS: usize = 20;

/// How often a guest gets a handle and gives it back.
const GIVEN_BACK: u32 = 2_000;

/// The descriptors of the control guest.
const OTHERS: usize = 2;

/// By how much the memory of the host may grow for all of them.
const MEMORY: u64 = 32 << 20;

/// What is kept of each lock.
#[derive(Clone, Copy, Debug)]
enum Kept {
    /// `poll.lost`
    Lost,
    /// `pending.subscribe` of an acquire that is abandoned.
    Subscribe,
    /// A running call of `api-async.lost`. The lock stays open too, because the call borrows it.
    LostAsync,
}

impl Kept {
    /// How many handles it takes for each lock.
    fn handles(self) -> u32 {
        match self {
            Self::Lost | Self::Subscribe => 1,
            Self::LostAsync => 2,
        }
    }

    /// For how many locks a guest can do it that has one lock open.
    fn most(self) -> u32 {
        match self {
            Self::Lost => HANDLES - 1,
            // Beginning an acquire takes one more handle.
            Self::Subscribe => HANDLES - 2,
            // The last one is beyond the limit, which is allowed for this call.
            Self::LostAsync => HANDLES / 2,
        }
    }

    /// How many descriptors it keeps at most.
    fn descriptors(self) -> usize {
        match self {
            Self::Lost | Self::Subscribe => 1,
            Self::LostAsync => HANDLES as usize,
        }
    }
}

pub(super) fn run(_: &Context) -> Result<Outcome> {
    let host = Host::new();
    attack_beside(&host, 1, storms(&host))
}

async fn storms(host: &Host) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let before = Usage::now()?;
    let (mut most, mut pollables) = (0, 0);
    for what in [Kept::Lost, Kept::Subscribe, Kept::LostAsync] {
        for _ in 0..ROUNDS {
            let guest = Attacker::new(host).await?;
            let storm = Storm::run(host, guest, what).await?;
            storm.check(&mut outcome);
            pollables += u64::from(storm.kept + storm.more.unwrap_or_default());
            most = most.max(storm.descriptors);
        }
        eventually("the descriptors are closed", || {
            descriptors(host.dir.path()) <= OTHERS
        });
    }
    give_back(host, &mut outcome).await?;
    outcome.did("pollables", pollables);
    outcome.did("traps at the limit", 3 * ROUNDS as u64);
    outcome.measured("descriptors at most", most);
    let grown = Usage::now()?.memory.saturating_sub(before.memory);
    outcome.measured("growth of memory", bytes(grown));
    outcome.must(grown <= MEMORY, || {
        format!("the memory grew by {}", bytes(grown))
    });
    Ok(outcome)
}

/// What one guest got.
#[derive(Debug)]
struct Storm {
    what: Kept,
    /// How many locks it opened and closed, with something kept of each, and why it got no further.
    kept: u32,
    end: &'static str,
    /// How many more it got of an open lock before it trapped, if it did.
    more: Option<u32>,
    descriptors: usize,
}

impl Storm {
    async fn run(host: &Host, mut guest: Attacker, what: Kept) -> Result<Self> {
        let open = guest.open("/locks/open").await?;
        let mut kept = 0;
        let end = loop {
            if kept > TWICE {
                break "no limit";
            }
            guest.name(format!("/locks/f{kept}")).await?;
            match keep_of_a_new_lock(&mut guest, what).await? {
                Ok(()) => kept += 1,
                Err(error) => break error,
            }
        };
        // Another kind of handle, except for `LostAsync`.
        let call = match what {
            Kept::LostAsync => Call::LostAsync,
            Kept::Lost | Kept::Subscribe => Call::Lost,
        };
        Ok(Self {
            what,
            kept,
            end,
            more: before_the_trap(&mut guest, call, open).await?,
            descriptors: descriptors(host.dir.path()),
        })
    }

    fn check(&self, outcome: &mut Outcome) {
        let limited = self.end == "limit-exceeded" && self.kept == self.what.most();
        let handles = 1 + self.kept * self.what.handles();
        let trapped = self.more == Some(TWICE - handles);
        let bounded = self.descriptors <= OTHERS + self.what.descriptors();
        outcome.must(limited && trapped && bounded, || format!("{self:?}"));
    }
}

/// Opens the lock of the path that was named, keeps something of it, and closes it if that is possible.
async fn keep_of_a_new_lock(guest: &mut Attacker, what: Kept) -> Result<Result<(), &'static str>> {
    let lock = match guest.call(Call::Open, DEFAULT).await? {
        Ok(lock) => lock,
        Err(error) => return Ok(Err(error)),
    };
    let kept = match what {
        Kept::Lost => guest.call(Call::Lost, [lock, 0, 0, 0]).await?,
        Kept::LostAsync => guest.call(Call::LostAsync, [lock, 0, 0, 0]).await?,
        Kept::Subscribe => {
            let terms = [lock, EXCLUSIVE, INDEFINITELY[0], INDEFINITELY[1]];
            match guest.call(Call::Start, terms).await? {
                Ok(pending) => {
                    let kept = guest.call(Call::Subscribe, [pending, 0, 0, 0]).await?;
                    let _ = guest.call(Call::Abandon, [pending, 0, 0, 0]).await?;
                    kept
                }
                Err(error) => Err(error),
            }
        }
    };
    if !matches!(what, Kept::LostAsync) {
        let _ = guest.call(Call::Close, [lock, 0, 0, 0]).await?;
    }
    Ok(kept.map(drop))
}

/// How often a call succeeds that returns a handle each time, before it traps; none if it does not trap.
pub(super) async fn before_the_trap(
    guest: &mut Attacker,
    call: Call,
    of: u32,
) -> Result<Option<u32>> {
    for times in 0..=2 * TWICE {
        match guest.call(call, [of, 0, 0, 0]).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(anyhow!("{call:?}: {error}")),
            Err(_) => return Ok(Some(times)),
        }
    }
    Ok(None)
}

/// A dropped handle no longer counts, so a guest can get any number of them in turn.
async fn give_back(host: &Host, outcome: &mut Outcome) -> Result<()> {
    let mut guest = Attacker::new(host).await?;
    let lock = guest.open("/locks/open").await?;
    for _ in 0..GIVEN_BACK {
        let pollable = guest.call(Call::Lost, [lock, 0, 0, 0]).await?;
        let pollable = pollable.map_err(|error| anyhow!("no pollable: {error}"))?;
        let dropped = guest.call(Call::PollableDrop, [pollable, 0, 0, 0]).await?;
        dropped.map_err(|error| anyhow!("a pollable stays: {error}"))?;
        let subtask = guest.call(Call::LostAsync, [lock, 0, 0, 0]).await?;
        let subtask = subtask.map_err(|error| anyhow!("no call: {error}"))?;
        guest.cancel(subtask).await?;
    }
    outcome.did("handles given back", 2 * u64::from(GIVEN_BACK));
    Ok(guest.keep_what_it_saw().await?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attacks::in_runtime;
    use locket::sandbox::Limits;

    #[test]
    fn a_guest_that_gets_more_is_noticed() {
        let host = Host::new();
        for (limit, noticed) in [(HANDLES, 0), (HANDLES + 1, 1), (HANDLES - 1, 1)] {
            let limits = Limits::new().handles(limit as usize);
            let ctx = host.ctx().limits(limits).build();
            let mut outcome = Outcome::default();
            let storm = async {
                let guest = Attacker::with(&host, ctx).await?;
                Storm::run(&host, guest, Kept::Lost).await
            };
            let storm = in_runtime(1, storm).unwrap();
            storm.check(&mut outcome);
            assert_eq!(outcome.violations.len(), noticed, "{outcome:?}");
        }
    }

    #[test]
    fn a_descriptor_that_is_kept_is_noticed() {
        let storm = |descriptors| Storm {
            what: Kept::Lost,
            kept: HANDLES - 1,
            end: "limit-exceeded",
            more: Some(HANDLES),
            descriptors,
        };
        for (descriptors, noticed) in [(3, 0), (HANDLES as usize, 1)] {
            let mut outcome = Outcome::default();
            storm(descriptors).check(&mut outcome);
            assert_eq!(outcome.violations.len(), noticed, "{outcome:?}");
        }
    }
}
