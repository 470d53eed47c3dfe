"""The exceptions and their texts. They are those of pylockfile and include the one of locket.py."""

import errno
from collections.abc import Mapping
from typing import Any


class Error(Exception):
    """Base class of the exceptions of this package.

    If the exception represents a host error, ``code`` is the name of that error in ``locket:lock``,
    such as ``"would-block"``, and ``reason`` its details, such as ``"broken"``.
    """

    code: str | None = None
    reason: str | None = None


class LockError(Error):
    """The lock was not acquired."""


class LockTimeout(LockError):
    """The lock did not become free in time."""


class AlreadyLocked(LockError):
    """The lock is held, and the call does not wait."""


class LockFailed(LockError):
    """The lock cannot be acquired, however long the call waits."""


class UnlockError(Error):
    """The lock was not released or not broken."""


class NotLocked(UnlockError):
    """The lock to release is not held, or is no longer held."""


class NotMyLock(UnlockError):
    """The lock to release is held by another owner."""


_TEXTS = {
    "would-block": "{lock} is held",
    "timeout": "{lock} did not become free in time",
    "not-locked": "{lock} is not held",
    "not-owner": "{lock} is not ours to release",
    "deadlock": "waiting for {lock} could never end",
    "access-denied": "access to {lock} is denied",
    "no-entry": "{lock} does not exist",
    "invalid-path": "{lock} cannot have this path",
    "limit-exceeded": "{lock} exceeds a quota of this guest",
    "not-supported": "the protocol or mode is not supported for {lock}",
    "unavailable": "the server of {lock} cannot be reached",
    "lost": "{lock} was lost ({reason})",
    "canceled": "the host canceled the wait for {lock}",
    "io": "{lock} failed ({reason})",
    "other": "{lock} failed ({reason})",
}

IO_NUMBERS = {
    "no-space": errno.ENOSPC,
    "quota": errno.EDQUOT,
    "read-only": errno.EROFS,
    "stale": errno.ESTALE,
    "too-many-files": errno.ENFILE,
    "too-many-locks": errno.ENOLCK,
    "other": errno.EIO,
}
"""The numbers of the reasons of the host error ``io``."""


def lock_error(
    kind: type[Exception], code: str, reason: str | None, path: object
) -> Exception:
    """A host error as an exception of this package."""
    return said(kind(_text(code, reason, f"lock {path!r}")), code, reason)


def os_error(
    numbers: Mapping[str, int], code: str, reason: str | None, path: object
) -> OSError:
    """A host error as one of the system, whose number is in ``numbers`` by its code, or for ``io``
    by its reason."""
    number = numbers.get(str(reason) if code == "io" else code, errno.EIO)
    return said(numbered(number, _text(code, reason, "the lock"), path), code, reason)


def numbered(number: int, message: str, path: object = None) -> OSError:
    """An error of the system. The message has the name of the number, since few know the numbers of
    WASI: there, 2 is not ENOENT."""
    message = f"{message} ({errno.errorcode[number]} in WASI)"
    return OSError(number, message) if path is None else OSError(number, message, path)


def _text(code: str, reason: str | None, lock: str) -> str:
    return _TEXTS[code].format(lock=lock, reason=reason or "no reason was given")


def said(error: Any, code: str | None, reason: str | None) -> Any:
    """Adds to an exception the host error that it represents."""
    error.code, error.reason = code, reason
    return error
