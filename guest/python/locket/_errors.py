"""The exceptions and their texts. They are those of pylockfile and include the one of locket.py."""

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
    "would-block": "lock {path!r} is held by another owner",
    "timeout": "lock {path!r} did not become free in time",
    "not-locked": "lock {path!r} is not held",
    "not-owner": "lock {path!r} is not ours to release",
    "deadlock": "waiting for lock {path!r} could never end",
    "access-denied": "access to lock {path!r} is denied",
    "no-entry": "lock {path!r} does not exist",
    "invalid-path": "{path!r} cannot be the path of a lock",
    "limit-exceeded": "lock {path!r} exceeds a quota of this guest",
    "not-supported": "the protocol or mode is not supported for lock {path!r}",
    "unavailable": "the server of lock {path!r} cannot be reached",
    "lost": "lock {path!r} was lost ({reason})",
    "canceled": "the host canceled the wait for lock {path!r}",
    "io": "lock {path!r} failed ({reason})",
    "other": "lock {path!r} failed ({reason})",
}


def text(code: str, reason: str | None, path: object) -> str:
    """One sentence that names the lock by the path it was opened with."""
    return _TEXTS[code].format(path=path, reason=reason or "no reason was given")


def said(error: Any, code: str | None, reason: str | None) -> Exception:
    """Adds to an exception the host error that it represents."""
    error.code, error.reason = code, reason
    return error
