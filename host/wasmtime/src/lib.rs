//! File locks for WebAssembly components that run in Wasmtime.
//!
//! # Two lines to add it
//!
//! Put a [`LocketCtx`], which defines what the guest may lock, into the store, and call the
//! `add_to_linker` functions for the interfaces that the guest imports:
//!
//! | the guest imports | the embedder calls guests | function |
//! |---|---|---|
//! | `api`, `poll`, `ranges`, `ranges-poll` or `descriptors` | asynchronously | [`p2::add_to_linker_async`] |
//! | | synchronously | [`p2::add_to_linker_sync`] |
//! | `api-async`, `ranges-async` or `locket:lock-p3/descriptors` too | asynchronously | [`p3::add_to_linker`], in addition to the one of [`p2`] |
//! | `admin` too | either way | [`admin::add_to_linker`] |
//!
//! ```no_run
//! use locket_wasmtime::{LocketCtx, LocketCtxView, LocketView};
//! use locket::sandbox::Rights;
//! use wasmtime::component::{Component, Linker, ResourceTable};
//! use wasmtime::{Result, Store};
//! use wasmtime_wasi::p2::bindings::Command;
//! use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
//!
//! struct State {
//!     wasi: WasiCtx,
//!     locket: LocketCtx,
//!     table: ResourceTable,
//! }
//!
//! impl WasiView for State {
//!     fn ctx(&mut self) -> WasiCtxView<'_> {
//!         WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
//!     }
//! }
//!
//! impl LocketView for State {
//!     fn locket(&mut self) -> LocketCtxView<'_> {
//!         LocketCtxView { ctx: &mut self.locket, table: &mut self.table }
//!     }
//! }
//!
//! // One engine for all guests of the process: it grants locks in order of arrival.
//! async fn run(worker: &Component, locks: &locket::Engine) -> Result<()> {
//!     let mut linker: Linker<State> = Linker::new(worker.engine());
//!     wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
//!     locket_wasmtime::p2::add_to_linker_async(&mut linker)?;
//!
//!     let state = State {
//!         wasi: WasiCtx::builder().inherit_stdio().build(),
//!         locket: LocketCtx::builder(locks)
//!             .label("worker")
//!             .grant_dir("/srv/jobs", "/jobs", Rights::LOCKS)?
//!             .build(),
//!         table: ResourceTable::new(),
//!     };
//!     let mut store = Store::new(worker.engine(), state);
//!     let worker = Command::instantiate_async(&mut store, worker, &linker).await?;
//!     let result = worker.wasi_cli_run().call_run(&mut store).await?;
//!     result.map_err(|()| wasmtime::format_err!("the worker failed"))
//! } // Dropping the store releases every lock of the guest.
//! ```
//!
//! Calling guests takes a compiler in Wasmtime: give your own dependency on `wasmtime` its feature
//! `cranelift`, or precompile. The example `plugin_host` of this crate has all of the following.
//!
//! # Which directories and rights
//!
//! Nothing is granted by default. [`grant_dir`](LocketCtxBuilder::grant_dir) opens a directory of
//! the host and grants [`Rights`] in it: [`Rights::LOCKS`] for a guest that gets only locks there,
//! [`Rights::READ_WRITE`] for a guest that may write files there anyway. For a store that is made
//! for each call, open a [`Directory`] once and [`grant`](LocketCtxBuilder::grant) that: it costs a
//! call no descriptor, and leads to the same directory whatever happens to its path.
//! [`grant_preopens`] grants the directories that a WASI context preopens, at one descriptor each
//! for each store.
//!
//! [`lock_open_files`](LocketCtxBuilder::lock_open_files) lets the guest lock each file that it has
//! open through WASI 0.2 or 0.3, by its descriptor, whatever the grants say: what it may read in shared
//! mode, what it may write exclusively.
//!
//! [`protocols`](LocketCtxBuilder::protocols) restricts the protocols; without
//! [`Rights::EXISTENCE`] there are only kernel locks. [`Limits`] lists the bounds on a guest. The
//! module [`sandbox`](locket::sandbox#what-granting-a-directory-means) explains what granting a
//! directory means, what a guest can learn and cause, and which directories not to grant.
//!
//! Grants and limits of a context that is in use can be changed: [`Sandbox::grant`],
//! [`revoke_grant`](Sandbox::revoke_grant), [`set_limits`](Sandbox::set_limits). Do not replace the
//! context in a store whose guest has locks open: its next call traps, since the new context is
//! another owner.
//!
//! A guest sees only the cases of an enumeration, its own paths, and the labels that embedders
//! assign. Host paths, process identifiers and error texts go to events of [`tracing`].
//!
//! # What happens at the end of a guest
//!
//! Dropping a [`Store`](wasmtime::Store) releases all locks of its guest, whatever state the guest
//! is in. They are *not* released before that: after a trap, a dropped call or an epoch deadline,
//! the guest still has its resources. Wasmtime does not let such an instance be entered again, so
//! drop the store. To keep the store for inspection, call [`release_all`](Sandbox::release_all).
//!
//! **WASI 0.2.** To drop the future of a call, with a timeout around it for instance, ends a wait in
//! it. The guest keeps the locks that it holds. While a guest waits in the plain `acquire`, or in
//! `lock` of a range, nothing in its store runs. Waiting there for a lock that the same store holds
//! could never end, so it fails as a deadlock. `poll`, `ranges-poll`, `api-async` and `ranges-async`
//! have no such restriction, because the guest keeps running.
//!
//! **WASI 0.3.** Wasmtime keeps the calls that a guest makes until its store is dropped, even if the
//! future that drives them is dropped. So run calls in [`p3::run_concurrent`]: if it is dropped, the
//! waits of its guests end. And a plain call that has to wait stops the whole store, the embedder's
//! own timers in that closure included; see [`p3`].
//!
//! **From another thread**, while the guest runs or waits: clone the context before the call. The
//! clone is a handle on the guest: [`cancel_waits`](Sandbox::cancel_waits) ends its waits with
//! `canceled`, [`revoke`](Sandbox::revoke) takes one lock away, [`release_all`](Sandbox::release_all)
//! all of them, and the instance lives on. For a synchronous guest, which blocks a thread, that is
//! the only way.
//!
//! **A call from one guest to another**, or a function of the host that locks: declare it, so that
//! guests that wait for one another in a circle get `deadlock` instead of waiting forever. See
//! [`sandbox`](locket::sandbox#calls-between-guests), and [`LockFile`] for functions that take
//! `borrow<lock-file>`.
//!
//! **The end of the host.** [`Engine::shut_down`](locket::Engine::shut_down) ends every wait with
//! `canceled`, also those of synchronous guests. Call it before the runtime waits for their threads.
//!
//! # Time
//!
//! Epochs and fuel do not interrupt a wait, but an epoch deadline passes while a guest waits: set
//! once for each call, it kills the guest just when it has its lock. [`epochs`] advances the epoch, and
//! counts only the time in which the guest runs. [`Limits::longest_wait`] bounds a wait, and [`Limits::longest_hold`] a
//! hold, whatever the guest does.
//!
//! # Locks on servers
//!
//! No call of a guest in a task waits for a server on the thread of the executor. `acquire`, also with
//! a timeout of zero, `is-locked`, `holder`, and the `release` of a lock that the guest does not hold
//! suspend the guest until the server has answered, for its [request
//! timeout](locket::RemoteBuilder::request_timeout) at most. `start` with a timeout of zero has its
//! answer once it can be polled, not at once.
//!
//! To release a lock that it holds, the guest does not wait. It may rely on this: it holds the lock no
//! more, a loss that was known by then is the error `lost`, and the engine gives the lock back, or its
//! lease ends. It may not rely on this: that another program sees the lock free by then. A guest that
//! has to know whether its work was protected asks for the `state`, or sends its token along.
//!
//! In a synchronous call all of these block the calling thread as long, and so does `break-lock` of
//! [`admin`] in any call.
//!
//! # Tenants
//!
//! Limits in a builder are those of one store. If there is a store for each call, a [`Tenant`]
//! bounds all calls of a customer together, opens its directories once, and can be one owner. With
//! [`fair_shares`](locket::EngineBuilder::fair_shares), 100 waiting calls of one tenant put the call
//! of another behind one of them.
//!
//! # What to watch
//!
//! - [`Hooks`] follow each acquire and each hold to its end, for metrics and policies.
//! - Events of [`tracing`] with the target `locket` tell the same, in a span `guest` with the label
//!   and the [`tag`](LocketCtxBuilder::tag) of the guest. Errors are events of the level `DEBUG`, with
//!   the details that no guest is told.
//! - [`Engine::snapshot`](locket::Engine::snapshot) lists who holds and awaits what, and counts.
//!   [`Sandbox::holds`], [`Sandbox::waits`] and [`Sandbox::usage`] tell of one guest.

