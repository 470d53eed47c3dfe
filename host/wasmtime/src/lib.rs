//! File locks for WebAssembly components that run in Wasmtime.
//!
//! Put a [`LocketCtx`], which defines what the guest may lock, into the store, and call the
//! `add_to_linker` functions for the interfaces that the guest imports:
//!
//! | the guest imports | the embedder calls guests | function |
//! |---|---|---|
//! | `api` or `poll` | asynchronously | [`p2::add_to_linker_async`] |
//! | | synchronously | [`p2::add_to_linker_sync`] |
//! | `api-async` too | asynchronously | [`p3::add_to_linker`], in addition to the one of [`p2`] |
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
//! // All guests share one engine, which grants locks in order of arrival.
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
//! # How a guest ends
//!
//! Dropping a [`Store`](wasmtime::Store) releases all locks of its guest, whatever state the guest
//! is in. They are *not* released before that: after a trap, a dropped call or an epoch deadline,
//! the guest still has its resources. Wasmtime does not let such an instance be entered again, so
//! drop the store. To keep the store for inspection, call [`LocketCtx::release_all`].
//!
//! Epochs and fuel do not interrupt host calls. [`Limits::longest_wait`] bounds a wait, and
//! [`Limits::longest_hold`] bounds a hold. An embedder may also drop the future of a call at any
//! time, which abandons a wait in it.
//!
//! While a guest waits in the plain `acquire`, nothing in its store runs. Waiting there for a lock
//! that the same store holds could never end, so it fails as a deadlock. `poll` and `api-async`
//! have no such restriction, because the guest keeps running.
//!
//! # What the guest may do
//!
//! Nothing is granted by default. [`LocketCtxBuilder::grant_dir`] grants [`Rights`] in a directory:
//! [`Rights::LOCKS`] for a guest that gets only locks there, [`Rights::READ_WRITE`] for a guest
//! that may write files there anyway. [`LocketCtxBuilder::protocols`] restricts the protocols.
//! [`Limits`] lists the bounds on a guest. The module
//! [`sandbox`](locket::sandbox#what-granting-a-directory-means) explains what granting a directory
//! means, what a guest can learn and cause, and which directories not to grant.
//!
//! # What the guest does not learn
//!
//! A guest sees only the cases of an enumeration, its own paths, and the labels that embedders
//! assign. Host paths, process identifiers and error texts go to [`tracing`] events with the target
//! `locket`.

#![cfg_attr(not(test), warn(clippy::disallowed_methods))]

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

/// What the guest of one store may lock, and what it currently holds.
///
/// All instances in a store are one owner: if one acquires a lock, another may release it. The
/// [`Limits`] apply to the store as a whole. The module
/// [`sandbox`](locket::sandbox#what-granting-a-directory-means) explains what granting a directory
/// means.
#[derive(Debug)]
pub struct LocketCtx {
    sandbox: Sandbox,
}

/// Builds a [`LocketCtx`].
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

    /// The protocol of locks that the guest opens without choosing one. Defaults to
    /// [`Protocol::Native`].
    pub fn protocol(mut self, protocol: Protocol) -> Self {
        self.sandbox = self.sandbox.protocol(protocol);
        self
    }

    /// The protocols that the guest may choose. That of [`protocol`](Self::protocol) is always
    /// allowed. By default, the guest may choose every protocol that its [`Rights`] permit. Any
    /// other protocol fails with `access-denied`.
    pub fn protocols(mut self, protocols: impl IntoIterator<Item = Protocol>) -> Self {
        self.sandbox = self.sandbox.protocols(protocols);
        self
    }

    /// The host database that stores the guest's [`Protocol::Sqlite`] locks. Unless one is set,
    /// that protocol fails with `not-supported`.
    ///
    /// # Errors
    ///
    /// As [`SandboxBuilder::database`].
    pub fn database(mut self, host_path: impl Into<PathBuf>) -> io::Result<Self> {
        self.sandbox = self.sandbox.database(host_path)?;
        Ok(self)
    }

    /// The limits on what the guest may use.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.sandbox = self.sandbox.limits(limits);
        self
    }

    /// Grants the directory at `host_path` under the name `guest_path`; see
    /// [`SandboxBuilder::grant_dir`].
    ///
    /// Do not grant a directory in which this process has a SQLite database open or holds other
    /// POSIX record locks. The module [`sandbox`](locket::sandbox#what-granting-a-directory-means)
    /// explains what a guest can do in a granted directory.
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

    /// Creates the context for one store.
    pub fn build(self) -> LocketCtx {
        LocketCtx {
            sandbox: self.sandbox.build(),
        }
    }
}

impl LocketCtx {
    /// Starts building a context without grants. Use the same `engine` for all guests that must
    /// take turns with one another in order of arrival.
    pub fn builder(engine: &Engine) -> LocketCtxBuilder {
        LocketCtxBuilder {
            sandbox: Sandbox::builder(engine),
        }
    }

    /// Grants the directories that a WASI context preopens, under the same names: read-only
    /// directories with [`Rights::READ_ONLY`], all others with [`Rights::READ_WRITE`].
    ///
    /// # Errors
    ///
    /// Fails if the resource table is full or a descriptor cannot be duplicated.
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

    /// Revokes every lock of the guest and cancels its waits. The guest sees the state
    /// `lost(broken)` for its locks, and its waits fail with `canceled`. Use this for a store that
    /// is kept after a trap.
    pub fn release_all(&self) {
        tracing::info!(target: "locket", "everything of a guest released");
        self.sandbox.release_all();
    }
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
/// those functions directly, without a [`LocketView`].
#[derive(Debug)]
pub struct Locket;

impl HasData for Locket {
    type Data<'a> = LocketCtxView<'a>;
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
