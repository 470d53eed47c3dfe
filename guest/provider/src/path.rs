//! Resolves a path to a preopened directory and a path in it.
//!
//! The rule is that of WASI's C library, so that the string that opens a file also opens its lock:
//! it chooses the directory with the longest name that is a prefix of the path, component by
//! component, and the working directory is the root.

use alloc::string::String;
use alloc::vec::Vec;

use crate::bindings::api::Error;

/// The place of a file in one of several directories.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Place<'a> {
    /// The index of the preopened directory.
    pub(crate) root: usize,
    /// The parent directory of the file, relative to the preopened directory.
    pub(crate) directory: String,
    /// The name of the file in its parent directory.
    pub(crate) name: &'a str,
}

/// The place of the file at `path`, given the names of the directories.
pub(crate) fn resolve<'a>(path: &'a str, roots: &[impl AsRef<str>]) -> Result<Place<'a>, Error> {
    if path.is_empty() || path.contains('\0') {
        return Err(Error::InvalidPath);
    }
    let parts: Vec<_> = components(path).collect();
    let matching = roots.iter().enumerate().filter_map(|(index, root)| {
        let root = root.as_ref();
        let length = components(root).count();
        let matches = parts.len() >= length && components(root).zip(&parts).all(|(a, b)| a == *b);
        let same_kind = root.starts_with('/') == path.starts_with('/');
        matches.then_some((length, same_kind, index))
    });
    let (length, _, root) = matching.max().ok_or(Error::AccessDenied)?;
    // A path with such an end can only name a directory, whatever exists there.
    let end = path.rsplit('/').next().unwrap_or_default();
    match parts[length..].split_last() {
        Some((name, directory)) if !matches!(end, "" | "." | "..") => Ok(Place {
            root,
            directory: match directory {
                [] => ".".into(),
                directory => directory.join("/"),
            },
            name,
        }),
        _ => Err(Error::InvalidPath),
    }
}

/// The components of a path, without empty ones and `.`.
fn components(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|part| !matches!(*part, "" | "."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(path: &str, roots: &[&str]) -> Result<(usize, String, String), Error> {
        let place = resolve(path, roots)?;
        Ok((place.root, place.directory, place.name.into()))
    }

    fn at(root: usize, directory: &str, name: &str) -> Result<(usize, String, String), Error> {
        Ok((root, directory.into(), name.into()))
    }

    #[test]
    fn the_longest_name_wins() {
        let roots = ["/", "/jobs", "/jobs/deep"];
        assert_eq!(place("/a", &roots), at(0, ".", "a"));
        assert_eq!(place("/jobs/a", &roots), at(1, ".", "a"));
        assert_eq!(place("/jobs/deep/er/a", &roots), at(2, "er", "a"));
        assert_eq!(place("/jobster/a", &roots), at(0, "jobster", "a"));
        assert_eq!(place("//jobs/./a", &roots), at(1, ".", "a"));
    }

    #[test]
    fn a_relative_path_is_one_of_the_working_directory() {
        assert_eq!(place("a", &["/", "."]), at(1, ".", "a"));
        assert_eq!(place("/a", &[".", "/"]), at(1, ".", "a"));
        assert_eq!(place("./a", &["/"]), at(0, ".", "a"));
        assert_eq!(place("jobs/a", &["/jobs"]), at(0, ".", "a"));
    }

    #[test]
    fn steps_up_are_left_to_the_host() {
        assert_eq!(place("/jobs/../a", &["/jobs"]), at(0, "..", "a"));
    }

    #[test]
    fn what_cannot_be_a_lock() {
        for path in ["", "/", ".", "/jobs", "/jobs/", "/a/.", "/a/..", "a\0"] {
            assert_eq!(
                place(path, &["/", "/jobs"]),
                Err(Error::InvalidPath),
                "{path:?}"
            );
        }
        for path in ["/a", "a", "/job/a", "/jobster/a"] {
            assert_eq!(place(path, &["/jobs"]), Err(Error::AccessDenied), "{path}");
        }
    }
}
