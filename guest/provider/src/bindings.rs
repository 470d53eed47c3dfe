//! The generated bindings of what this component exports.
#![allow(missing_docs, unsafe_code, unreachable_pub, reason = "generated code")]

pub use exports::locket::lock::api;

wit_bindgen::generate!({
    path: "wit",
    world: "provider",
    additional_derives: [PartialEq, Eq],
    pub_export_macro: true,
    default_bindings_module: "crate::bindings",
});
