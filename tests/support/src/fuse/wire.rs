//! Requests of the kernel and the answers to them, in the format of `linux/fuse.h`, version 7.31.

use std::fs::File;
use std::io::{self, Write as _};

use rustix::io::Errno;

use super::Locks;
use super::tree::{Content, Node};

/// The version of the format.
const VERSION: [u32; 2] = [7, 31];

/// `FUSE_POSIX_LOCKS` and `FUSE_FLOCK_LOCKS`: the daemon keeps the locks.
const KEEPS_LOCKS: u32 = 1 << 1 | 1 << 10;

/// The largest request.
pub(crate) const LARGEST: usize = 1 << 16;

/// What the kernel asks for, as far as this file system answers it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Operation {
    Lookup,
    Forget,
    Attributes,
    Change,
    ReadLink,
    MakeSymlink,
    MakeDirectory,
    Remove,
    Rename,
    Link,
    Open,
    Read,
    Write,
    StatFs,
    Release,
    SetAttribute,
    GetAttribute,
    Flush,
    Init,
    OpenDir,
    List,
    LockHolder,
    TryLock,
    Lock,
    Create,
    Interrupt,
    Unknown,
}

impl From<u32> for Operation {
    fn from(code: u32) -> Self {
        match code {
            1 => Self::Lookup,
            2 | 42 => Self::Forget,
            3 => Self::Attributes,
            4 => Self::Change,
            5 => Self::ReadLink,
            6 => Self::MakeSymlink,
            9 => Self::MakeDirectory,
            10 | 11 => Self::Remove,
            12 | 45 => Self::Rename,
            13 => Self::Link,
            14 => Self::Open,
            15 => Self::Read,
            16 => Self::Write,
            17 => Self::StatFs,
            18 => Self::Release,
            21 => Self::SetAttribute,
            22 => Self::GetAttribute,
            // They have nothing to do here.
            20 | 25 | 29 | 30 | 38 => Self::Flush,
            26 => Self::Init,
            27 => Self::OpenDir,
            28 => Self::List,
            31 => Self::LockHolder,
            32 => Self::TryLock,
            33 => Self::Lock,
            35 => Self::Create,
            36 => Self::Interrupt,
            _ => Self::Unknown,
        }
    }
}

/// A request.
pub(crate) struct Request<'a> {
    pub(crate) operation: Operation,
    /// By which its answer is known.
    pub(crate) id: u64,
    /// The file or directory that it is about.
    pub(crate) node: u64,
    body: &'a [u8],
    /// How many bytes of the body are before the names.
    fixed: usize,
}

impl<'a> Request<'a> {
    /// Reads one.
    pub(crate) fn parse(bytes: &'a [u8]) -> Self {
        let code = u32_at(bytes, 4);
        Self {
            operation: Operation::from(code),
            id: u64_at(bytes, 8),
            node: u64_at(bytes, 16),
            body: &bytes[40..],
            fixed: match code {
                9 | 12 | 13 | 21 | 22 => 8,
                35 | 45 => 16,
                _ => 0,
            },
        }
    }

    /// The names that end the request, if there are any.
    pub(crate) fn names(&self) -> [String; 2] {
        let rest = self.body.get(self.fixed..).unwrap_or_default();
        let mut names = rest.split(|byte| *byte == 0);
        let mut next = || String::from_utf8_lossy(names.next().unwrap_or_default()).into_owned();
        [next(), next()]
    }

    /// The directory or file that it is about, too.
    pub(crate) fn other(&self) -> u64 {
        u64_at(self.body, 0)
    }

    /// 1 not to replace a name, 2 to exchange them.
    pub(crate) fn rename_flags(&self) -> u32 {
        if self.fixed == 16 {
            u32_at(self.body, 8)
        } else {
            0
        }
    }

    /// Whether a file may not be there yet.
    pub(crate) fn is_exclusive(&self) -> bool {
        let flags = rustix::fs::OFlags::from_bits_retain(u32_at(self.body, 0));
        flags.contains(rustix::fs::OFlags::EXCL)
    }

    /// The new size, if it changes.
    pub(crate) fn size(&self) -> Option<usize> {
        const SIZE: u32 = 1 << 3;
        let changes = u32_at(self.body, 0) & SIZE != 0;
        changes.then(|| number(u64_at(self.body, 16)))
    }

    /// Where to read, write or list.
    pub(crate) fn offset(&self) -> usize {
        number(u64_at(self.body, 8))
    }

    /// How much of it.
    pub(crate) fn length(&self) -> usize {
        number(u32_at(self.body, 16).into())
    }

    /// What to write.
    pub(crate) fn data(&self) -> &'a [u8] {
        &self.body[40..40 + self.length()]
    }

    /// The value of an attribute, after its name.
    pub(crate) fn attribute(&self) -> &'a [u8] {
        let start = self.fixed + self.names()[0].len() + 1;
        &self.body[start..start + self.attribute_room()]
    }

    /// How long the value of an attribute is, or may be; 0 to ask.
    pub(crate) fn attribute_room(&self) -> usize {
        number(u32_at(self.body, 0).into())
    }

    /// The open file description, for those that have one.
    pub(crate) fn description(&self) -> u64 {
        u64_at(self.body, 0)
    }

    /// The lock that is asked for.
    pub(crate) fn lock(&self) -> Lock {
        Lock {
            owner: (u64_at(self.body, 0), u32_at(self.body, 40) & 1 != 0),
            mode: match u32_at(self.body, 32) {
                0 => Some(Mode::Shared),
                1 => Some(Mode::Exclusive),
                _ => None,
            },
        }
    }

    /// The request that was interrupted.
    pub(crate) fn interrupted(&self) -> u64 {
        u64_at(self.body, 0)
    }
}

