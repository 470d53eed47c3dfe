//! A record of a directory, to show later what has changed in it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;

/// Everything below a directory at one time.
#[derive(Debug, Eq, PartialEq)]
pub struct Canary(BTreeMap<PathBuf, Entry>);

/// What is recorded of a file. The content of a link is its target.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Entry {
    inode: u64,
    mode: u32,
    links: u64,
    size: u64,
    modified: (i64, i64),
    content: Vec<u8>,
}

impl Canary {
    /// Records everything below `dir`, except these paths.
    ///
    /// # Errors
    ///
    /// A file that cannot be read.
    pub fn of(dir: &Path, except: &[&Path]) -> io::Result<Self> {
        let mut entries = BTreeMap::new();
        look(dir, except, &mut entries)?;
        Ok(Self(entries))
    }

    /// The same, without empty files and without directories.
    pub fn with_content(mut self) -> Self {
        self.0.retain(|_, entry| !entry.content.is_empty());
        self
    }

    /// The same, without these.
    pub fn without(mut self, paths: &[&Path]) -> Self {
        self.0.retain(|path, _| !paths.contains(&&**path));
        self
    }

    /// The changes of what was there `before`. New files do not count, nor do the changes that they cause
    /// in their directory.
    pub fn harm(&self, before: &Self) -> Vec<String> {
        let there = |(path, _): &(&PathBuf, &Entry)| before.0.contains_key(*path);
        let lasting = |(path, entry): (&PathBuf, &Entry)| (path.clone(), entry.lasting());
        let now = self.0.iter().filter(there).map(lasting).collect();
        let then = before.0.iter().map(lasting).collect();
        Self(now).changes(&Self(then))
    }

    /// All changes since `before`.
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

impl Entry {
    /// Without what changes in a directory when an entry is created or removed.
    fn lasting(&self) -> Self {
        let entry = self.clone();
        match FileType::from_raw_mode(self.mode) {
            FileType::Directory => Self {
                links: 0,
                size: 0,
                modified: (0, 0),
                ..entry
            },
            _ => entry,
        }
    }
}

fn look(dir: &Path, except: &[&Path], entries: &mut BTreeMap<PathBuf, Entry>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if except.contains(&&*path) {
            continue;
        }
        let metadata = fs::symlink_metadata(&path)?;
        let content = match metadata.file_type() {
            kind if kind.is_file() => fs::read(&path)?,
            kind if kind.is_symlink() => fs::read_link(&path)?.into_os_string().into_vec(),
            _ => Vec::new(),
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
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    #[test]
    fn every_change_is_noticed() {
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

    #[test]
    fn new_files_are_no_harm() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::create_dir(path("deep")).unwrap();
        fs::write(path("deep/file"), "text").unwrap();
        fs::write(path("deep/empty"), "").unwrap();
        symlink("nowhere", path("link")).unwrap();
        let now = || Canary::of(dir.path(), &[]).unwrap();
        let before = now();
        fs::write(path("deep/new"), "").unwrap();
        assert_eq!(now().harm(&before), [""; 0]);
        fs::remove_file(path("deep/empty")).unwrap();
        assert_eq!(now().harm(&before).len(), 1);
        let before = before.with_content();
        assert_eq!(now().harm(&before), [""; 0]);
        fs::remove_file(path("link")).unwrap();
        symlink("elsewhere", path("link")).unwrap();
        fs::set_permissions(path("deep/file"), fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(now().harm(&before).len(), 2);
    }
}
