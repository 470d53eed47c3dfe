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
#[cfg(feature = "descriptors")]
pub use plugin_descriptors::locket::lock::descriptors;
#[cfg(feature = "descriptors-p3")]
pub use plugin_descriptors_p3::locket::lock_p3::descriptors as descriptors_p3;
#[cfg(feature = "poll")]
pub use plugin_poll::locket::lock::poll;
#[cfg(feature = "ranges")]
pub use plugin_ranges::locket::lock::ranges;
#[cfg(all(feature = "ranges", feature = "async"))]
pub use plugin_ranges_async::locket::lock::ranges_async;
#[cfg(all(feature = "ranges", feature = "poll"))]
pub use plugin_ranges_poll::locket::lock::ranges_poll;

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

#[cfg(feature = "ranges")]
mod plugin_ranges {
    wit_bindgen::generate!({
        path: "wit",
        world: "plugin-ranges",
        with: { "locket:lock/api@0.1.0": crate::bindings::api },
        additional_derives: [PartialEq, Eq, Hash],
        type_section_suffix: "-locket-guest",
    });
}

#[cfg(all(feature = "ranges", feature = "poll"))]
mod plugin_ranges_poll {
    wit_bindgen::generate!({
        path: "wit",
        world: "plugin-ranges-poll",
        with: {
            "locket:lock/api@0.1.0": crate::bindings::api,
            "locket:lock/ranges@0.1.0": crate::bindings::ranges,
            "wasi:io/poll@0.2.12": wasip2::io::poll,
        },
        type_section_suffix: "-locket-guest",
    });
}

#[cfg(all(feature = "ranges", feature = "async"))]
mod plugin_ranges_async {
    wit_bindgen::generate!({
        path: "wit",
        world: "plugin-ranges-async",
        with: {
            "locket:lock/api@0.1.0": crate::bindings::api,
            "locket:lock/ranges@0.1.0": crate::bindings::ranges,
        },
        type_section_suffix: "-locket-guest",
    });
}

#[cfg(feature = "descriptors")]
mod plugin_descriptors {
    wit_bindgen::generate!({
        path: "wit",
        world: "posix",
        with: {
            "locket:lock/api@0.1.0": crate::bindings::api,
            "locket:lock/ranges@0.1.0": crate::bindings::ranges,
            "wasi:clocks/wall-clock@0.2.12": wasip2::clocks::wall_clock,
            "wasi:filesystem/types@0.2.12": wasip2::filesystem::types,
            "wasi:io/error@0.2.12": wasip2::io::error,
            "wasi:io/poll@0.2.12": wasip2::io::poll,
            "wasi:io/streams@0.2.12": wasip2::io::streams,
        },
        type_section_suffix: "-locket-guest",
    });
}

#[cfg(feature = "descriptors-p3")]
mod plugin_descriptors_p3 {
    wit_bindgen::generate!({
        path: ["wit", "wit/p3"],
        world: "locket:lock-p3/posix",
        with: {
            "locket:lock/api@0.1.0": crate::bindings::api,
            "locket:lock/ranges@0.1.0": crate::bindings::ranges,
            "wasi:clocks/system-clock@0.3.0": wasip3::clocks::system_clock,
            "wasi:clocks/types@0.3.0": wasip3::clocks::types,
            "wasi:filesystem/types@0.3.0": wasip3::filesystem::types,
        },
        type_section_suffix: "-locket-guest",
    });
}
