//! A hostile guest: it makes any call of the interface, with any numbers as handles.

use std::fmt;
use std::path::Path;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Result, anyhow, ensure};
use locket_tests::harness::{Host, STUCK, State, linker, runtime, store_in};
use locket_wasmtime::LocketCtx;
use wasmtime::component::{Component, InstancePre, TypedFunc};
use wasmtime::{Store, Trap};
use wasmtime_wasi::WasiCtx;

use super::answer::{Tally, answer};

pub use super::answer::Answer;
pub use super::call::{Call, DEFAULT, EXCLUSIVE, INDEFINITELY, Kind, ONE_TRY, SHARED};

/// An error of the runtime, usually a trap of the guest.
#[derive(Debug)]
pub struct Ended(wasmtime::Error);

impl Ended {
    /// The trap, if it was one.
    pub fn trap(&self) -> Option<Trap> {
        self.0.downcast_ref().copied()
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.0)
    }
}

impl std::error::Error for Ended {}

type Words = (u32, u32, u32, u32, u32);
type Storm = (u32, u32, u32, u32, u32, u32);

/// An instance of the guest in a store of its own. Dropping it frees its locks.
pub struct Attacker {
    /// Its store.
    pub store: Store<State>,
    name: TypedFunc<(Vec<u8>,), ()>,
    call: TypedFunc<Words, (i32,)>,
    storm: TypedFunc<Storm, (Vec<u32>,)>,
    cancel: TypedFunc<(u32,), ()>,
    seen: TypedFunc<(), (Vec<u8>,)>,
}

fn compiled() -> &'static InstancePre<State> {
    static COMPILED: LazyLock<InstancePre<State>> = LazyLock::new(|| {
        let bytes = wat::parse_str(include_str!("attacker.wat")).expect("the guest is valid");
        let component = Component::new(runtime(), bytes).expect("the guest is valid");
        let linked = linker().instantiate_pre(&component);
        linked.expect("everything is linked")
    });
    &COMPILED
}

impl Attacker {
    /// A guest that has the directory of the host as `/locks`.
    ///
    /// # Errors
    ///
    /// Those of Wasmtime.
    pub async fn new(host: &Host) -> Result<Self> {
        Self::with(host, host.ctx().label("guest").build()).await
    }

