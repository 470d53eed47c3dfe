"""What goes wrong: the exceptions of pylockfile, of which locket.py's is one, and their texts."""

from typing import Any


class Error(Exception):
    """Base class of the exceptions of this package.

    Of those that stand for an error of the host, ``code`` is its name in ``locket:lock``, such as
    ``"would-block"``, and ``reason`` what came with it, such as ``"broken"``.
    """

    code: str | None = None
    reason: str | None = None


class LockError(Error):
    """The lock was not acquired."""


class LockTimeout(LockError):
    """The lock did not become free in time."""


class AlreadyLocked(LockError):
    """The lock is held, and there was no time to wait."""


class LockFailed(LockError):
    """The lock cannot be acquired, however long one waits."""


class UnlockError(Error):
    """The lock was not released, or not broken."""


class NotLocked(UnlockError):
    """The lock to be released is not held, or not any more."""


class NotMyLock(UnlockError):
    """The lock to be released is held by somebody else."""


_TEXTS = {
    "would-block": "lock {path!r} is held by another",
    "timeout": "lock {path!r} did not become free in time",
    "not-locked": "lock {path!r} is held by nobody",
    "not-owner": "lock {path!r} is not ours to release",
    "deadlock": "waiting for lock {path!r} could never end",
    "access-denied": "access to lock {path!r} is denied",
    "no-entry": "lock {path!r} does not exist",
    "invalid-path": "{path!r} cannot be the path of a lock",
    "limit-exceeded": "lock {path!r} exceeds a quota of this guest",
    "not-supported": "lock {path!r} cannot be locked in this way",
    "unavailable": "the server of lock {path!r} cannot be reached",
    "lost": "lock {path!r} was lost ({reason})",
    "canceled": "the host withdrew the wait for lock {path!r}",
    "io": "lock {path!r} failed ({reason})",
    "other": "lock {path!r} failed ({reason})",
}


def text(code: str, reason: str | None, path: object) -> str:
    """One sentence that names the lock by the path it was opened with."""
    return _TEXTS[code].format(path=path, reason=reason or "no reason was given")


def said(error: Any, code: str | None, reason: str | None) -> Exception:
    """The exception, with the error of the host that it stands for."""
    error.code, error.reason = code, reason
    return error
