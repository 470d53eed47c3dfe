//! `api` and `poll`, for guests that use WASI 0.2 or no WASI.

use std::future::{self, Future};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource};
use wasmtime::error::Context as _;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::{DynPollable, Pollable, subscribe};

use super::api::{keep, timeout};
use super::bindings::{api, poll};
use super::{API, Guard, LockError, LockFile, Locket, LocketCtxView, LocketView};
use locket::Error;
#[cfg(doc)]
use locket::sandbox::Sandbox;
use locket::sandbox::{GuestAcquire, GuestGuard, HandlePermit, Loss};

/// Adds `api` and `poll` for embedders that call guests asynchronously.
///
/// # Errors
///
/// Fails if the linker already has either interface.
pub fn add_to_linker_async<T: LocketView + 'static>(
    linker: &mut Linker<T>,
) -> wasmtime::Result<()> {
    add(linker, T::locket)
}

/// Adds `api` and `poll` for embedders that call guests synchronously.
///
/// An `acquire` that has to wait blocks the calling thread. It needs no Tokio runtime. Another
/// thread ends the wait with a clone of the context: see [`Sandbox::cancel_waits`]. In an
/// asynchronous call, blocking would stop the executor, and with it perhaps the holder. So an
/// `acquire` that may wait traps there: use [`add_to_linker_async`].
///
/// # Errors
///
/// Fails if the linker already has either interface.
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
    // Replace the only function that waits.
    linker.allow_shadowing(true);
    let acquire = move |mut store: StoreContextMut<'_, T>, (lock, mode, wait): Acquire| {
        if wait != Some(0) {
            refuse_async(&mut store)?;
        }
        let data = view(store.data_mut());
        let hold = data.lock(&lock)?.acquire(mode.into(), timeout(wait));
        Ok((hold.map(keep).map_err(api::Error::from),))
    };
    let added = linker
        .instance(API)
        .and_then(|mut api| api.func_wrap("[method]lock-file.acquire", acquire));
    linker.allow_shadowing(shadowing);
    added
}

type Acquire = (Resource<LockFile>, api::Mode, Option<api::Milliseconds>);

fn add<T: Send + 'static>(
    linker: &mut Linker<T>,
    view: fn(&mut T) -> LocketCtxView<'_>,
) -> wasmtime::Result<()> {
    api::add_to_linker::<T, Locket>(linker, view).context(API)?;
    poll::add_to_linker::<T, Locket>(linker, view).context("locket:lock/poll@0.1.0")
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
        "`acquire` would block the executor: it was added by `p2::add_to_linker_sync`, \
         but the guest was called asynchronously; use `p2::add_to_linker_async`",
    )
}

/// An acquire in progress, which backs the resource `pending`.
///
/// Pollables share it. When a poll ends before a pollable is ready, `wasi:io` drops the future of
/// that pollable. Therefore the wait is stored here, where it continues from one poll to the next.
#[derive(Debug)]
pub struct Pending {
    progress: Shared,
    handle: HandlePermit,
}

#[derive(Clone, Debug)]
struct Shared(Arc<Mutex<Progress>>);

#[derive(Debug)]
enum Progress {
    Waiting(Box<GuestAcquire>),
    Over(Result<GuestGuard, Error>),
    /// The guest has taken the answer, or has dropped the resource.
    Gone,
}

impl Drop for Pending {
    fn drop(&mut self) {
        let progress = std::mem::replace(&mut *self.progress.lock(), Progress::Gone);
        drop(progress);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut progress = self.lock();
        if let Progress::Waiting(wait) = &mut *progress {
            match Pin::new(wait).poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(answer) => *progress = Progress::Over(answer),
            }
        }
        Poll::Ready(())
    }

    /// Takes the answer. Returns it only once.
    fn take(&self) -> Option<Result<GuestGuard, Error>> {
        // A guest that never polls must get its answer too.
        if self
            .poll(&mut Context::from_waker(Waker::noop()))
            .is_pending()
        {
            return None;
        }
        match std::mem::replace(&mut *self.lock(), Progress::Gone) {
            Progress::Over(answer) => Some(answer),
            Progress::Waiting(_) | Progress::Gone => None,
        }
    }
}

/// Ready when a pending acquire has an answer or has been dropped.
struct Answer {
    progress: Shared,
    _handle: HandlePermit,
}

#[async_trait]
impl Pollable for Answer {
    async fn ready(&mut self) {
        future::poll_fn(|cx| self.progress.poll(cx)).await;
    }
}

/// Ready while the guest has a lost hold that it has not yet released.
struct Lost(Loss);

#[async_trait]
impl Pollable for Lost {
    async fn ready(&mut self) {
        self.0.wait().await;
    }
}

/// The trap for a guest that exceeds its limit in a call that cannot return an error.
pub(super) fn too_many(error: Error) -> wasmtime::Error {
    tracing::info!(target: "locket", error = error.to_string().as_str(), "trapped");
    wasmtime::Error::msg(
        "the guest has twice as many handles (including pollables) as its limit allows",
    )
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
        let progress = Shared(Arc::new(Mutex::new(Progress::Waiting(Box::new(wait)))));
        // Enter the queue.
        let _ = progress.poll(&mut Context::from_waker(Waker::noop()));
        Ok(self.table.push(Pending { progress, handle })?)
    }

    fn lost(&mut self, lock: Resource<LockFile>) -> wasmtime::Result<Resource<DynPollable>> {
        let lost = self.lock(&lock)?.lost().map_err(too_many)?;
        let lost = self.table.push(Lost(lost))?;
        subscribe(self.table, lost)
    }
}

impl poll::HostPending for LocketCtxView<'_> {
    fn subscribe(&mut self, this: Resource<Pending>) -> wasmtime::Result<Resource<DynPollable>> {
        let pending = self.table.get(&this)?;
        let answer = Answer {
            progress: pending.progress.clone(),
            _handle: pending.handle.extra().map_err(too_many)?,
        };
        // Not a child of the `pending` resource, so that the guest may drop them in any order.
        let answer = self.table.push(answer)?;
        subscribe(self.table, answer)
    }

    fn finish(
        &mut self,
        this: Resource<Pending>,
    ) -> wasmtime::Result<Option<Result<Resource<Guard>, api::Error>>> {
        let pending = self.table.get_mut(&this)?;
        let Some(answer) = pending.progress.take() else {
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
