//! The limits on files, paths and times.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use locket::Mode;
use locket::sandbox::Limits;
use tokio::time::sleep;

use super::{EXCEEDED, LATE, LONGEST, Quotas, WAITS, acquire, of, started};
use crate::attacks::support::attacker::{Answer, Attacker, Call, EXCLUSIVE, INDEFINITELY, ONE_TRY};
use crate::attacks::{millis, touch};

/// The documented defaults.
const CREATED: u32 = 1024;
const PATH_LENGTH: usize = 1024;

/// The error after the longest wait.
const CANCELED: &str = "canceled";

/// Why a lock is lost, by its number in the interface.
const EXPIRED: Answer = Ok(0);

impl Quotas {
    async fn must_open(
        &mut self,
        guest: &mut Attacker,
        path: &str,
        expected: Option<&str>,
    ) -> Result<()> {
        let error = touch(guest, path).await?;
        self.must(error == expected, &format!("{path} is opened"), error);
        Ok(())
    }

    pub(super) async fn created(&mut self) -> Result<()> {
        let mut guest = self.guest(Limits::new()).await?;
        fs::create_dir(self.host.path("many"))?;
        fs::write(self.host.path("many/there"), "")?;
        let path = |number: u32| format!("/locks/many/{number}");
        for number in 0..CREATED {
            self.must_open(&mut guest, &path(number), None).await?;
        }
        for round in 0..3 {
            let one_more = path(CREATED + round);
            self.must_open(&mut guest, &one_more, Some(EXCEEDED))
                .await?;
            for there in ["/locks/many/0", "/locks/many/there"] {
                self.must_open(&mut guest, there, None).await?;
            }
            // It also makes room that the guest has not removed the file itself.
            fs::remove_file(self.host.path(&format!("many/{}", round + 1)))?;
            self.must_open(&mut guest, &one_more, None).await?;
        }
        Ok(())
    }

    pub(super) async fn path_length(&mut self) -> Result<()> {
        let mut guest = self.guest(Limits::new()).await?;
        for (length, expected) in [(PATH_LENGTH, None), (PATH_LENGTH + 1, Some("invalid-path"))] {
            // Many short names, so that the system accepts the path.
            let dots = "./".repeat((PATH_LENGTH - "/locks/a".len()) / 2);
            let path = format!("/locks/{dots}{}", "a".repeat(1 + length - PATH_LENGTH));
            ensure!(path.len() == length, "{} bytes", path.len());
            self.must_open(&mut guest, &path, expected).await?;
        }
        Ok(())
    }

    pub(super) async fn longest_wait(&mut self) -> Result<()> {
        let limits = Limits::new().longest_wait(Some(LONGEST));
        let mut guest = self.guest(limits).await?;
        let held = self.host.foreign("busy").acquire(Mode::Exclusive, None)?;
        let lock = guest.open("/locks/busy").await?;
        for (terms, expected) in [
            (INDEFINITELY, CANCELED),
            ([1, 60_000], CANCELED),
            ([1, 20], "timeout"),
            (ONE_TRY, "would-block"),
        ] {
            let start = Instant::now();
            let answer = guest.acquire(lock, terms).await?;
            let time = start.elapsed();
            self.must(answer == Err(expected), &format!("{terms:?}"), answer);
            let kept = time < LONGEST + LATE && (expected != CANCELED || time >= LONGEST);
            self.must(kept, &format!("{terms:?} took"), time);
            if terms == INDEFINITELY {
                self.outcome
                    .measured("a wait limited to 200 ms ended after", millis(Some(time)));
            }
        }
        let pending = started(&mut guest, acquire(lock, EXCLUSIVE, INDEFINITELY)).await?;
        let finish = (Call::Finish, of(pending));
        self.must_answer(&mut guest, finish, WAITS).await?;
        sleep(LONGEST + LATE / 2).await;
        self.must_answer(&mut guest, finish, Err(CANCELED)).await?;
        held.release()?;
        Ok(())
    }

    pub(super) async fn longest_hold(&mut self) -> Result<()> {
        const HELD: u32 = 1;
        const LOST: u32 = 3;
        let limits = Limits::new().longest_hold(Some(LONGEST));
        let mut guest = self.guest(limits).await?;
        let lock = guest.open("/locks/a").await?;
        let start = Instant::now();
        let free = (Call::Acquire, acquire(lock, EXCLUSIVE, ONE_TRY));
        self.must_answer(&mut guest, free, Ok(0)).await?;
        let (mut state, mut time) = (Ok(HELD), Duration::ZERO);
        while state == Ok(HELD) && time < LONGEST + LATE {
            sleep(Duration::from_millis(1)).await;
            state = guest.call(Call::State, of(lock)).await?;
            time = start.elapsed();
        }
        let kept = state == Ok(LOST) && time >= LONGEST;
        self.must(kept, "a hold limited to 200 ms", (state, time));
        let free = self.host.is_free("a");
        self.must(free, "the lock is free for others", free);
        let reason = (Call::Reason, of(lock));
        self.must_answer(&mut guest, reason, EXPIRED).await?;
        let release = (Call::Release, of(lock));
        self.must_answer(&mut guest, release, Err("lost")).await?;
        let took = millis(Some(time));
        self.outcome
            .measured("a hold limited to 200 ms ended after", took);
        Ok(())
    }
}
