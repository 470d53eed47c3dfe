//! `api`, `poll`, `ranges`, `ranges-poll` and `descriptors`, for guests that use WASI 0.2 or no WASI.

use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource};
use wasmtime::error::Context as _;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::{DynPollable, Pollable, subscribe};

use super::api::{keep, timeout, too_many};
use super::bindings::{api, descriptors, poll, ranges, ranges_poll};
use super::in_progress::InProgress;
use super::{
    API, Guard, LockError, LockFile, Locket, LocketCtxView, LocketView, RANGES, RangeFile,
};
#[cfg(doc)]
use locket::sandbox::Sandbox;
use locket::sandbox::{GuestAcquire, Loss};

/// Adds `api`, `poll`, `ranges`, `ranges-poll` and `descriptors` for embedders that call guests
/// asynchronously.
///
/// # Errors
///
/// Fails if the linker already has one of the interfaces.
pub fn add_to_linker_async<T: LocketView + 'static>(
    linker: &mut Linker<T>,
) -> wasmtime::Result<()> {
    add(linker, T::locket)
}

/// Adds the same interfaces for embedders that call guests synchronously.
///
/// An `acquire`, or a `lock` of a range, that has to wait blocks the calling thread. It needs no Tokio
/// runtime. So do `release`, `is-locked` and `holder` of a lock that a server keeps, until that has
/// answered, and at most for its [request timeout](locket::RemoteBuilder::request_timeout). Another
/// thread ends the wait with a clone of the context: see
/// [`Sandbox::cancel_waits`]. In an asynchronous call, blocking would stop the executor, and with it
/// perhaps the holder. So a call that may wait traps there: use [`add_to_linker_async`].
///
/// # Errors
///
/// Fails if the linker already has one of the interfaces.
pub fn add_to_linker_sync<T: LocketView + 'static>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    add_to_linker_sync_with(linker, T::locket)
}

/// Like [`add_to_linker_sync`], for data without a [`LocketView`].
///
/// # Errors
///
/// As [`add_to_linker_sync`].
pub fn add_to_linker_sync_with<T: Send + 'static>(
    linker: &mut Linker<T>,
    view: fn(&mut T) -> LocketCtxView<'_>,
) -> wasmtime::Result<()> {
    add(linker, view)?;
    let shadowing = allows_shadowing(linker)?;
    // Replace the only functions that wait: for others, or for a server.
    linker.allow_shadowing(true);
    let acquire = move |mut store: StoreContextMut<'_, T>, (lock, mode, wait): Acquire| {
        if wait != Some(0) {
            refuse_async(&mut store)?;
        }
        let data = view(store.data_mut());
        let hold = data.lock(&lock)?.acquire(mode.into(), timeout(wait));
        Ok((hold.map(keep).map_err(api::Error::from),))
    };
    let release = move |mut store: StoreContextMut<'_, T>, (lock,): Lock| {
        let released = view(store.data_mut()).lock(&lock)?.release();
        Ok((released.map_err(api::Error::from),))
    };
    let is_locked = move |mut store: StoreContextMut<'_, T>, (lock,): Lock| {
        let locked = view(store.data_mut()).lock(&lock)?.is_locked();
        Ok((locked.map_err(api::Error::from),))
    };
    let holder = move |mut store: StoreContextMut<'_, T>, (lock,): Lock| {
        let holder = view(store.data_mut()).lock(&lock)?.holder();
        let holder = holder.map(|holder| holder.map(api::Holder::from));
        Ok((holder.map_err(api::Error::from),))
    };
    let lock_range = move |mut store: StoreContextMut<'_, T>,
                           (file, mode, range, wait): LockRange| {
        if wait != Some(0) {
            refuse_async(&mut store)?;
        }
        let data = view(store.data_mut());
        let file = data.range_file(&file)?;
        let locked = file.lock(mode.into(), range, timeout(wait));
        Ok((locked.map_err(api::Error::from),))
    };
    let added = linker.instance(API).and_then(|mut api| {
        api.func_wrap("[method]lock-file.acquire", acquire)?;
        api.func_wrap("[method]lock-file.release", release)?;
        api.func_wrap("[method]lock-file.is-locked", is_locked)?;
        api.func_wrap("[method]lock-file.holder", holder)
    });
    let added = added.and_then(|()| {
        let mut ranges = linker.instance(RANGES)?;
        ranges.func_wrap("[method]range-file.lock", lock_range)
    });
    linker.allow_shadowing(shadowing);
    added
}

