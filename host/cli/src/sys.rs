//! What differs between systems and has no safe binding: all `unsafe` code of this tool.

#![expect(
    unsafe_code,
    reason = "handlers, raw descriptors and queries have no safe binding"
)]

#[cfg(unix)]
mod unix;

#[cfg(unix)]
pub(crate) use self::unix::*;
