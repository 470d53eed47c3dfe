//! The generated bindings of the exports of this component.
#![allow(unsafe_code, unreachable_pub, reason = "generated code")]

pub(crate) use exports::locket::lock::{api, ranges};

wit_bindgen::generate!({
    path: "wit",
    world: "provider",
    additional_derives: [PartialEq, Eq],
});

#[cfg(target_arch = "wasm32")]
export!(Provider with_types_in self);
#[cfg(target_arch = "wasm32")]
use crate::Provider;
