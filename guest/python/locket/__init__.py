"""File locks for WebAssembly components, shared with other components and native processes on the
host.

This package has the APIs of two libraries, so that code that uses them moves into a component by a
change of its imports. :func:`lock_file` is that of locket.py. Everything else is that of
pylockfile.
"""

from ._errors import (
    AlreadyLocked,
    Error,
    LockError,
    LockFailed,
    LockTimeout,
    NotLocked,
    NotMyLock,
    UnlockError,
)
from ._lock_file import Lock, lock_file
from ._pylockfile import (
    FileLock,
    LinkFileLock,
    LinkLockFile,
    LockBase,
    LockFile,
    MkdirFileLock,
    MkdirLockFile,
    PIDLockFile,
    SQLiteFileLock,
    SQLiteLockFile,
    SymlinkLockFile,
    locked,
)

__all__ = [
    "AlreadyLocked",
    "Error",
    "FileLock",
    "LinkFileLock",
    "LinkLockFile",
    "Lock",
    "LockBase",
    "LockError",
    "LockFailed",
    "LockFile",
    "LockTimeout",
    "MkdirFileLock",
    "MkdirLockFile",
    "NotLocked",
    "NotMyLock",
    "PIDLockFile",
    "SQLiteFileLock",
    "SQLiteLockFile",
    "SymlinkLockFile",
    "UnlockError",
    "lock_file",
    "locked",
]
