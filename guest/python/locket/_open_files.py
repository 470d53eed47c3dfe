"""Which file each descriptor of the component is.

A lock is opened by a path, and neither WASI nor Python tells the path of a descriptor. So this module
replaces the functions of Python that open and close files by others, which note it. A descriptor is an
open file description: WASI has no ``dup`` and no ``fork``.
"""

import _pyio
import builtins
import errno
import functools
import io
import os
import posix
from collections.abc import Callable
from types import FunctionType
from typing import Any

from ._base import StrPath, api
from ._errors import IO_NUMBERS, os_error

_NUMBERS = IO_NUMBERS | {
    "would-block": errno.EAGAIN,
    "deadlock": errno.EDEADLK,
    # Not EINTR, after which programs wait again: the host lets them wait no longer.
    "timeout": errno.ETIMEDOUT,
    "canceled": errno.ETIMEDOUT,
    # Not EACCES, by which `fcntl` says that another process holds the lock.
    "access-denied": errno.EPERM,
    "invalid-path": errno.EOPNOTSUPP,
    "no-entry": errno.ESTALE,
    "limit-exceeded": errno.ENOLCK,
    "not-supported": errno.ENOLCK,
    "unavailable": errno.ENOLCK,
    "lost": errno.ENOLCK,
}


class OpenFile:
    """What is known of a descriptor."""

    lock: api.LockFile | None = None
    """Opened by the first ``flock``."""

    mode: api.Mode | None = None
    """That of its ``flock``, while it has one."""

    def __init__(self, fd: int, path: str, flags: int) -> None:
        self.fd = fd
        self.path = path
        self.flags = flags

    def has_its_path(self) -> bool:
        """Whether the path by which the file was opened still leads to it."""
        try:
            named = os.stat(self.path)
        except OSError:
            return False
        return os.path.samestat(named, os.fstat(self.fd))

    def error(self, code: str, reason: str | None = None) -> OSError:
        """A host error as ``fcntl`` and ``flock`` raise it."""
        return os_error(_NUMBERS, code, reason, self.path)


_files: dict[int, OpenFile] = {}
_before_close: list[Callable[[int], object]] = []

_open, _close = posix.open, posix.close


def find(fd: int) -> OpenFile | None:
    """What is known of a descriptor."""
    return _files.get(fd)


def before_close(function: Callable[[int], object]) -> None:
    """Has a function called with each descriptor before it is closed."""
    _before_close.append(function)


def _opened(fd: int, path: StrPath, flags: int, folder: int | None = None) -> None:
    _forget(fd)
    name = os.fsdecode(path)
    if folder is not None and folder in _files:
        name = os.path.join(_files[folder].path, name)
    elif os.getcwd() != "/":
        # The host knows of no other working directory.
        name = os.path.join(os.getcwd(), name)
    _files[fd] = OpenFile(fd, name, flags)


def _closing(fd: int) -> None:
    for function in _before_close:
        function(fd)
    _forget(fd)


def _forget(fd: int) -> None:
    file = _files.pop(fd, None)
    if file is not None and file.lock is not None:
        file.lock.__exit__(None, None, None)


class FileIO(io.FileIO):
    """A file that notes its path, and when it is closed."""

    def __init__(
        self,
        file: StrPath | int,
        mode: str = "r",
        closefd: bool = True,
        opener: Callable[[Any, int], int] | None = None,
    ) -> None:
        super().__init__(file, mode, closefd, opener)
        # An opener calls `os.open`.
        if not isinstance(file, int) and opener is None:
            flags = self.readable() * os.O_RDONLY | self.writable() * os.O_WRONLY
            _opened(self.fileno(), file, flags | ("a" in mode) * os.O_APPEND)

    def close(self) -> None:
        if not self.closed and self.closefd:
            _closing(self.fileno())
        super().close()


# Python's `open` is in C, which knows no other `FileIO`, and in Python, for which that can be changed. A
# static method, because a function becomes a method of a class that has it as an attribute.
_classes = {
    "FileIO": FileIO,
    "BufferedRandom": io.BufferedRandom,
    "BufferedReader": io.BufferedReader,
    "BufferedWriter": io.BufferedWriter,
    "TextIOWrapper": io.TextIOWrapper,
    "text_encoding": io.text_encoding,
}
_in_python = _pyio.open.__func__
open = staticmethod(
    FunctionType(_in_python.__code__, vars(_pyio) | _classes, "open", _in_python.__defaults__)
)


@functools.wraps(_open)
def os_open(
    path: StrPath, flags: int, mode: int = 0o777, *, dir_fd: int | None = None
) -> int:
    fd = _open(path, flags, mode, dir_fd=dir_fd)
    _opened(fd, path, flags, dir_fd)
    return fd


@functools.wraps(_close)
def os_close(fd: int) -> None:
    _closing(fd)
    _close(fd)


@functools.wraps(os.closerange)
def os_closerange(fd_low: int, fd_high: int, /) -> None:
    for fd in range(fd_low, fd_high):
        try:
            os_close(fd)
        except OSError:
            pass


builtins.open = io.open = open
io.FileIO = FileIO
for module in os, posix:
    module.open, module.close, module.closerange = os_open, os_close, os_closerange
if _open in os.supports_dir_fd:
    os.supports_dir_fd.add(os_open)
