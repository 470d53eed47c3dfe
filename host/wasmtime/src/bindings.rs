//! The bindings that Wasmtime generates: the traits that this crate implements, and the types.
//!
//! Bindings of a world that uses types of `locket:lock` can reuse these:
//!
//! ```ignore
//! wasmtime::component::bindgen!({
//!     path: "wit",
//!     world: "plugin",
//!     with: { "locket:lock": ::locket_wasmtime::bindings },
//! });
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
        path: "wit",
        world: "imports",
        imports: {
            "locket:lock/api.[method]lock-file.acquire": async | trappable,
            default: trappable,
        },
        trappable_error_type: {
            "locket:lock/api.error" => crate::LockError,
        },
        with: {
            "wasi:io": wasmtime_wasi::p2::bindings::io,
            "locket:lock/api.lock-file": crate::LockFile,
            "locket:lock/api.guard": crate::Guard,
            "locket:lock/poll.pending": crate::Pending,
        },
        require_store_data_send: true,
    });
}

pub use generated::locket::lock::*;
