//! What differs between systems and has no safe binding: all `unsafe` code of this tool.

#![expect(
    unsafe_code,
    reason = "handlers, raw descriptors and queries have no safe binding"
)]

#[cfg(target_os = "macos")]
mod macos;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(target_os = "macos")]
pub(crate) use self::macos::*;
#[cfg(unix)]
pub(crate) use self::unix::*;
#[cfg(windows)]
pub(crate) use self::windows::*;