#![cfg_attr(not(test), warn(clippy::disallowed_methods))]

pub mod admin;
mod api;
pub mod bindings;
mod descriptors;
pub mod epochs;
mod in_progress;
pub mod p2;
pub mod p3;
mod ranges;

use locket::sandbox::{Directory, Rights};
#[cfg(doc)]
use locket::sandbox::{Hooks, Limits, Sandbox, Tenant};
use wasmtime::component::{HasData, ResourceTable};
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystemView};
use wasmtime_wasi::p2::bindings::filesystem::preopens::Host as _;
use wasmtime_wasi::{FsPerms, WasiCtxView, WasiView};

pub use self::api::{Guard, LockError};
pub use self::p2::Pending;
pub use self::ranges::PendingRange;
/// A guest's lock file, which backs the resource `lock-file`.
///
/// A function of the host that takes `borrow<lock-file>` finds it in the table of the store:
///
/// ```
/// use locket::State;
/// use locket_wasmtime::{LockFile, LocketView};
/// use wasmtime::Result;
/// use wasmtime::component::Resource;
///
/// /// An import of the embedder's own: `note: func(lock: borrow<lock-file>)`.
/// fn note<T: LocketView>(data: &mut T, lock: Resource<LockFile>) -> Result<String> {
///     let lock = data.locket().table.get(&lock)?;
///     let held = lock.state() == State::Held;
///     Ok(format!("{}: {}", lock.path(), if held { "held" } else { "free" }))
/// }
/// ```
pub use locket::sandbox::GuestLock as LockFile;
/// A file of which a guest locks ranges, which backs the resource `range-file`.
pub use locket::sandbox::GuestRanges as RangeFile;
/// What the guest of one store may lock, and what it holds and awaits.
///
/// All instances in a store are one owner: if one acquires a lock, another may release it.
pub use locket::sandbox::Sandbox as LocketCtx;
/// Settings of a [`LocketCtx`].
pub use locket::sandbox::SandboxBuilder as LocketCtxBuilder;