type Acquire = (Resource<LockFile>, api::Mode, Option<api::Milliseconds>);
type Lock = (Resource<LockFile>,);
type LockRange = (
    Resource<RangeFile>,
    api::Mode,
    ranges::Range,
    Option<api::Milliseconds>,
);

fn add<T: Send + 'static>(
    linker: &mut Linker<T>,
    view: fn(&mut T) -> LocketCtxView<'_>,
) -> wasmtime::Result<()> {
    api::add_to_linker::<T, Locket>(linker, view).context(API)?;
    poll::add_to_linker::<T, Locket>(linker, view).context("locket:lock/poll@0.1.0")?;
    ranges::add_to_linker::<T, Locket>(linker, view).context(RANGES)?;
    ranges_poll::add_to_linker::<T, Locket>(linker, view)
        .context("locket:lock/ranges-poll@0.1.0")?;
    descriptors::add_to_linker::<T, Locket>(linker, view).context("locket:lock/descriptors@0.1.0")
}

/// Whether a later definition in the linker may replace an earlier one. There is no other way to
/// ask than to try, in a copy.
fn allows_shadowing<T: 'static>(linker: &Linker<T>) -> wasmtime::Result<bool> {
    let mut copy = linker.clone();
    let mut instance = copy.instance("locket:lock/shadowing")?;
    let mut define = || instance.func_wrap("f", |_: StoreContextMut<'_, T>, (): ()| Ok(()));
    define()?;
    Ok(define().is_ok())
}

/// Fails in an asynchronous call. Wasmtime tells that only to those that try a synchronous one
/// within it: to drop a resource is the least of these.
fn refuse_async<T: 'static>(store: &mut StoreContextMut<'_, T>) -> wasmtime::Result<()> {
    struct Nothing;

    let resource = Resource::<Nothing>::new_own(0).try_into_resource_any(&mut *store)?;
    resource.resource_drop(&mut *store).context(
        "the call would block the executor: it was added by `p2::add_to_linker_sync`, \
         but the guest was called asynchronously; use `p2::add_to_linker_async`",
    )
}

/// An acquire in progress, which backs the resource `pending`.
#[derive(Debug)]
pub struct Pending(InProgress<GuestAcquire>);

/// Ready while the guest has a lost hold that it has not yet released.
struct Lost(Loss);

#[async_trait]
impl Pollable for Lost {
    async fn ready(&mut self) {
        self.0.wait().await;
    }
}

impl poll::Host for LocketCtxView<'_> {
    fn start(
        &mut self,
        lock: Resource<LockFile>,
        mode: api::Mode,
        wait: Option<api::Milliseconds>,
    ) -> Result<Resource<Pending>, LockError> {
        let lock = self.lock(&lock)?;
        let handle = lock.handle()?;
        let wait = lock.acquire_async(mode.into(), timeout(wait))?;
        Ok(self.table.push(Pending(InProgress::begin(wait, handle)))?)
    }

    fn lost(&mut self, lock: Resource<LockFile>) -> wasmtime::Result<Resource<DynPollable>> {
        let lost = self.lock(&lock)?.lost().map_err(too_many)?;
        let lost = self.table.push(Lost(lost))?;
        subscribe(self.table, lost)
    }
}

impl poll::HostPending for LocketCtxView<'_> {
    fn subscribe(&mut self, this: Resource<Pending>) -> wasmtime::Result<Resource<DynPollable>> {
        let answer = self.table.get(&this)?.0.answer()?;
        // Not a child of the `pending` resource, so that the guest may drop them in any order.
        let answer = self.table.push(answer)?;
        subscribe(self.table, answer)
    }

    fn finish(
        &mut self,
        this: Resource<Pending>,
    ) -> wasmtime::Result<Option<Result<Resource<Guard>, api::Error>>> {
        let Pending(pending) = self.table.get(&this)?;
        let Some((_, answer)) = pending.take() else {
            return Ok(None);
        };
        Ok(Some(match answer {
            // The `pending` resource counts until it is dropped, in addition to the guard.
            Ok(hold) => match pending.handle.extra() {
                Ok(_handle) => Ok(self.table.push(Guard { hold, _handle })?),
                Err(error) => Err(error.into()),
            },
            Err(error) => Err(error.into()),
        }))
    }

    fn drop(&mut self, this: Resource<Pending>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}
