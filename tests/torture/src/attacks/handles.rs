//! Numbers that are no handles of the guest, were dropped, or are handles of another kind.
//!
//! All guests have small numbers as handles, so a forged handle is often one of another guest. Each call
//! must trap, fail with an error, or affect only the guest's own objects.

use anyhow::Result;
use locket_tests::harness::{Host, STUCK};
use tokio::time::timeout;

use super::{ask, in_runtime, one_of, renew};
use crate::attacks::support::attacker::{
    Answer, Attacker, Call, EXCLUSIVE, Ended, INDEFINITELY, Kind, ONE_TRY,
};
use crate::stage::{Context, Outcome};

/// How many calls.
const CASES: u64 = 100_000;

/// After so many calls it is checked that the other guests still have what they hold.
const BATCH: u64 = 1_000;

/// The most calls of one instance.
const SPREE: usize = 20;

pub(super) fn run(context: &Context) -> Result<Outcome> {
    in_runtime(1, handles(context))
}

/// Guests that hold the lock `held`, or wait for it, by handles of every kind.
struct Others {
    host: Host,
    holder: Attacker,
    lock: u32,
    waiter: Attacker,
    pending: u32,
}

impl Others {
    async fn new() -> Result<Self> {
        let host = Host::new();
        let mut holder = Attacker::new(&host).await?;
        let lock = holder.hold("/locks/held").await?;
        let mut waiter = Attacker::new(&host).await?;
        let theirs = waiter.open("/locks/held").await?;
        let terms = [theirs, EXCLUSIVE, INDEFINITELY[0], INDEFINITELY[1]];
        let pending = waiter.call(Call::Start, terms).await?;
        let pending = pending.map_err(|error| anyhow::anyhow!("no pending: {error}"))?;
        Ok(Self {
            host,
            holder,
            lock,
            waiter,
            pending,
        })
    }

    /// Returns once the waiter has the lock.
    async fn granted(&mut self) -> Result<()> {
        let granted = self.waiter.finish(self.pending).await?;
        granted
            .map(drop)
            .map_err(|error| anyhow::anyhow!("the waiter got {error}"))
    }

    /// What the others have lost by the attack, if anything.
    async fn lost(&mut self) -> Result<Option<String>> {
        let held = self.holder.call(Call::State, [self.lock, 0, 0, 0]).await?;
        let answer = self
            .waiter
            .call(Call::Finish, [self.pending, 0, 0, 0])
            .await?;
        let broken = held != Ok(1) || answer != Ok(0) || self.host.is_free("held");
        Ok(broken.then(|| format!("the holder is in state {held:?}, the waiter got {answer:?}")))
    }
}

async fn handles(context: &Context) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut others = Others::new().await?;
    let mut chance = context.chance(2);
    let mut cases = 0;
    let mut count = Counts::default();
    while cases < CASES {
        let mut guest = Attacker::new(&others.host).await?;
        let mut known = own_handles(&mut guest, &mut chance).await?;
        for _ in 0..SPREE {
            let (call, handle) = case(&mut chance, &known);
            let terms = [handle, chance.u32(..2), ONE_TRY[0], ONE_TRY[1]];
            cases += 1;
            let result = guest.call(call, terms).await;
            count.add(&result);
            match result {
                Ok(Ok(new)) => known.extend(call.makes().map(|kind| (kind, new))),
                Ok(Err(_)) => {}
                Err(_) => break,
            }
        }
        if cases % BATCH < SPREE as u64 {
            let lost = others.lost().await?;
            outcome.must(lost.is_none(), || format!("{lost:?} after {cases} calls"));
        }
    }
    let lost = others.lost().await?;
    outcome.must(lost.is_none(), || format!("{lost:?} in the end"));
    outcome.must(
        count.trapped > 0 && count.failed > 0 && count.succeeded > 0,
        || format!("the calls did not have all kinds of results: {count:?}"),
    );
    outcome.did("calls", cases);
    outcome.did("traps", count.trapped);
    outcome.did("errors", count.failed);
    others.holder.keep_what_it_saw().await?;
    used_after_drop(&others.host, &mut outcome).await?;
    wrong_holder(&mut others, &mut outcome).await?;
    Ok(outcome)
}

#[derive(Debug, Default)]
struct Counts {
    succeeded: u64,
    failed: u64,
    trapped: u64,
}

