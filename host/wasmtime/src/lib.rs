//! Locks for components that run in Wasmtime.
//!
//! The store needs a [`LocketCtx`], which says what the guest may lock, and the linker one of the
//! `add_to_linker` functions:
//!
//! | for guests that | and an embedder that calls them | |
//! |---|---|---|
//! | import `api` or `poll` | with `async` | [`p2::add_to_linker_async`] |
//! | | without | [`p2::add_to_linker_sync`] |
//! | import `api-async` as well | with `async` | [`p3::add_to_linker`], on top of that of [`p2`] |
//! | import `admin` as well | in either way | [`admin::add_to_linker`] |
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
//! // `locks` is one for all guests: it keeps them in order.
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
//! } // Here the store is dropped, and with it every lock of the guest is released.
//! ```
//!
//! # How a guest ends
//!
//! The locks of a guest are free as soon as its [`Store`](wasmtime::Store) is dropped, whatever
//! state it is in. They are *not* before: a trap, a dropped call or an epoch deadline leaves the
//! resources of the guest where they are. Wasmtime lets nobody enter such an instance again, so
//! drop the store; or, to keep it for examination, call [`LocketCtx::release_all`].
//!
//! Epochs and fuel do not reach into calls of the host. What bounds a wait and a hold are
//! [`Limits::longest_wait`] and [`Limits::longest_hold`]. An embedder may also drop the future of
//! a call at any time, which ends a wait in it.
//!
//! While a guest waits in the plain `acquire`, nothing in its store runs. So one that waits for a
//! lock which that store holds is refused as a deadlock. That is not so in `poll` and `api-async`.
//!
//! # What the guest may do
//!
//! Nothing is granted by default. [`LocketCtxBuilder::grant_dir`] takes the [`Rights`] in a directory:
//! [`Rights::LOCKS`] for a guest that gets locks and no files there, [`Rights::READ_WRITE`] for one
//! that may write its files anyway. [`LocketCtxBuilder::protocols`] restricts the protocols.
//! [`Limits`] has the table of what bounds a guest. The module [`sandbox`](locket::sandbox#what-granting-a-directory-means) says
//! what granting a directory means, what a guest can learn and cause, and which directories not to
//! grant.
//!
//! # What the guest does not learn
//!
//! It gets cases of an enumeration, its own paths, and the labels that embedders give. Paths,
//! process numbers and error texts of the host go to [`tracing`] events of the target `locket`.

pub mod admin;
mod api;
pub mod bindings;
pub mod p2;
pub mod p3;

use std::io;
use std::path::{Path, PathBuf};

use locket::sandbox::{Limits, Rights, Sandbox, SandboxBuilder};
use locket::{Engine, Protocol};
use wasmtime::component::{HasData, ResourceTable};
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystemView};
use wasmtime_wasi::p2::bindings::filesystem::preopens::Host as _;
use wasmtime_wasi::{FsPerms, WasiCtxView, WasiView};

pub use self::api::{Guard, LockError, LockFile};
pub use self::p2::Pending;

/// What the guest of one store may lock, and what it has locked.
///
/// All instances of a store are one owner: what one acquired, the other may release. The [`Limits`]
/// count for the store. The module [`sandbox`](locket::sandbox#what-granting-a-directory-means) says
/// what granting a directory means.
#[derive(Debug)]
pub struct LocketCtx {
    sandbox: Sandbox,
}

/// Settings of a [`LocketCtx`].
#[derive(Debug)]
#[must_use]
pub struct LocketCtxBuilder {
    sandbox: SandboxBuilder,
}

