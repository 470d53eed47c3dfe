//! Paths as bytes, for other processes of this program and for JSON.

use std::path::{Path, PathBuf};

/// The bytes of a path. On Windows those of UTF-8, if the path is Unicode.
pub(crate) fn bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_encoded_bytes()
}

/// The path with these bytes; `None` if there can be none.
#[cfg(unix)]
#[expect(clippy::unnecessary_wraps, reason = "other systems can fail")]
pub(crate) fn from_bytes(bytes: Vec<u8>) -> Option<PathBuf> {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;
    Some(OsString::from_vec(bytes).into())
}

/// The path with these bytes; `None` if it is not Unicode.
#[cfg(windows)]
pub(crate) fn from_bytes(bytes: Vec<u8>) -> Option<PathBuf> {
    String::from_utf8(bytes).ok().map(PathBuf::from)
}
