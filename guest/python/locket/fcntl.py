"""The locks of Python's module ``fcntl``, which componentize-py's Python lacks::

    import locket.fcntl

    with open("/jobs/app.lock", "a") as file:
        locket.fcntl.flock(file, locket.fcntl.LOCK_EX)

For programs that ``import fcntl``, call :func:`install` before they are imported. A file can be locked
if it was opened by ``open`` or ``os.open`` after this module was imported.

The numbers are those of WASI's C library. Its ``struct flock`` is ``"hhqqi4x"`` for :mod:`struct`:
``l_type``, ``l_whence``, ``l_start``, ``l_len``, ``l_pid``.
"""

import contextlib
import errno
import os
import struct
import sys
from collections.abc import Buffer
from typing import Protocol

from . import _records
from ._base import api, ask
from ._errors import numbered
from ._open_files import OpenFile, find
from ._records import ranges

LOCK_SH, LOCK_EX, LOCK_NB, LOCK_UN = 1, 2, 4, 8
F_GETFD, F_SETFD, F_GETFL, F_SETFL = 1, 2, 3, 4
F_GETLK, F_SETLK, F_SETLKW = 7, 8, 9
F_RDLCK, F_WRLCK, F_UNLCK = 0, 1, 2
FD_CLOEXEC = 1

__all__ = [name for name in globals() if name.isupper()] + ["fcntl", "flock", "install", "lockf"]

_MODES = {F_RDLCK: api.Mode.SHARED, F_WRLCK: api.Mode.EXCLUSIVE}
_NEEDED = {F_RDLCK: os.O_RDONLY, F_WRLCK: os.O_WRONLY, F_UNLCK: 0}
_LAST = 2**63 - 1


class HasFileno(Protocol):
    """A file."""

    def fileno(self) -> int:
        """Its descriptor."""


def install() -> None:
    """Makes this module the one that ``import fcntl`` finds. Call it while the component is built,
    which is whenever a module is imported, and before whatever imports ``fcntl``."""
    sys.modules["fcntl"] = sys.modules[__name__]


def flock(fd: int | HasFileno, operation: int, /) -> None:
    """Locks a file, or unlocks it, as ``flock(2)``: for this descriptor."""
    file = _file(fd, errno.EOPNOTSUPP)
    kind = operation & ~LOCK_NB
    if kind == LOCK_UN:
        _unlock(file)
        return
    mode = {LOCK_SH: api.Mode.SHARED, LOCK_EX: api.Mode.EXCLUSIVE}.get(kind)
    if mode is None:
        raise _invalid(f"operation {operation}")
    _check_path(file)
    # The host may have revoked the lock.
    if file.mode is mode and isinstance(file.lock.state(), api.State_Held):
        return
    # Linux, too, releases a lock before it converts it, and may then fail to acquire it again.
    _unlock(file)
    if file.lock is None:
        options = api.Options(api.Protocol.FLOCK, api.OnRelease.KEEP)
        file.lock = ask(file.error, api.LockFile.open_with, file.path, options)
    ask(file.error, file.lock.acquire, mode, 0 if operation & LOCK_NB else None)
    file.mode = mode
    # Another program may have replaced the file during the wait.
    _check_path(file)


def _check_path(file: OpenFile) -> None:
    """Unlocks a file that its path does not lead to any more, and raises the error."""
    if not file.has_its_path():
        with contextlib.suppress(OSError):
            _unlock(file)
        raise file.error("no-entry")


def _unlock(file: OpenFile) -> None:
    if file.mode is not None:
        file.mode = None
        ask(file.error, file.lock.release)


def lockf(
    fd: int | HasFileno, cmd: int, length: int = 0, start: int = 0, whence: int = 0, /
) -> None:
    """Locks bytes of a file, or unlocks them, for this component. ``cmd`` is that of :func:`flock`."""
    types = {LOCK_SH: F_RDLCK, LOCK_EX: F_WRLCK, LOCK_UN: F_UNLCK}
    kind = types.get(cmd & ~LOCK_NB)
    if kind is None:
        raise ValueError("unrecognized lockf argument")
    _set(_file(fd, errno.EINVAL), kind, whence, start, length, waits=not cmd & LOCK_NB)