impl LocketCtxBuilder {
    /// The label shown to others that query the holder of a lock. None by default.
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.sandbox = self.sandbox.label(label);
        self
    }

    /// The protocol of locks that the guest opens without naming one. By default
    /// [`Protocol::Native`].
    pub fn protocol(mut self, protocol: Protocol) -> Self {
        self.sandbox = self.sandbox.protocol(protocol);
        self
    }

    /// The protocols that the guest may choose. The one of [`protocol`](Self::protocol) is always
    /// among them, and by default all are, as far as the [`Rights`] go. Any other is `access-denied`.
    pub fn protocols(mut self, protocols: impl IntoIterator<Item = Protocol>) -> Self {
        self.sandbox = self.sandbox.protocols(protocols);
        self
    }

    /// The database of the host that keeps the guest's locks of [`Protocol::Sqlite`]. Without one
    /// that protocol is `not-supported`.
    ///
    /// # Errors
    ///
    /// As [`SandboxBuilder::database`].
    pub fn database(mut self, host_path: impl Into<PathBuf>) -> io::Result<Self> {
        self.sandbox = self.sandbox.database(host_path)?;
        Ok(self)
    }

    /// How much the guest may use.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.sandbox = self.sandbox.limits(limits);
        self
    }

    /// Grants the directory at `host_path` under the name `guest_path`; see
    /// [`SandboxBuilder::grant_dir`]. Do not grant a directory in which this process has a SQLite
    /// database open, or other POSIX record locks of its own. The module
    /// [`sandbox`](locket::sandbox#what-granting-a-directory-means) says what a guest can do in it.
    ///
    /// # Errors
    ///
    /// As [`SandboxBuilder::grant_dir`].
    pub fn grant_dir(
        mut self,
        host_path: impl AsRef<Path>,
        guest_path: impl AsRef<str>,
        rights: Rights,
    ) -> io::Result<Self> {
        let (path, name) = (host_path.as_ref(), guest_path.as_ref());
        tracing::debug!(target: "locket", ?path, name, ?rights, "directory granted");
        self.sandbox = self.sandbox.grant_dir(path, name, rights)?;
        Ok(self)
    }

    /// The context of one store.
    pub fn build(self) -> LocketCtx {
        LocketCtx {
            sandbox: self.sandbox.build(),
        }
    }
}

impl LocketCtx {
    /// A context to which nothing is granted yet. Guests that shall take turns with one another
    /// in the order of arrival need the same `engine`.
    pub fn builder(engine: &Engine) -> LocketCtxBuilder {
        LocketCtxBuilder {
            sandbox: Sandbox::builder(engine),
        }
    }

    /// Grants the directories that a WASI context preopens, under their names there: with
    /// [`Rights::READ_WRITE`], or with [`Rights::READ_ONLY`] those that may only be read.
    ///
    /// # Errors
    ///
    /// Where the resource table is full, or a descriptor cannot be duplicated.
    pub fn grant_preopens(&mut self, wasi: WasiCtxView<'_>) -> wasmtime::Result<()> {
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
            tracing::debug!(target: "locket", name, ?rights, "preopen granted");
            self.sandbox.grant(preopen.dir.try_clone()?, name, rights)?;
        }
        Ok(())
    }

    /// Takes away every lock of the guest, and ends its waits with the error `canceled`; it
    /// learns the first by the state `lost(broken)`. For stores that are kept after a trap.
    pub fn release_all(&self) {
        tracing::info!(target: "locket", "everything of a guest released");
        self.sandbox.release_all();
    }
}

/// A [`LocketCtx`], and the table that has the resources of its guest.
#[derive(Debug)]
pub struct LocketCtxView<'a> {
    /// What the guest may lock.
    pub ctx: &'a mut LocketCtx,
    /// The table of the store, the same as that of WASI.
    pub table: &'a mut ResourceTable,
}

/// Gives access to the [`LocketCtx`] in the data of a store.
pub trait LocketView: Send {
    /// The context and the table.
    fn locket(&mut self) -> LocketCtxView<'_>;
}

/// Names [`LocketCtxView`] to the `add_to_linker` functions of [`bindings`], for those who call
/// these directly and need no [`LocketView`].
#[derive(Debug)]
pub struct Locket;

impl HasData for Locket {
    type Data<'a> = LocketCtxView<'a>;
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
