//! The calls that the hostile guest can make.

/// A call that the guest can make, with its arguments, of which there are up to four. A timeout takes two
/// of them: whether there is one, and its milliseconds. After a semicolon: the handle that it returns.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u32)]
pub enum Call {
    /// `lock-file.open-with` of the path that was [named](super::attacker::Attacker::name): whether with a
    /// protocol, which, and what to do on release; the lock.
    Open,
    /// `lock-file.path`: lock.
    Path,
    /// `lock-file.acquire`: lock, mode, timeout.
    Acquire,
    /// `lock-file.release`: lock.
    Release,
    /// `lock-file.is-locked`: lock.
    IsLocked,
    /// `lock-file.state`: lock.
    State,
    /// `lock-file.holder`: lock.
    Holder,
    /// `lock-file.guarantee`: lock.
    Guarantee,
    /// Drops a lock.
    Close,
    /// `guard.grant`: guard.
    GuardGrant,
    /// `guard.release`: guard.
    GuardRelease,
    /// Drops a guard.
    GuardDrop,
    /// `poll.start`: lock, mode, timeout; the pending acquire.
    Start,
    /// `pending.subscribe`: pending; the pollable.
    Subscribe,
    /// `pending.finish`: pending; the guard, or 0 if there is none yet.
    Finish,
    /// Drops a pending acquire.
    Abandon,
    /// `poll.lost`: lock; the pollable.
    Lost,
    /// `pollable.ready`: pollable.
    Ready,
    /// Drops a pollable.
    PollableDrop,
    /// `api-async.acquire`, without waiting for the answer: lock, mode, timeout; the guard, or the
    /// running subtask.
    AcquireAsync,
    /// `api-async.lost`, without waiting for the answer: lock; the subtask.
    LostAsync,
    /// `admin.break-lock` of the path that was named.
    Break,
    /// Traps.
    Trap,
    /// Loops endlessly.
    Spin,
    /// [`Start`](Self::Start), and [`Abandon`](Self::Abandon).
    StartAndAbandon,
    /// [`Open`](Self::Open), and [`Close`](Self::Close).
    OpenAndClose,
    /// Why `lock-file.state` says that a lock is lost, as a number of the interface, or 4: lock.
    Reason,
}

impl Call {
    /// All that take a handle and return.
    pub const WITH_HANDLE: [Self; 20] = [
        Self::Path,
        Self::Acquire,
        Self::Release,
        Self::IsLocked,
        Self::State,
        Self::Holder,
        Self::Guarantee,
        Self::Close,
        Self::GuardGrant,
        Self::GuardRelease,
        Self::GuardDrop,
        Self::Start,
        Self::Subscribe,
        Self::Finish,
        Self::Abandon,
        Self::Lost,
        Self::Ready,
        Self::PollableDrop,
        Self::AcquireAsync,
        Self::LostAsync,
    ];

    /// The kind of handle that the first argument is.
    pub fn takes(self) -> Kind {
        match self {
            Self::GuardGrant | Self::GuardRelease | Self::GuardDrop => Kind::Guard,
            Self::Subscribe | Self::Finish | Self::Abandon => Kind::Pending,
            Self::Ready | Self::PollableDrop => Kind::Pollable,
            _ => Kind::Lock,
        }
    }

    /// The kind of handle that the answer is.
    pub fn makes(self) -> Option<Kind> {
        match self {
            Self::Open => Some(Kind::Lock),
            Self::Start => Some(Kind::Pending),
            Self::Finish | Self::AcquireAsync => Some(Kind::Guard),
            Self::Subscribe | Self::Lost => Some(Kind::Pollable),
            _ => None,
        }
    }
}

/// The kinds of handles.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// `lock-file`
    Lock,
    /// `guard`
    Guard,
    /// `pending`
    Pending,
    /// `pollable`
    Pollable,
}

/// A wait without a timeout.
pub const INDEFINITELY: [u32; 2] = [0, 0];
/// A single try.
pub const ONE_TRY: [u32; 2] = [1, 0];
/// The exclusive mode.
pub const EXCLUSIVE: u32 = 0;
/// The shared mode.
pub const SHARED: u32 = 1;
/// For [`Call::Open`]: the protocol that the host chooses, and a lock file that stays.
pub const DEFAULT: [u32; 4] = [0, 0, 0, 0];