    /// A guest with other grants.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub async fn with(host: &Host, locket: LocketCtx) -> Result<Self> {
        Self::in_dir(host.dir.path(), locket).await
    }

    /// The same, with a directory of files.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub async fn in_dir(dir: &Path, locket: LocketCtx) -> Result<Self> {
        Self::in_store(store_in(dir, locket, &mut WasiCtx::builder())).await
    }

    async fn in_store(mut store: Store<State>) -> Result<Self> {
        let instance = compiled()
            .instantiate_async(&mut store)
            .await
            .map_err(Ended)?;
        Ok(Self {
            name: instance.get_typed_func(&mut store, "name").map_err(Ended)?,
            call: instance.get_typed_func(&mut store, "call").map_err(Ended)?,
            storm: instance
                .get_typed_func(&mut store, "storm")
                .map_err(Ended)?,
            cancel: instance
                .get_typed_func(&mut store, "cancel")
                .map_err(Ended)?,
            seen: instance.get_typed_func(&mut store, "seen").map_err(Ended)?,
            store,
        })
    }

    /// Sets the path for [`Call::Open`] and [`Call::Break`]. It need not be UTF-8.
    ///
    /// # Errors
    ///
    /// A guest that has trapped.
    pub async fn name(&mut self, path: impl AsRef<[u8]>) -> Result<(), Ended> {
        self.name
            .call_async(&mut self.store, (path.as_ref().to_owned(),))
            .await
            .map_err(Ended)
    }

    /// Makes a call.
    ///
    /// # Errors
    ///
    /// The trap.
    pub async fn call(&mut self, call: Call, [a, b, c, d]: [u32; 4]) -> Result<Answer, Ended> {
        let words = (call as u32, a, b, c, d);
        let (number,) = self
            .call
            .call_async(&mut self.store, words)
            .await
            .map_err(Ended)?;
        Ok(answer(number))
    }

    /// Repeats a call and ignores the values; returns how often it succeeded, and how often it failed
    /// with each error.
    ///
    /// # Errors
    ///
    /// The trap.
    pub async fn storm(
        &mut self,
        call: Call,
        [a, b, c, d]: [u32; 4],
        times: u32,
    ) -> Result<Tally, Ended> {
        let words = (call as u32, a, b, c, d, times);
        let (counts,) = self
            .storm
            .call_async(&mut self.store, words)
            .await
            .map_err(Ended)?;
        Ok(Tally(counts))
    }

    /// Cancels a running subtask and waits for its end.
    ///
    /// # Errors
    ///
    /// The trap.
    pub async fn cancel(&mut self, subtask: u32) -> Result<(), Ended> {
        let cancelled = self.cancel.call_async(&mut self.store, (subtask,));
        cancelled.await.map_err(Ended)
    }

    /// Opens the lock of a path.
    ///
    /// # Errors
    ///
    /// A trap; an answer that is an error.
    pub async fn open(&mut self, path: &str) -> Result<u32> {
        self.name(path).await?;
        let opened = self.call(Call::Open, DEFAULT).await?;
        opened.map_err(|error| anyhow!("{path} cannot be opened: {error}"))
    }

    /// Acquires an open lock exclusively.
    ///
    /// # Errors
    ///
    /// The trap.
    pub async fn acquire(&mut self, lock: u32, timeout: [u32; 2]) -> Result<Answer, Ended> {
        self.call(Call::Acquire, [lock, EXCLUSIVE, timeout[0], timeout[1]])
            .await
    }

    /// Takes the guard of a pending acquire whose lock nothing keeps from it. The engine may still leave
    /// the lock alone for a moment.
    ///
    /// # Errors
    ///
    /// The trap; no answer for long.
    pub async fn finish(&mut self, pending: u32) -> Result<Answer> {
        let start = Instant::now();
        loop {
            let finished = self.call(Call::Finish, [pending, 0, 0, 0]).await?;
            if finished != Ok(0) {
                return Ok(finished);
            }
            ensure!(start.elapsed() < STUCK, "a free lock is not granted");
            tokio::task::yield_now().await;
        }
    }

    /// Opens and acquires a free lock.
    ///
    /// # Errors
    ///
    /// A trap; an answer that is an error.
    pub async fn hold(&mut self, path: &str) -> Result<u32> {
        let lock = self.open(path).await?;
        let granted = self.acquire(lock, INDEFINITELY).await?;
        granted.map_err(|error| anyhow!("{path} cannot be acquired: {error}"))?;
        Ok(lock)
    }

    /// Keeps what the host has written for the guest since the last call of this, to look through it for
    /// [secrets](crate::attacks::support::secrets). A trap loses it.
    ///
    /// # Errors
    ///
    /// A guest that has trapped.
    pub async fn keep_what_it_saw(&mut self) -> Result<(), Ended> {
        self.take_what_it_saw().await.map(drop)
    }

    /// The same, and returns it.
    ///
    /// # Errors
    ///
    /// A guest that has trapped.
    pub async fn take_what_it_saw(&mut self) -> Result<Vec<u8>, Ended> {
        let seen = self.seen.call_async(&mut self.store, ());
        let (bytes,) = seen.await.map_err(Ended)?;
        let mut all = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
        all.extend_from_slice(&bytes);
        Ok(bytes)
    }
}

static SEEN: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// Everything that was kept of what guests of this process saw, since the last call of this.
pub fn seen() -> Vec<u8> {
    std::mem::take(&mut *SEEN.lock().unwrap_or_else(PoisonError::into_inner))
}