fn number(value: u64) -> usize {
    usize::try_from(value).expect("files of tests are small")
}

fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let field = bytes
        .get(at..at + N)
        .and_then(|field| field.try_into().ok());
    field.expect("the kernel sends whole requests")
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes_at(bytes, at))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(bytes_at(bytes, at))
}

/// A lock of a whole file.
pub(crate) struct Lock {
    /// The open file description that it belongs to, and whether it is `flock`'s.
    pub(crate) owner: (u64, bool),
    /// None unlocks.
    pub(crate) mode: Option<Mode>,
}

/// What it excludes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Mode {
    Shared,
    Exclusive,
}

/// The content of an answer.
#[derive(Default)]
pub(crate) struct Answer(Vec<u8>);

impl Answer {
    fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_ne_bytes());
        self
    }

    fn u64(mut self, value: u64) -> Self {
        self.0.extend(value.to_ne_bytes());
        self
    }

    fn zeroes(mut self, count: usize) -> Self {
        self.0.resize(self.0.len() + count, 0);
        self
    }

    /// To the first request.
    pub(crate) fn version(locks: Locks) -> Self {
        let [major, minor] = VERSION;
        let flags = match locks {
            Locks::OfKernel => 0,
            _ => KEEPS_LOCKS,
        };
        let start = Self::default().u32(major).u32(minor).u32(0).u32(flags);
        // No more requests at once than usual, of no more than a page of data.
        start.u32(0).u32(4096).u32(1).zeroes(36)
    }

    /// The attributes of a node, not to be kept.
    pub(crate) fn attributes(number: u64, node: &Node, links: u32) -> Self {
        Self::default().zeroes(16).attr(number, node, links)
    }

    /// The same, and that a name leads to it.
    pub(crate) fn entry(number: u64, node: &Node, links: u32) -> Self {
        let entry = Self::default().u64(number).zeroes(32);
        entry.attr(number, node, links)
    }

    fn attr(self, number: u64, node: &Node, links: u32) -> Self {
        let (mode, size) = match &node.content {
            Content::Directory => (0o40777, 0),
            Content::File(bytes) => (0o100_666, bytes.len()),
            Content::Symlink(target) => (0o120_777, target.len()),
        };
        let links = if node.is_directory() { 2 } else { links };
        let (seconds, nanos) = (node.changed.as_secs(), node.changed.subsec_nanos());
        let start = self.u64(number).u64(size as u64).u64(0);
        let times = start.u64(seconds).u64(seconds).u64(seconds);
        let times = times.u32(nanos).u32(nanos).u32(nanos);
        times.u32(mode).u32(links).zeroes(12).u32(4096).u32(0)
    }

    /// What was read.
    pub(crate) fn bytes(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }

    /// How much was written.
    pub(crate) fn written(length: usize) -> Self {
        Self::default().length(length).u32(0)
    }

    fn length(self, length: usize) -> Self {
        self.u32(u32::try_from(length).expect("files of tests are small"))
    }

    /// The value of an attribute, or its length if there is no room for any.
    pub(crate) fn attribute(value: &[u8], room: usize) -> Result<Self, Errno> {
        match room {
            0 => Ok(Self::default().length(value.len()).u32(0)),
            room if room < value.len() => Err(Errno::RANGE),
            _ => Ok(Self::bytes(value)),
        }
    }

    /// Adds an entry to a listing, if there is room for it.
    pub(crate) fn list(&mut self, index: usize, name: &str, number: u64, room: usize) -> bool {
        let entry = Self::default().u64(number).u64(index as u64 + 1);
        let mut entry = entry.length(name.len()).u32(0).0;
        entry.extend(name.as_bytes());
        entry.resize(entry.len().next_multiple_of(8), 0);
        let fits = self.0.len() + entry.len() <= room;
        if fits {
            self.0.extend(entry);
        }
        fits
    }

    /// A new open file description.
    pub(crate) fn open(self, description: u64) -> Self {
        self.u64(description).zeroes(8)
    }

    /// That there is no holder of a lock, or one.
    pub(crate) fn holder(mode: Option<Mode>) -> Self {
        let mode = match mode {
            Some(Mode::Shared) => 0,
            Some(Mode::Exclusive) => 1,
            None => 2,
        };
        Self::default()
            .u64(0)
            .u64(i64::MAX.cast_unsigned())
            .u32(mode)
            .u32(0)
    }

    /// The size of the file system.
    pub(crate) fn size() -> Self {
        Self::default().zeroes(40).u32(4096).u32(255).zeroes(32)
    }

    /// Sends it, or an error.
    pub(crate) fn send(result: Result<Self, Errno>, id: u64, mut device: &File) -> io::Result<()> {
        let (error, content) = match result {
            Ok(answer) => (0, answer.0),
            Err(error) => (-error.raw_os_error(), Vec::new()),
        };
        let length = u32::try_from(16 + content.len()).expect("answers are short");
        let head = Self::default()
            .u32(length)
            .u32(error.cast_unsigned())
            .u64(id);
        // One call, as the kernel wants it.
        match device.write(&[head.0, content].concat()) {
            // It is not waited for any more.
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            written => written.map(drop),
        }
    }
}
