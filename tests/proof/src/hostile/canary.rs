//! A directory that nobody should have touched, and what was changed in it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Everything below a directory at one time.
#[derive(Debug, Eq, PartialEq)]
pub struct Canary(BTreeMap<PathBuf, Entry>);

/// What a file was: which, of what kind, how long, changed when, and what was in it.
#[derive(Debug, Eq, PartialEq)]
struct Entry {
    inode: u64,
    mode: u32,
    links: u64,
    size: u64,
    modified: (i64, i64),
    content: Vec<u8>,
}

impl Canary {
    /// Looks at everything below `dir`, but for what is in `except`.
    ///
    /// # Errors
    ///
    /// Where something cannot be read.
    pub fn of(dir: &Path, except: &[&Path]) -> io::Result<Self> {
        let mut entries = BTreeMap::new();
        look(dir, except, &mut entries)?;
        Ok(Self(entries))
    }

    /// The same, without how many links there are to each file.
    pub fn without_links(mut self) -> Self {
        self.0.values_mut().for_each(|entry| entry.links = 0);
        self
    }

    /// How it is different from what it was `before`: nothing where it is not.
    pub fn changes(&self, before: &Self) -> Vec<String> {
        let gone = before.0.keys().filter(|path| !self.0.contains_key(*path));
        let gone = gone.map(|path| format!("{} is gone", path.display()));
        let different = self.0.iter().filter_map(|(path, entry)| {
            let shown = path.display();
            match before.0.get(path) {
                None => Some(format!("{shown} is new")),
                Some(old) if old != entry => Some(format!("{shown} was {old:?} and is {entry:?}")),
                Some(_) => None,
            }
        });
        gone.chain(different).collect()
    }
}

fn look(dir: &Path, except: &[&Path], entries: &mut BTreeMap<PathBuf, Entry>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if except.contains(&&*path) {
            continue;
        }
        let metadata = fs::symlink_metadata(&path)?;
        let content = match metadata.is_file() {
            true => fs::read(&path)?,
            false => Vec::new(),
        };
        let entry = Entry {
            inode: metadata.ino(),
            mode: metadata.mode(),
            links: metadata.nlink(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            content,
        };
        if metadata.is_dir() {
            look(&path, except, entries)?;
        }
        entries.insert(path, entry);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn every_change_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::create_dir(path("deep")).unwrap();
        fs::write(path("deep/file"), "text").unwrap();
        let before = Canary::of(dir.path(), &[]).unwrap();
        let changes = || {
            let now = Canary::of(dir.path(), &[&path("let-be")]).unwrap();
            now.changes(&before).join("; ")
        };
        fs::write(path("let-be"), "").unwrap();
        fs::remove_file(path("let-be")).unwrap();
        let modified = |time| {
            let dir = File::open(path("deep")).unwrap();
            dir.set_modified(time).unwrap();
        };
        let old = fs::metadata(path("deep")).unwrap().modified().unwrap();
        assert_eq!(changes(), "");
        fs::write(path("deep/new"), "").unwrap();
        modified(old);
        assert!(changes().ends_with("new is new"), "{}", changes());
        fs::remove_file(path("deep/new")).unwrap();
        modified(old);
        assert_eq!(changes(), "");
        fs::write(path("deep/file"), "TEXT").unwrap();
        assert!(changes().contains("file was"), "{}", changes());
        fs::remove_file(path("deep/file")).unwrap();
        assert!(changes().contains("file is gone"), "{}", changes());
    }
}
