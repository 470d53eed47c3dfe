"""Record locks: those of ``fcntl`` and ``lockf``, whose owner is the component.

The host converts, splits and merges ranges as POSIX has it.
"""

import os

from ._base import api, ask
from ._open_files import OpenFile, before_close

try:
    from wit_world.imports import locket_ranges as ranges
except ImportError as error:
    raise ImportError(
        "this component cannot lock ranges: its world must `import locket:lock/ranges@0.1.0`"
    ) from error

_files: dict[tuple[int, int], ranges.RangeFile] = {}
"""The files in which the component has locked something, by device and inode."""


def _identity(fd: int) -> tuple[int, int]:
    stat = os.fstat(fd)
    return stat.st_dev, stat.st_ino


def _ranges(file: OpenFile) -> ranges.RangeFile:
    identity = _identity(file.fd)
    found = _files.get(identity)
    if found is None:
        # Before, because opening creates the file if it is missing. Afterwards, because it may have
        # been replaced; once it is open it stays the same.
        if not file.has_its_path():
            raise file.error("no-entry")
        found = ask(file.error, ranges.RangeFile.open, file.path)
        if not file.has_its_path():
            raise file.error("no-entry")
        _files[identity] = found
    return found


def lock(file: OpenFile, mode: api.Mode, span: ranges.Range, waits: bool) -> None:
    """Locks a range, as ``F_SETLKW`` does, or ``F_SETLK``."""
    ask(file.error, _ranges(file).lock, mode, span, None if waits else 0)


def unlock(file: OpenFile, span: ranges.Range) -> None:
    """Unlocks a range, as ``F_UNLCK`` does."""
    if found := _files.get(_identity(file.fd)):
        ask(file.error, found.unlock, span)


def query(file: OpenFile, mode: api.Mode, span: ranges.Range) -> ranges.Conflict | None:
    """What excludes a lock of a range, as ``F_GETLK`` tells."""
    return ask(file.error, _ranges(file).query, mode, span)


@before_close
def _closing(fd: int) -> None:
    """POSIX: a process loses all its record locks of a file when it closes any descriptor of it."""
    if not _files:
        return
    try:
        found = _files.pop(_identity(fd), None)
    except OSError:
        return
    if found is not None:
        found.__exit__(None, None, None)
