//! The names of locks, and the keys of those who hold and await them.

use std::io;

use crate::types::Mode;

/// The longest name, in bytes.
const LONGEST: usize = 1024;

/// Refuses a name that is not the only one of its lock, and one that is too long.
pub(super) fn check_name(name: &str) -> io::Result<()> {
    let refuse = |why: &str| Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    if name.len() > LONGEST {
        return refuse("the name is longer than 1024 bytes");
    }
    if name.contains('\0') {
        return refuse("the name contains NUL");
    }
    if name.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return refuse("a part of the name is empty, `.` or `..`");
    }
    Ok(())
}

/// A half-open range of keys.
pub(super) type Keys = (Vec<u8>, Vec<u8>);

/// Where the keys of one lock are.
#[derive(Clone, Debug)]
pub(super) struct LockKeys {
    /// The name of the lock and a slash.
    prefix: String,
}

impl LockKeys {
    pub(super) fn new(root: &str, name: &str) -> Self {
        Self {
            prefix: format!("{root}/{name}/"),
        }
    }

    /// The key of an attempt. That of an exclusive one begins like those of `etcdctl`, with the
    /// lease in hexadecimal, and that of a shared one with a letter that is no such digit.
    pub(super) fn attempt(&self, mode: Mode, lease: i64, number: u64) -> Vec<u8> {
        let mark = match mode {
            Mode::Exclusive => "",
            Mode::Shared => "r",
        };
        self.with(&format!("{mark}{lease:x}.{number}"))
    }

    /// The keys that keep out an attempt: all, or those of exclusive attempts.
    pub(super) fn in_the_way_of(&self, mode: Mode) -> Keys {
        match mode {
            Mode::Exclusive => self.all(),
            // The digits of hexadecimal numbers, and no key of a shared attempt.
            Mode::Shared => (self.with("0"), self.with("g")),
        }
    }

    /// All keys of the lock, and of locks with a deeper name.
    pub(super) fn all(&self) -> Keys {
        let start = self.with("");
        let mut end = start.clone();
        // Of the slash.
        end[self.prefix.len() - 1] += 1;
        (start, end)
    }

    /// Whether the key belongs to a lock whose name begins with that of this one, and a slash.
    pub(super) fn is_deeper(&self, key: &[u8]) -> bool {
        self.suffix(key).contains(&b'/')
    }

    /// The mode of the attempt whose key this is.
    pub(super) fn mode(&self, key: &[u8]) -> Mode {
        match self.suffix(key).first() {
            Some(b'r') => Mode::Shared,
            _ => Mode::Exclusive,
        }
    }

    fn suffix<'a>(&self, key: &'a [u8]) -> &'a [u8] {
        key.get(self.prefix.len()..).unwrap_or_default()
    }

    fn with(&self, suffix: &str) -> Vec<u8> {
        [&self.prefix, suffix].concat().into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_name_of_a_lock_is_accepted() {
        for name in ["a", "jobs/nightly", "a.b/.c", "ä ö"] {
            check_name(name).expect(name);
        }
        let long = "a".repeat(LONGEST + 1);
        let bad = [
            "", "/a", "a/", "a//b", ".", "a/../b", "..", "a/.", "a\0b", &long,
        ];
        for name in bad {
            let refused = check_name(name).expect_err(name);
            assert_eq!(refused.kind(), io::ErrorKind::InvalidInput, "{name}");
        }
        check_name(&long[1..]).expect("it is short enough");
    }

    #[test]
    fn an_attempt_is_in_the_way_of_those_that_its_mode_excludes() {
        let keys = LockKeys::new("/locks", "a");
        let exclusive = keys.attempt(Mode::Exclusive, 0xfe01, 7);
        let shared = keys.attempt(Mode::Shared, 0xfe01, 8);
        assert_eq!(exclusive, b"/locks/a/fe01.7");
        assert_eq!(shared, b"/locks/a/rfe01.8");
        let others = [b"/locks/a/694d7f".to_vec(), b"/locks/a/b/1".to_vec()];
        let within = |(start, end): Keys, key: &Vec<u8>| start <= *key && *key < end;
        for key in [&exclusive, &others[0], &others[1]] {
            assert!(within(keys.in_the_way_of(Mode::Exclusive), key));
            assert!(within(keys.in_the_way_of(Mode::Shared), key));
            assert_eq!(keys.mode(key), Mode::Exclusive);
        }
        assert!(within(keys.in_the_way_of(Mode::Exclusive), &shared));
        assert!(!within(keys.in_the_way_of(Mode::Shared), &shared));
        assert_eq!(keys.mode(&shared), Mode::Shared);
        assert!(keys.is_deeper(&others[1]) && !keys.is_deeper(&others[0]));
        assert!(!within(keys.all(), &b"/locks/ab/1".to_vec()));
    }
}