def fcntl(fd: int | HasFileno, cmd: int, arg: int | Buffer = 0, /) -> int | bytes:
    """Does what ``cmd`` says: ``F_GETLK``, ``F_SETLK`` and ``F_SETLKW`` with the bytes of a
    ``struct flock``, or ``F_GETFD``, ``F_SETFD`` and ``F_GETFL``."""
    file = _file(fd, errno.EINVAL)
    if cmd in (F_GETLK, F_SETLK, F_SETLKW):
        if isinstance(arg, int):
            raise numbered(errno.EFAULT, "the argument is not a struct flock", file.path)
        return _record(file, cmd, bytearray(arg))
    # In WASI there is no other program to which a descriptor could pass.
    if cmd == F_GETFD:
        return FD_CLOEXEC
    if cmd == F_SETFD:
        return 0
    if cmd == F_GETFL:
        return file.flags & (os.O_RDWR | os.O_APPEND | os.O_NONBLOCK)
    raise _invalid(f"command {cmd}")


def _record(file: OpenFile, cmd: int, lock: bytearray) -> bytes:
    # On WASI's 32 bits, "hhllhh" of Python's documentation is 16 bytes, and no struct flock.
    layout, pid_at = ("hhll", 12) if len(lock) == 16 else ("hhqq", 24)
    kind, whence, start, length = struct.unpack_from(layout, lock)
    if cmd != F_GETLK:
        _set(file, kind, whence, start, length, waits=cmd == F_SETLKW)
        return bytes(lock)
    if kind not in _MODES:
        raise _invalid(f"l_type {kind}")
    conflict = _records.query(file, _MODES[kind], _span(file, whence, start, length))
    if conflict is None:
        struct.pack_into("h", lock, 0, F_UNLCK)
        return bytes(lock)
    kind = F_WRLCK if conflict.mode is api.Mode.EXCLUSIVE else F_RDLCK
    held = conflict.range
    try:
        struct.pack_into(layout, lock, 0, kind, os.SEEK_SET, held.start, held.length)
    except struct.error:
        raise _too_large(file) from None
    # The process stays unsaid.
    lock[pid_at : pid_at + 4] = struct.pack("i", -1)[: len(lock) - pid_at]
    return bytes(lock)


def _set(file: OpenFile, kind: int, whence: int, start: int, length: int, waits: bool) -> None:
    if kind not in _NEEDED:
        raise _invalid(f"l_type {kind}")
    span = _span(file, whence, start, length)
    if file.flags & _NEEDED[kind] != _NEEDED[kind]:
        how = "reading" if kind == F_RDLCK else "writing"
        raise numbered(errno.EBADF, f"the file is not open for {how}", file.path)
    if kind == F_UNLCK:
        _records.unlock(file, span)
    else:
        _records.lock(file, _MODES[kind], span, waits)


def _span(file: OpenFile, whence: int, start: int, length: int) -> ranges.Range:
    """Bytes that a ``struct flock`` names."""
    if whence == os.SEEK_CUR:
        start += os.lseek(file.fd, 0, os.SEEK_CUR)
    elif whence == os.SEEK_END:
        start += os.fstat(file.fd).st_size
    elif whence != os.SEEK_SET:
        raise _invalid(f"l_whence {whence}")
    if length < 0:
        start, length = start + length, -length
    if start < 0:
        raise _invalid("a range that begins before the file")
    if start + max(length - 1, 0) > _LAST:
        raise _too_large(file)
    return ranges.Range(start, length)


def _file(fd: int | HasFileno, unlockable: int) -> OpenFile:
    """The file of a descriptor. ``unlockable`` is the number for what cannot be locked."""
    number = fd
    if not isinstance(fd, int):
        if not hasattr(fd, "fileno"):
            raise TypeError("argument must be an int, or have a fileno() method.")
        number = fd.fileno()
    if number < 0:
        raise ValueError(f"file descriptor cannot be a negative integer ({number})")
    file = find(number)
    if file is None:
        # If it is not open, this says so.
        os.fstat(number)
        raise numbered(
            unlockable,
            f"descriptor {number} is no file that `open` or `os.open` has opened "
            "since the import of locket.fcntl",
        )
    return file


def _invalid(what: str) -> OSError:
    return numbered(errno.EINVAL, f"{what} is not supported")


def _too_large(file: OpenFile) -> OSError:
    return numbered(errno.EOVERFLOW, "the range is too large", file.path)
