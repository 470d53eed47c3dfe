//! `api-async`, `ranges-async` and `locket:lock-p3/descriptors`, for guests that use WASI 0.3.
//!
//! **A plain call that has to wait stops the store.** While a guest waits in `acquire` of `api`, or in
//! `lock` of `ranges`, nothing else in its store runs: no other task, and nothing in the closure of
//! [`Store::run_concurrent`], the embedder's own timers included. Wasmtime 48 rules out a cure in
//! this crate: a function that is not `async` in its interface cannot be linked as one. So a host
//! that runs many tasks in one store sets [`Limits::longest_wait`], or ends a wait from outside of
//! the closure with a clone of the context. `api-async` and `ranges-async` stop nothing.
//!
//! **A timeout belongs around [`run_concurrent`]**, or inside of its closure together with
//! [`Sandbox::cancel_waits`]: the future of a single call that is dropped there does not end what the
//! guest waits for, since Wasmtime lets the call run on.

use wasmtime::component::{Accessor, Linker, Resource};
use wasmtime::{AsContextMut, Store};

use super::api::{timeout, too_many};
use super::bindings::{api, api_async, lock_p3, ranges, ranges_async};
use super::{Guard, LockError, LockFile, Locket, LocketCtx, LocketCtxView, LocketView, RangeFile};
#[cfg(doc)]
use locket::sandbox::{Limits, Sandbox};

/// Adds `api-async`, `ranges-async` and `locket:lock-p3/descriptors`. Call
/// [`p2::add_to_linker_async`](super::p2::add_to_linker_async) as well, for the other interfaces that
/// the guest imports.
///
/// # Errors
///
/// Fails if the linker already has one of the interfaces, or if its engine was configured without
/// [support for concurrency](wasmtime::Config::concurrency_support).
pub fn add_to_linker<T: LocketView + 'static>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    api_async::add_to_linker::<T, Locket>(linker, T::locket)?;
    ranges_async::add_to_linker::<T, Locket>(linker, T::locket)?;
    lock_p3::descriptors::add_to_linker::<T, Locket>(linker, T::locket)
}

/// Like [`Store::run_concurrent`], and if the future is dropped before it is complete, the waits of
/// the guest end with `canceled`.
///
/// Without that, they would stay in the queue: Wasmtime keeps the calls that a guest has made until
/// its store is dropped. A lock that is then granted to one of them would be held by a guest that does
/// not run.
///
/// # Errors
///
/// As [`Store::run_concurrent`].
pub async fn run_concurrent<T: LocketView + 'static, R>(
    store: &mut Store<T>,
    run: impl AsyncFnOnce(&Accessor<T>) -> R,
) -> wasmtime::Result<R> {
    let mut waits = Waits(Some(store.data_mut().locket().ctx.clone()));
    let result = store.as_context_mut().run_concurrent(run).await;
    waits.0 = None;
    result
}

/// Ends the waits of a guest unless it is disarmed.
struct Waits(Option<LocketCtx>);

impl Drop for Waits {
    fn drop(&mut self) {
        if let Some(guest) = &self.0 {
            guest.cancel_waits();
        }
    }
}

impl api_async::Host for LocketCtxView<'_> {}

impl<T: Send> api_async::HostWithStore<T> for Locket {
    async fn acquire(
        store: &Accessor<T, Self>,
        lock: Resource<LockFile>,
        mode: api::Mode,
        wait: Option<api::Milliseconds>,
    ) -> Result<Resource<Guard>, LockError> {
        let (handle, wait) = store.with(|mut store| {
            let view = store.get();
            let lock = view.lock(&lock)?;
            let handle = lock.handle()?;
            Ok::<_, LockError>((handle, lock.acquire_async(mode.into(), timeout(wait))?))
        })?;
        let hold = wait.await?;
        // Do not await from here on: the hold must always belong either to us or to the guest.
        store.with(|mut store| {
            Ok(store.get().table.push(Guard {
                hold,
                _handle: handle,
            })?)
        })
    }

    async fn lost(
        store: &Accessor<T, Self>,
        lock: Resource<LockFile>,
    ) -> wasmtime::Result<api::LostReason> {
        let lost = store.with(|mut store| {
            let lost = store.get().lock(&lock)?.lost();
            lost.map_err(too_many)
        })?;
        Ok(lost.wait().await.into())
    }
}

impl ranges_async::Host for LocketCtxView<'_> {}

impl<T: Send> ranges_async::HostWithStore<T> for Locket {
    async fn lock(
        store: &Accessor<T, Self>,
        file: Resource<RangeFile>,
        mode: api::Mode,
        range: ranges::Range,
        wait: Option<api::Milliseconds>,
    ) -> Result<(), LockError> {
        let wait = store.with(|mut store| {
            let view = store.get();
            let file = view.range_file(&file)?;
            Ok::<_, LockError>(file.lock_async(mode.into(), range, timeout(wait))?)
        })?;
        Ok(wait.await?)
    }
}
