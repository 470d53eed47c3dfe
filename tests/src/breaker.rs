//! A guest that breaks locks.

use wasmtime::Store;
use wasmtime::component::Component;

use crate::harness::{State, linker, runtime};

/// Has the guest of a store break the lock of a file of at most 64 bytes.
///
/// # Errors
///
/// The error of the interface, by its name.
///
/// # Panics
///
/// If the guest traps.
pub async fn break_lock(mut store: Store<State>, path: &str) -> Result<(), &'static str> {
    let text = include_str!("breaker.wat");
    let text = text.replace("PATH", path);
    let text = text.replace("LENGTH", &path.len().to_string());
    let binary = wat::parse_str(text).expect("the text is a component");
    let component = Component::new(runtime(), binary).expect("the component is valid");
    let instance = linker().instantiate_async(&mut store, &component).await;
    let instance = instance.expect("everything is linked");
    let function = instance.get_typed_func::<(), (u32,)>(&mut store, "break");
    let function = function.expect("the component exports it");
    let answer = function.call_async(&mut store, ()).await;
    match answer.expect("the guest does not trap").0 {
        0 => Ok(()),
        error => Err(ERRORS[error as usize - 1]),
    }
}

/// The errors of the interface, in its order.
const ERRORS: [&str; 15] = [
    "would-block",
    "timeout",
    "not-locked",
    "not-owner",
    "deadlock",
    "access-denied",
    "no-entry",
    "invalid-path",
    "limit-exceeded",
    "not-supported",
    "unavailable",
    "lost",
    "canceled",
    "io",
    "other",
];
