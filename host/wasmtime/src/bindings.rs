//! The bindings that Wasmtime generates: the traits that this crate implements, and the types.
//!
//! An embedder's own world that uses types of `locket:lock` shares these. The macro also makes a
//! module with the name `locket`: in the module where you put it, which may be the root of your
//! crate, write `::locket` for the crate. In place of `inline`, name the folder of your WIT files.
//!
//! ```
//! wasmtime::component::bindgen!({
//!     inline: "
//!         package my:host;
//!
//!         interface audit {
//!             use locket:lock/api@0.1.0.{lock-file};
//!             note: func(lock: borrow<lock-file>) -> string;
//!         }
//!
//!         world plugin {
//!             import locket:lock/api@0.1.0;
//!             import audit;
//!         }
//!     ",
//!     path: "wit", // The folder with the package `locket:lock`.
//!     world: "my:host/plugin",
//!     with: { "locket:lock": ::locket_wasmtime::bindings },
//!     require_store_data_send: true, // As these bindings do.
//! });
//!
//! use locket_wasmtime::{LockFile, LocketView};
//! use my::host::audit;
//! use wasmtime::component::{HasSelf, Linker, Resource};
//!
//! impl audit::Host for Data {
//!     fn note(&mut self, lock: Resource<LockFile>) -> String {
//!         // See `LockFile` for what a function of the host does with a lock.
//! #       format!("{lock:?}")
//!     }
//! }
//!
//! // Link interface by interface: `Plugin::add_to_linker` would want `Data` to implement the locks.
//! fn link(linker: &mut Linker<Data>) -> wasmtime::Result<()> {
//!     locket_wasmtime::p2::add_to_linker_async(linker)?;
//!     audit::add_to_linker::<_, HasSelf<Data>>(linker, |data| data)
//! }
//! # struct Data;
//! # impl LocketView for Data {
//! #     fn locket(&mut self) -> locket_wasmtime::LocketCtxView<'_> { unimplemented!() }
//! # }
//! # fn main() {}
//! ```

mod generated {
    #![expect(
        missing_docs,
        reason = "generated; the interface is documented in its own files"
    )]
    #![allow(
        clippy::allow_attributes_without_reason,
        clippy::clone_on_ref_ptr,
        clippy::semicolon_if_nothing_returned,
        clippy::uninlined_format_args,
        unreachable_pub,
        rust_2018_idioms,
        reason = "generated"
    )]

    wasmtime::component::bindgen!({
        inline: "
            package locket:host;

            world all {
                include locket:lock/imports@0.1.0;
                import locket:lock/descriptors@0.1.0;
                import locket:lock-p3/descriptors@0.1.0;
            }
        ",
        path: ["wit", "wit/p3"],
        world: "locket:host/all",
        imports: {
            "locket:lock/api.[method]lock-file.acquire": async | trappable,
            "locket:lock/api.[method]lock-file.release": async | trappable,
            "locket:lock/api.[method]lock-file.is-locked": async | trappable,
            "locket:lock/api.[method]lock-file.holder": async | trappable,
            "locket:lock/ranges.[method]range-file.lock": async | trappable,
            default: trappable,
        },
        trappable_error_type: {
            "locket:lock/api.error" => crate::LockError,
        },
        with: {
            "wasi:clocks@0.2.12": wasmtime_wasi::p2::bindings::clocks,
            "wasi:clocks@0.3.0": wasmtime_wasi::p3::bindings::clocks,
            "wasi:filesystem@0.2.12": wasmtime_wasi::p2::bindings::filesystem,
            "wasi:filesystem@0.3.0": wasmtime_wasi::p3::bindings::filesystem,
            "wasi:io": wasmtime_wasi::p2::bindings::io,
            "locket:lock/api.lock-file": crate::LockFile,
            "locket:lock/api.guard": crate::Guard,
            "locket:lock/poll.pending": crate::Pending,
            "locket:lock/ranges.range-file": crate::RangeFile,
            "locket:lock/ranges-poll.pending-range": crate::PendingRange,
        },
        require_store_data_send: true,
    });
}

pub use generated::locket::lock::*;
pub use generated::locket::lock_p3;
