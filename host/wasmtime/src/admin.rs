//! `admin`: breaking locks held by others, for trusted guests.

use wasmtime::component::Linker;

use super::bindings::admin;
use super::{LockError, Locket, LocketCtxView, LocketView};

/// Adds `admin`. Breaking a lock also requires
/// [`Rights::BREAK`](locket::sandbox::Rights::BREAK); without it, the calls are refused.
///
/// # Errors
///
/// Fails if the linker already has `admin`.
pub fn add_to_linker<T: LocketView + 'static>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    admin::add_to_linker::<T, Locket>(linker, T::locket)
}

impl admin::Host for LocketCtxView<'_> {
    fn break_lock(&mut self, path: String) -> Result<(), LockError> {
        Ok(self.ctx.break_lock(&path)?)
    }
}
