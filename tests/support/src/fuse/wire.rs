//! Requests of the kernel and the answers to them, in the format of `linux/fuse.h`, version 7.31.

use std::fs::File;
use std::io::{self, Write as _};

/// The version of the format.
const VERSION: [u32; 2] = [7, 31];

/// `FUSE_POSIX_LOCKS` and `FUSE_FLOCK_LOCKS`: the daemon keeps the locks.
const KEEPS_LOCKS: u32 = 1 << 1 | 1 << 10;

/// The largest request, which writes to no file.
pub(crate) const LARGEST: usize = 1 << 16;

/// What the kernel asks for, as far as this file system answers it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Operation {
    Lookup,
    Forget,
    Attributes,
    Unlink,
    Open,
    StatFs,
    Release,
    Flush,
    Init,
    OpenDir,
    ReleaseDir,
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
            // What would change them is ignored.
            3 | 4 => Self::Attributes,
            10 => Self::Unlink,
            14 => Self::Open,
            17 => Self::StatFs,
            18 => Self::Release,
            // A listing has nothing in it.
            20 | 25 | 28 | 38 | 44 => Self::Flush,
            26 => Self::Init,
            27 => Self::OpenDir,
            29 => Self::ReleaseDir,
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
}

impl<'a> Request<'a> {
    /// Reads one.
    pub(crate) fn parse(bytes: &'a [u8]) -> Self {
        Self {
            operation: Operation::from(u32_at(bytes, 4)),
            id: u64_at(bytes, 8),
            node: u64_at(bytes, 16),
            body: &bytes[40..],
        }
    }

    /// The name, which ends the request.
    pub(crate) fn name(&self) -> String {
        let skipped = if let Operation::Create = self.operation {
            16
        } else {
            0
        };
        let name = self.body[skipped..].split(|byte| *byte == 0).next();
        String::from_utf8_lossy(name.unwrap_or_default()).into_owned()
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
    pub(crate) fn version(keeps_locks: bool) -> Self {
        let [major, minor] = VERSION;
        let flags = if keeps_locks { KEEPS_LOCKS } else { 0 };
        let start = Self::default().u32(major).u32(minor).u32(0).u32(flags);
        // No more requests at once than usual, of no more than a page of data.
        start.u32(0).u32(4096).u32(1).zeroes(36)
    }

    /// The attributes of an empty file or of the directory, not to be kept.
    pub(crate) fn attributes(node: u64) -> Self {
        Self::default().zeroes(16).attr(node)
    }

    /// The same, and that a name leads to it.
    pub(crate) fn entry(node: u64) -> Self {
        Self::default().u64(node).zeroes(32).attr(node)
    }

    fn attr(self, node: u64) -> Self {
        let mode = if node == super::files::DIRECTORY {
            0o40777
        } else {
            0o100_666
        };
        let times = self.u64(node).zeroes(40).zeroes(12);
        times.u32(mode).u32(1).zeroes(12).u32(4096).u32(0)
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
    pub(crate) fn send(
        result: Result<Self, rustix::io::Errno>,
        id: u64,
        mut device: &File,
    ) -> io::Result<()> {
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
