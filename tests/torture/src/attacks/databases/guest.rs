//! A guest with a lock in a database, and how long each of its calls takes.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use locket::sandbox::Rights;
use locket::{Engine, Protocol};
use locket_wasmtime::LocketCtx;

use super::WAIT;
use crate::attacks::support::attacker::{Answer, Attacker, Call, EXCLUSIVE};
use crate::attacks::{KEEP, number};

/// A call of a guest.
#[derive(Clone, Debug)]
pub(super) struct Timed {
    pub(super) what: &'static str,
    pub(super) answer: Answer,
    /// How late the answer was.
    pub(super) late: Duration,
}

/// A guest with a lock in the database.
pub(super) struct Guest {
    attacker: Attacker,
    lock: u32,
    /// The wait that it has begun, and when.
    pending: (u32, Instant),
    pub(super) calls: Vec<Timed>,
}

impl Guest {
    pub(super) async fn new(engine: &Engine, dir: &Path, database: &Path) -> Result<Self> {
        let ctx = LocketCtx::builder(engine).label("guest");
        let ctx = ctx.grant_dir(dir, "/locks", Rights::ALL)?;
        let ctx = ctx.database(database)?;
        let mut attacker = Attacker::in_dir(dir, ctx.build()).await?;
        attacker.name("/locks/lock").await?;
        Ok(Self {
            attacker,
            lock: 0,
            pending: (0, Instant::now()),
            calls: Vec::new(),
        })
    }

    async fn timed(
        &mut self,
        what: &'static str,
        call: Call,
        words: [u32; 4],
        timeout: u32,
    ) -> Result<Answer> {
        let start = Instant::now();
        let answer = self.attacker.call(call, words).await?;
        self.note(what, answer, start, timeout);
        Ok(answer)
    }

    fn note(&mut self, what: &'static str, answer: Answer, start: Instant, timeout: u32) {
        let timeout = Duration::from_millis(timeout.into());
        self.calls.push(Timed {
            what,
            answer,
            late: start.elapsed().saturating_sub(timeout),
        });
    }

    /// Opens the lock; returns whether that succeeded.
    pub(super) async fn open(&mut self) -> Result<bool> {
        let opening = [1, number(Protocol::Sqlite), KEEP, 0];
        let opened = self.timed("open", Call::Open, opening, 0).await?;
        self.lock = opened.unwrap_or_default();
        Ok(opened.is_ok())
    }

    pub(super) async fn call(&mut self, what: &'static str, call: Call) -> Result<()> {
        let _ = self.timed(what, call, [self.lock, 0, 0, 0], 0).await?;
        Ok(())
    }

    pub(super) async fn acquire(&mut self, what: &'static str, timeout: [u32; 2]) -> Result<()> {
        let terms = [self.lock, EXCLUSIVE, timeout[0], timeout[1]];
        let _ = self.timed(what, Call::Acquire, terms, timeout[1]).await?;
        Ok(())
    }

    pub(super) async fn ask(&mut self) -> Result<()> {
        self.call("is-locked", Call::IsLocked).await?;
        self.call("holder", Call::Holder).await?;
        self.call("state", Call::State).await
    }

    pub(super) async fn begin_to_wait(&mut self) -> Result<()> {
        let start = Instant::now();
        let terms = [self.lock, EXCLUSIVE, 1, WAIT];
        let pending = self.timed("start", Call::Start, terms, 0).await?;
        let pending = pending.map_err(|error| anyhow!("no wait: {error}"))?;
        self.pending = (pending, start);
        Ok(())
    }

    pub(super) async fn end_wait(&mut self) -> Result<()> {
        let (pending, start) = self.pending;
        let end = loop {
            match self.attacker.call(Call::Finish, [pending, 0, 0, 0]).await? {
                Ok(0) => tokio::time::sleep(Duration::from_millis(1)).await,
                end => break end,
            }
        };
        self.note("pending", end, start, WAIT);
        Ok(())
    }
}
