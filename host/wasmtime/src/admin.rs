//! `admin`: breaking the locks of others, for guests that are trusted with it.

use wasmtime::component::Linker;

use super::bindings::admin;
use super::{LockError, Locket, LocketCtxView, LocketView};

/// Adds `admin`. It does nothing without [`Rights::BREAK`](locket::sandbox::Rights::BREAK).
///
/// # Errors
///
/// Where the linker has it already.
pub fn add_to_linker<T: LocketView + 'static>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    admin::add_to_linker::<T, Locket>(linker, T::locket)
}

impl admin::Host for LocketCtxView<'_> {
    fn break_lock(&mut self, path: String) -> Result<(), LockError> {
        self.ctx.sandbox.break_lock(&path)?;
        tracing::info!(target: "locket", path, "broken");
        Ok(())
    }
}