/// The name of `api` in a linker, for an embedder that replaces a function of it.
pub const API: &str = "locket:lock/api@0.1.0";

/// The name of `ranges` in a linker.
pub const RANGES: &str = "locket:lock/ranges@0.1.0";

/// Grants a guest the directories that its WASI context preopens, under the same names: read-only
/// directories with [`Rights::READ_ONLY`], all others with [`Rights::READ_WRITE`]. Each takes a
/// descriptor more, for as long as the context exists.
///
/// ```
/// use locket_wasmtime::{LocketCtx, grant_preopens};
/// use wasmtime::component::ResourceTable;
/// use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxView};
///
/// # let dir = tempfile::tempdir()?;
/// # let jobs = dir.path();
/// let mut wasi = WasiCtx::builder().preopened_dir(jobs, "/jobs", FsPerms::ReadWrite)?.build();
/// let mut table = ResourceTable::new();
/// let locket = LocketCtx::builder(&locket::Engine::new()).label("worker").build();
/// grant_preopens(&locket, WasiCtxView { ctx: &mut wasi, table: &mut table })?;
/// assert!(locket.open("/jobs/a.lock", None, locket::OnRelease::Keep).is_ok());
/// # Ok::<(), wasmtime::Error>(())
/// ```
///
/// # Errors
///
/// Fails if the resource table is full, a descriptor cannot be duplicated, or
/// [`Sandbox::grant`] refuses a directory.
pub fn grant_preopens(locket: &LocketCtx, wasi: WasiCtxView<'_>) -> wasmtime::Result<()> {
    struct View<'a>(WasiCtxView<'a>);

    impl WasiView for View<'_> {
        fn ctx(&mut self) -> WasiCtxView<'_> {
            WasiCtxView {
                ctx: self.0.ctx,
                table: self.0.table,
            }
        }
    }

    let mut wasi = View(wasi);
    let mut preopens = Vec::new();
    for (descriptor, name) in wasi.filesystem().get_directories()? {
        preopens.push((wasi.0.table.delete(descriptor)?, name));
    }
    for (descriptor, name) in preopens {
        let Descriptor::Dir(preopen) = descriptor else {
            continue;
        };
        let rights = match preopen.perms {
            FsPerms::ReadOnly => Rights::READ_ONLY,
            FsPerms::ReadWrite => Rights::READ_WRITE,
        };
        let directory = Directory::from_file(preopen.dir.try_clone()?)?;
        locket.grant(&directory, name, rights)?;
    }
    Ok(())
}

/// A [`LocketCtx`] and the table that contains the resources of its guest.
#[derive(Debug)]
pub struct LocketCtxView<'a> {
    /// What the guest may lock.
    pub ctx: &'a mut LocketCtx,
    /// The resource table of the store, shared with WASI.
    pub table: &'a mut ResourceTable,
}

/// Gives access to the [`LocketCtx`] in the data of a store.
pub trait LocketView: Send {
    /// The context and the table.
    fn locket(&mut self) -> LocketCtxView<'_>;
}

/// Identifies [`LocketCtxView`] to the `add_to_linker` functions of [`bindings`]. Use it to call
/// those functions directly, without a [`LocketView`]:
///
/// ```
/// use locket_wasmtime::bindings::{api, poll};
/// use locket_wasmtime::{Locket, LocketCtx, LocketCtxView};
/// use wasmtime::component::{Linker, ResourceTable};
///
/// struct Data(LocketCtx, ResourceTable);
///
/// fn view(data: &mut Data) -> LocketCtxView<'_> {
///     LocketCtxView { ctx: &mut data.0, table: &mut data.1 }
/// }
///
/// fn link(linker: &mut Linker<Data>) -> wasmtime::Result<()> {
///     api::add_to_linker::<_, Locket>(linker, view)?;
///     poll::add_to_linker::<_, Locket>(linker, view)
/// }
/// ```
#[derive(Debug)]
pub struct Locket;

impl HasData for Locket {
    type Data<'a> = LocketCtxView<'a>;
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
