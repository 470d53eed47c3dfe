//! The files of a file system for tests.

use rustix::io::Errno;

use super::Switches;
use super::locks::Table;
use super::tree::{Content, Node, Tree};
use super::wire::{Answer, Operation, Request};

/// All files and locks.
pub(crate) struct Files {
    switches: Switches,
    tree: Tree,
    last_description: u64,
    locks: Table,
}

/// What is to be answered: the requests, and how.
pub(crate) type Answers = Vec<(u64, Result<Answer, Errno>)>;

impl Files {
    pub(crate) fn new(switches: Switches) -> Self {
        Self {
            switches,
            tree: Tree::new(),
            last_description: 0,
            locks: Table::new(switches),
        }
    }

    /// Answers a request, and those that waited for this one.
    pub(crate) fn answer(&mut self, request: &Request<'_>) -> Answers {
        match request.operation {
            Operation::LockHolder => self.locks.holder(request),
            Operation::TryLock | Operation::Lock => self.locks.lock(request),
            Operation::Release => self.locks.close(request),
            Operation::Interrupt => self.locks.interrupt(request.interrupted()),
            // It has no answer.
            Operation::Forget => Vec::new(),
            _ => vec![(request.id, self.serve(request))],
        }
    }

    fn serve(&mut self, request: &Request<'_>) -> Result<Answer, Errno> {
        let node = request.node;
        let [name, second] = request.names();
        let place = (node, name.clone());
        match request.operation {
            Operation::Init => Ok(Answer::version(self.switches.locks)),
            Operation::Lookup => self.tree.lookup(&place).and_then(|found| self.entry(found)),
            Operation::Attributes => self.attributes(node),
            Operation::Change => {
                if let Some(size) = request.size() {
                    let changed = self.tree.node(node)?;
                    changed.bytes()?.resize(size, 0);
                    changed.touch();
                }
                self.attributes(node)
            }
            Operation::Create => {
                let new = match self.tree.lookup(&place) {
                    Ok(found) if !request.is_exclusive() => found,
                    _ => self.tree.create(place, Content::File(Vec::new()))?,
                };
                Ok(self.entry(new)?.open(self.description()))
            }
            Operation::MakeDirectory => self.create(place, Content::Directory),
            Operation::MakeSymlink => self.create(place, Content::Symlink(second)),
            Operation::Link => {
                let number = self.tree.link(place, request.other())?;
                self.entry(number)
            }
            Operation::Remove => self.tree.remove(&place).map(|()| Answer::default()),
            Operation::Rename => {
                let to = (request.other(), second);
                match request.rename_flags() {
                    0 => self.tree.rename(&place, to, false),
                    1 => self.tree.rename(&place, to, true),
                    2 => self.tree.exchange(place, to),
                    _ => Err(Errno::INVAL),
                }?;
                Ok(Answer::default())
            }
            Operation::ReadLink => match &self.tree.node(node)?.content {
                Content::Symlink(target) => Ok(Answer::bytes(target.as_bytes())),
                _ => Err(Errno::INVAL),
            },
            Operation::Open | Operation::OpenDir => Ok(Answer::default().open(self.description())),
            Operation::Read => {
                let bytes = self.tree.node(node)?.bytes()?;
                let bytes = bytes.get(request.offset()..).unwrap_or_default();
                Ok(Answer::bytes(&bytes[..bytes.len().min(request.length())]))
            }
            Operation::Write => self.write(node, request.offset(), request.data()),
            Operation::List => Ok(self.list(node, request.offset(), request.length())),
            Operation::SetAttribute => {
                let value = request.attribute().to_vec();
                let changed = self.tree.node(node)?;
                changed.attributes.insert(name, value);
                changed.touch();
                Ok(Answer::default())
            }
            Operation::GetAttribute => {
                let value = self.tree.node(node)?.attributes.get(&name);
                Answer::attribute(value.ok_or(Errno::NODATA)?, request.attribute_room())
            }
            Operation::StatFs => Ok(Answer::size()),
            Operation::Flush => Ok(Answer::default()),
            _ => Err(Errno::NOSYS),
        }
    }

    fn create(&mut self, place: (u64, String), content: Content) -> Result<Answer, Errno> {
        let number = self.tree.create(place, content)?;
        self.entry(number)
    }

    fn write(&mut self, node: u64, at: usize, data: &[u8]) -> Result<Answer, Errno> {
        let written = self.tree.node(node)?;
        let bytes = written.bytes()?;
        let end = at + data.len();
        bytes.resize(bytes.len().max(end), 0);
        bytes[at..end].copy_from_slice(data);
        written.touch();
        Ok(Answer::written(data.len()))
    }

    fn list(&mut self, node: u64, from: usize, room: usize) -> Answer {
        let mut answer = Answer::default();
        for (index, (name, number)) in self.tree.list(node).enumerate().skip(from) {
            if !answer.list(index, name, number, room) {
                break;
            }
        }
        answer
    }

    fn entry(&mut self, number: u64) -> Result<Answer, Errno> {
        let links = self.tree.links(number);
        let node: &Node = self.tree.node(number)?;
        Ok(Answer::entry(number, node, links))
    }

    fn attributes(&mut self, number: u64) -> Result<Answer, Errno> {
        let links = self.tree.links(number);
        let node: &Node = self.tree.node(number)?;
        Ok(Answer::attributes(number, node, links))
    }

    fn description(&mut self) -> u64 {
        self.last_description += 1;
        self.last_description
    }
}
