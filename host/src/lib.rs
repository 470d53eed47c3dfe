//! File locks that sandboxed WebAssembly components and native processes share.

#[cfg(feature = "wasmtime")]
pub mod component;
mod deadline;
mod engine;
mod error;
mod protocol;
mod queue;
mod registry;
#[cfg(feature = "sandbox")]
pub mod sandbox;
mod sys;
mod target;
mod terms;
mod waiter;

pub use engine::{Acquire, Engine, EngineBuilder, Guard, LockFile, Options};
pub use error::{Error, Result};
pub use protocol::{Protocol, UnknownProtocol};
pub use terms::{Guarantee, Holder, LostReason, Mode, OnRelease, Scope, State};
