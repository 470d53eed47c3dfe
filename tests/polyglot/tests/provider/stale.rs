//! Locks whose holders have died, and locks that were broken.

use super::{PROTOCOLS, Result, Stage, dialogue};
use locket::Mode;
use locket_tests::harness::{QUIESCENT, STUCK};
use std::fs;
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};

/// Longer than a guest has to wait for a processor on a busy machine.
const STALE_AFTER: Duration = Duration::from_secs(2);
const STALE: [(&str, &str); 1] = [("LOCKET_STALE_AFTER", "2")];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lock_of_a_dead_guest_stays_by_default() -> Result {
    let Some(stage) = Stage::new()? else {
        return Ok(());
    };
    for protocol in PROTOCOLS {
        let open = format!("open a /locks/{protocol} {protocol}");
        let take = [(open.as_str(), "ok"), ("acquire a exclusive 0", "ok")];
        let mut dead = stage.guest().await?;
        dialogue(&mut dead, &take).await?;
        dead.run("trap").await.expect_err("the guest traps");
        drop(dead);
        sleep(STALE_AFTER + QUIESCENT).await;

        // By default, no program takes it over.
        let mut guest = stage.guest().await?;
        dialogue(
            &mut guest,
            &[(&open, "ok"), ("acquire a exclusive 0", "err would-block")],
        )
        .await?;
        let native = stage.native(protocol, protocol)?;
        assert!(native.try_acquire(Mode::Exclusive)?.is_none(), "{protocol}");

        // A guest takes it over if its environment allows that.
        let mut heir = stage.guest_in(&STALE).await?;
        dialogue(&mut heir, &take).await?;
        assert!(native.try_acquire(Mode::Exclusive)?.is_none(), "{protocol}");
        drop(heir);

        // So does a native process with that option.
        sleep(STALE_AFTER + QUIESCENT).await;
        let native = stage.native_with(protocol, protocol, Some(STALE_AFTER))?;
        let hold = native.try_acquire(Mode::Exclusive)?;
        hold.expect("the lock is old enough").release()?;

        // A user can break it.
        let mut dead = stage.guest().await?;
        dialogue(&mut dead, &take).await?;
        drop(dead);
        stage.native(protocol, protocol)?.break_lock()?;
        dialogue(
            &mut guest,
            &[("acquire a exclusive 0", "ok"), ("release a", "ok")],
        )
        .await?;
        assert!(stage.names()?.is_empty(), "{protocol}: {:?}", stage.names());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waiting_guest_keeps_its_other_holds_alive() -> Result {
    let Some(stage) = Stage::new()? else {
        return Ok(());
    };
    for protocol in PROTOCOLS {
        let native = stage.native("b", protocol)?;
        let hold = native.acquire(Mode::Exclusive, None)?;
        let mut guest = stage.guest_in(&STALE).await?;
        let mut thief = stage.guest_in(&STALE).await?;
        let a = format!("open a /locks/a {protocol}");
        let b = format!("open b /locks/b {protocol}");
        dialogue(
            &mut guest,
            &[(&a, "ok"), (&b, "ok"), ("acquire a exclusive 0", "ok")],
        )
        .await?;
        dialogue(&mut thief, &[(&a, "ok"), (&b, "ok")]).await?;
        let mut waits = Box::pin(guest.run("acquire b exclusive none"));
        let end = Instant::now() + 2 * STALE_AFTER;
        while Instant::now() < end {
            assert!(timeout(QUIESCENT, &mut waits).await.is_err(), "{protocol}");
            // A native process shows no sign of life, and keeps its lock nonetheless.
            dialogue(
                &mut thief,
                &[
                    ("acquire a exclusive 0", "err would-block"),
                    ("acquire b exclusive 0", "err would-block"),
                ],
            )
            .await?;
        }
        hold.release()?;
        assert_eq!(timeout(STUCK, waits).await??, "ok");
        dialogue(&mut guest, &[("release a", "ok"), ("release b", "ok")]).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_many_guests_takes_over_a_stale_lock() -> Result {
    const GUESTS: u32 = 6;
    const ROUNDS: u32 = 5;
    for protocol in PROTOCOLS {
        let Some(stage) = Stage::new()? else {
            return Ok(());
        };
        fs::write(stage.host.path("counter"), "0")?;
        let open = format!("open a /locks/a {protocol}");
        let mut dead = stage.guest().await?;
        dialogue(&mut dead, &[(&open, "ok"), ("acquire a exclusive 0", "ok")]).await?;
        drop(dead);
        let mut guests = Vec::new();
        for _ in 0..GUESTS {
            let mut guest = stage.guest_in(&STALE).await?;
            let open = open.clone();
            guests.push(tokio::spawn(async move {
                let count = format!("count a {ROUNDS}");
                dialogue(&mut guest, &[(&open, "ok"), (&count, "ok")]).await
            }));
        }
        for guest in guests {
            guest.await??;
        }
        let counted = fs::read_to_string(stage.host.path("counter"))?;
        assert_eq!(counted, (GUESTS * ROUNDS).to_string(), "{protocol}");
        assert_eq!(stage.names()?, ["counter"], "{protocol}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_lock_is_lost_and_the_next_holder_keeps_its_lock() -> Result {
    let Some(stage) = Stage::new()? else {
        return Ok(());
    };
    for protocol in PROTOCOLS {
        let open = format!("open a /locks/a {protocol}");
        let mut guest = stage.guest().await?;
        let acquire = ("acquire a exclusive 0", "ok");
        dialogue(&mut guest, &[(&open, "ok"), acquire]).await?;
        let native = stage.native("a", protocol)?;
        native.break_lock()?;
        let next = native.acquire(Mode::Exclusive, Some(STUCK))?;
        // A query makes the guest look, but only if its last look is not recent.
        let end = Instant::now() + STUCK;
        while guest.run("state a").await? == "ok held" {
            assert!(Instant::now() < end, "{protocol}: the guest does not look");
            dialogue(&mut guest, &[("is-locked a", "ok true")]).await?;
        }
        dialogue(
            &mut guest,
            &[
                ("is-locked a", "ok true"),
                ("state a", "ok lost broken"),
                ("release a", "err lost broken"),
                ("state a", "ok unlocked"),
                ("release a", "err not-owner"),
            ],
        )
        .await?;
        assert!(next.release().is_ok(), "{protocol}");
        // The guest can acquire the lock again without a release.
        dialogue(&mut guest, &[acquire]).await?;
        native.break_lock()?;
        dialogue(&mut guest, &[acquire, ("release a", "ok")]).await?;
        assert!(stage.names()?.is_empty(), "{protocol}: {:?}", stage.names());
    }
    Ok(())
}
