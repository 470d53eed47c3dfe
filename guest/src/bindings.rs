//! The generated bindings, for uses that the rest of the crate does not cover.
//!
//! If your own world mentions a type of `locket:lock`, map the interface to
//! these bindings, so that both sides use the same Rust type:
//!
//! ```text
//! wit_bindgen::generate!({
//!     world: "my-plugin",
//!     with: { "locket:lock/api@0.1.0": locket_guest::bindings::api },
//! });
//! ```
#![allow(missing_docs, unsafe_code, reason = "generated code")]

pub use plugin::locket::lock::api;
#[cfg(feature = "async")]
pub use plugin_async::locket::lock::api_async;
#[cfg(feature = "poll")]
pub use plugin_poll::locket::lock::poll;

mod plugin {
    wit_bindgen::generate!({
        path: "wit",
        world: "plugin",
        additional_derives: [PartialEq, Eq, Hash],
        type_section_suffix: "-locket-guest",
    });
}

#[cfg(feature = "poll")]
mod plugin_poll {
    wit_bindgen::generate!({
        path: "wit",
        world: "plugin-poll",
        with: {
            "locket:lock/api@0.1.0": crate::bindings::api,
            "wasi:io/poll@0.2.12": wasip2::io::poll,
        },
        type_section_suffix: "-locket-guest",
    });
}

#[cfg(feature = "async")]
mod plugin_async {
    wit_bindgen::generate!({
        path: "wit",
        world: "plugin-async",
        with: { "locket:lock/api@0.1.0": crate::bindings::api },
        type_section_suffix: "-locket-guest",
    });
}
