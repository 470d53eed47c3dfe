//! `api-async`, for guests that use WASI 0.3.

use wasmtime::component::{Accessor, Linker, Resource};

use super::api::{begin, timeout};
use super::bindings::{api, api_async};
use super::p2::too_many;
use super::{Guard, LockError, LockFile, Locket, LocketCtxView, LocketView};

/// Adds `api-async`. Call [`p2::add_to_linker_async`](super::p2::add_to_linker_async) as well, for
/// the other interfaces that the guest imports.
///
/// # Errors
///
/// Fails if the linker already has `api-async`, or if its engine was configured without
/// [support for concurrency](wasmtime::Config::concurrency_support).
pub fn add_to_linker<T: LocketView + 'static>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    api_async::add_to_linker::<T, Locket>(linker, T::locket)
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
            let lock = &store.get().table.get(&lock)?.lock;
            begin(lock, mode, wait);
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
            let lost = store.get().table.get(&lock)?.lock.lost();
            lost.map_err(too_many)
        })?;
        Ok(lost.wait().await.into())
    }
}
