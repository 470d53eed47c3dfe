//! The names of a file system for tests, and what they lead to. Nothing is ever freed.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::io::Errno;

/// The number of the first directory.
pub(crate) const ROOT: u64 = 1;

/// What a name leads to.
pub(crate) struct Node {
    pub(crate) content: Content,
    pub(crate) attributes: HashMap<String, Vec<u8>>,
    /// When it was last changed, since 1970.
    pub(crate) changed: Duration,
}

pub(crate) enum Content {
    Directory,
    File(Vec<u8>),
    Symlink(String),
}

impl Node {
    fn new(content: Content) -> Self {
        let mut node = Self {
            content,
            attributes: HashMap::new(),
            changed: Duration::ZERO,
        };
        node.touch();
        node
    }

    pub(crate) fn touch(&mut self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        self.changed = now.unwrap_or_default();
    }

    pub(crate) fn is_directory(&self) -> bool {
        matches!(self.content, Content::Directory)
    }

    /// The bytes of a file.
    pub(crate) fn bytes(&mut self) -> Result<&mut Vec<u8>, Errno> {
        match &mut self.content {
            Content::File(bytes) => Ok(bytes),
            Content::Directory => Err(Errno::ISDIR),
            Content::Symlink(_) => Err(Errno::INVAL),
        }
    }
}

/// A directory, and a name in it.
pub(crate) type Place = (u64, String);

pub(crate) struct Tree {
    nodes: HashMap<u64, Node>,
    names: BTreeMap<Place, u64>,
}

impl Tree {
    pub(crate) fn new() -> Self {
        Self {
            nodes: HashMap::from([(ROOT, Node::new(Content::Directory))]),
            names: BTreeMap::new(),
        }
    }

    pub(crate) fn node(&mut self, number: u64) -> Result<&mut Node, Errno> {
        self.nodes.get_mut(&number).ok_or(Errno::STALE)
    }

    pub(crate) fn links(&self, number: u64) -> u32 {
        let links = self.names.values().filter(|other| **other == number);
        u32::try_from(links.count()).unwrap_or(u32::MAX)
    }

    pub(crate) fn lookup(&self, place: &Place) -> Result<u64, Errno> {
        self.names.get(place).copied().ok_or(Errno::NOENT)
    }

    /// The names in a directory, and what they lead to.
    pub(crate) fn list(&self, directory: u64) -> impl Iterator<Item = (&str, u64)> {
        let names = self.names.iter();
        let inside = names.filter(move |((parent, _), _)| *parent == directory);
        inside.map(|((_, name), number)| (name.as_str(), *number))
    }

    /// Gives a new node a name that is free.
    pub(crate) fn create(&mut self, place: Place, content: Content) -> Result<u64, Errno> {
        // The first directory is there already.
        let number = ROOT + self.nodes.len() as u64;
        self.nodes.insert(number, Node::new(content));
        self.link(place, number)
    }

    pub(crate) fn link(&mut self, place: Place, number: u64) -> Result<u64, Errno> {
        if self.names.contains_key(&place) {
            return Err(Errno::EXIST);
        }
        self.change(&place, number);
        self.names.insert(place, number);
        Ok(number)
    }

    pub(crate) fn remove(&mut self, place: &Place) -> Result<(), Errno> {
        let number = self.lookup(place)?;
        if self.list(number).next().is_some() {
            return Err(Errno::NOTEMPTY);
        }
        self.names.remove(place);
        self.change(place, number);
        Ok(())
    }

    /// Moves a name, and replaces the other, unless `only_new`.
    pub(crate) fn rename(&mut self, from: &Place, to: Place, only_new: bool) -> Result<(), Errno> {
        let number = self.lookup(from)?;
        if self.names.contains_key(&to) {
            if only_new {
                return Err(Errno::EXIST);
            }
            self.remove(&to)?;
        }
        self.names.remove(from);
        self.change(from, number);
        self.link(to, number).map(drop)
    }

    pub(crate) fn exchange(&mut self, one: Place, two: Place) -> Result<(), Errno> {
        let (first, second) = (self.lookup(&one)?, self.lookup(&two)?);
        self.change(&one, first);
        self.change(&two, second);
        self.names.insert(one, second);
        self.names.insert(two, first);
        Ok(())
    }

    /// Notes the time.
    fn change(&mut self, (directory, _): &Place, number: u64) {
        for changed in [*directory, number] {
            if let Some(node) = self.nodes.get_mut(&changed) {
                node.touch();
            }
        }
    }
}
