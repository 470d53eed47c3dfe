"""Locks as in locket.py."""

import errno

from ._base import Base, StrPath, api
from ._errors import IO_NUMBERS, AlreadyLocked, LockError, LockTimeout, lock_error, os_error

_LOCK_ERRORS = {
    "would-block": AlreadyLocked,
    "deadlock": AlreadyLocked,
    "timeout": LockTimeout,
    "canceled": LockTimeout,
    "not-locked": LockError,
    "not-owner": LockError,
    "lost": LockError,
}

_NUMBERS = IO_NUMBERS | {
    "access-denied": errno.EACCES,
    "no-entry": errno.ENOENT,
    "invalid-path": errno.EINVAL,
    "limit-exceeded": errno.EMFILE,
    "not-supported": errno.ENOTSUP,
    "unavailable": errno.ENOTCONN,
}


class Lock(Base):
    """The lock of one file, as :func:`lock_file` returns it.

    ``timeout`` and ``shared`` can be changed before an acquire.
    """

    def acquire(self) -> api.Grant:
        """Acquires the lock: immediately if it is free, otherwise waits for at most ``timeout``.

        Returns the grant: ``token``, the fencing token, and ``valid_for``, in milliseconds. Each is
        None if the lock does not provide it.
        """
        return self._wait(self.timeout)

    def _error(self, code: str, reason: str | None = None) -> Exception:
        if kind := _LOCK_ERRORS.get(code):
            return lock_error(kind, code, reason, self.path)
        # As in locket.py, a LockError is about the lock, and an OSError about the file.
        return os_error(_NUMBERS, code, reason, self.path)


def lock_file(
    path: StrPath,
    timeout: float | None = None,
    retry_period: float | None = None,
    *,
    shared: bool = False,
    protocol: str | None = None,
    remove: bool = False,
) -> Lock:
    """The lock of the file at ``path``, for use in ``with``, or with ``acquire`` and ``release``::

        with locket.lock_file("/jobs/app.lock", timeout=30):
            ...

    It waits for at most ``timeout`` seconds, indefinitely if that is None, and tries once if it is
    0 or less. A ``shared`` lock can have any number of shared holders at a time, but excludes
    exclusive ones. ``protocol`` names the locking mechanism, such as ``"flock"``; by default, the
    host chooses. The lock file stays, unless ``remove`` is set.

    Raises :exc:`LockError` if the lock could not be acquired in time, and :exc:`OSError` if the
    cause is the file: ``FileNotFoundError`` for a missing directory, ``PermissionError`` for a path
    that the host does not grant. Raises :exc:`ValueError` for a timeout that is NaN or too long.

    ``retry_period`` has no effect: the host waits without polling.
    """
    return Lock(path, timeout, shared, protocol, remove)