impl Counts {
    fn add(&mut self, result: &Result<Answer, Ended>) {
        *match result {
            Ok(Ok(_)) => &mut self.succeeded,
            Ok(Err(_)) => &mut self.failed,
            Err(_) => &mut self.trapped,
        } += 1;
    }
}

/// A few handles to begin with: of the lock that others hold, and of another lock.
async fn own_handles(guest: &mut Attacker, chance: &mut fastrand::Rng) -> Result<Vec<(Kind, u32)>> {
    let mut known = Vec::new();
    for path in ["/locks/held", "/locks/own"] {
        if chance.bool() {
            known.push((Kind::Lock, guest.open(path).await?));
        }
    }
    Ok(known)
}

/// A random call. Half of them have a handle of the guest, of any kind, which may have been dropped; the
/// others a small number or a random one.
fn case(chance: &mut fastrand::Rng, known: &[(Kind, u32)]) -> (Call, u32) {
    let call = one_of(chance, &Call::WITH_HANDLE);
    match chance.u8(..16) {
        0..8 if !known.is_empty() => {
            let (kind, handle) = one_of(chance, known);
            let fits = |call: &Call| call.takes() == kind;
            let calls: Vec<_> = Call::WITH_HANDLE.into_iter().filter(fits).collect();
            (one_of(chance, &calls), handle)
        }
        8..10 if !known.is_empty() => (call, one_of(chance, known).1),
        10..14 => (call, chance.u32(..12)),
        14 => (call, one_of(chance, &[u32::MAX, 1 << 28, 1 << 30, 1 << 31])),
        _ => (call, chance.u32(..)),
    }
}

/// Makes each call with a handle that was dropped.
async fn used_after_drop(host: &Host, outcome: &mut Outcome) -> Result<()> {
    let mut guest = Attacker::new(host).await?;
    for call in Call::WITH_HANDLE {
        let own = guest.open("/locks/own").await?;
        let closed = guest.call(Call::Close, [own, 0, 0, 0]).await?;
        outcome.must(closed.is_ok(), || format!("{closed:?}"));
        let result = guest.call(call, [own, 0, ONE_TRY[0], ONE_TRY[1]]).await;
        outcome.must(result.is_err(), || {
            format!("{call:?} with a dropped handle: {result:?}")
        });
        outcome.did("uses of dropped handles", 1);
        renew(host, &mut guest).await?;
    }
    Ok(())
}

/// A guest's own handle on a lock that another holds does not let it release the lock.
async fn wrong_holder(others: &mut Others, outcome: &mut Outcome) -> Result<()> {
    let mut guest = Attacker::new(&others.host).await?;
    let lock = guest.open("/locks/held").await?;
    ask(&mut guest, lock).await?;
    let storm = guest.storm(Call::Release, [lock, 0, 0, 0], 10_000).await?;
    let refused = storm.failed_with("not-owner");
    outcome.must(refused == storm.all(), || {
        format!("releases of a stranger: {storm:?}")
    });
    outcome.did("releases by a stranger", storm.all().into());
    let storm = guest.storm(Call::Break, [0; 4], 1_000).await?;
    let refused = storm.failed_with("access-denied");
    outcome.must(refused == storm.all(), || {
        format!("breaks of a stranger: {storm:?}")
    });
    outcome.did("breaks by a stranger", storm.all().into());
    let lost = others.lost().await?;
    outcome.must(lost.is_none(), || {
        format!("{lost:?} after a stranger's releases")
    });
    // The holder can, and then the waiter has it.
    let released = others
        .holder
        .call(Call::Release, [others.lock, 0, 0, 0])
        .await?;
    outcome.must(released.is_ok(), || {
        format!("the holder's release: {released:?}")
    });
    let granted = timeout(STUCK, others.granted()).await;
    outcome.must(granted.is_ok(), || {
        "the waiter did not get the lock".to_owned()
    });
    guest.keep_what_it_saw().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_hold_is_noticed() {
        let missed = async {
            let mut others = Others::new().await?;
            anyhow::ensure!(others.lost().await?.is_none());
            let release = [others.lock, 0, 0, 0];
            let released = others.holder.call(Call::Release, release).await?;
            anyhow::ensure!(released.is_ok());
            others.lost().await
        };
        assert!(in_runtime(1, missed).unwrap().is_some());
    }
}
