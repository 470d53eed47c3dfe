"""Locks as in locket.py."""

import errno

from ._base import Base, StrPath, api
from ._errors import AlreadyLocked, LockError, LockTimeout

_LOCK_ERRORS = {
    "would-block": AlreadyLocked,
    "deadlock": AlreadyLocked,
    "timeout": LockTimeout,
    "canceled": LockTimeout,
    "not-locked": LockError,
    "not-owner": LockError,
    "lost": LockError,
}

_NUMBERS = {
    "access-denied": errno.EACCES,
    "no-entry": errno.ENOENT,
    "invalid-path": errno.EINVAL,
    "limit-exceeded": errno.EMFILE,
    "not-supported": errno.ENOTSUP,
    "unavailable": errno.ENOTCONN,
}


class Lock(Base):
    """The lock of one file, as :func:`lock_file` returns it.

    ``timeout`` and ``shared`` can be set anew before an acquire.
    """

    def acquire(self) -> api.Grant:
        """Acquires the lock: at once if it is free, otherwise waits for at most ``timeout``.

        Returns what was granted: ``token``, the fencing token, and ``valid_for``, in milliseconds;
        both are None where the lock has no such thing.
        """
        return self._wait(self.timeout)

    def _exception(self, code: str, message: str) -> Exception:
        if lock_error := _LOCK_ERRORS.get(code):
            return lock_error(message)
        # As in locket.py, a LockError tells of the lock, and an OSError of the file.
        return OSError(_NUMBERS.get(code, errno.EIO), message)


def lock_file(
    path: StrPath,
    timeout: float | None = None,
    retry_period: float | None = None,
    *,
    shared: bool = False,
    protocol: str | None = None,
    remove: bool = False,
) -> Lock:
    """The lock of the file at ``path``, to be used in ``with``, or with ``acquire`` and
    ``release``::

        with locket.lock_file("/jobs/app.lock", timeout=30):
            ...

    It waits for ``timeout`` seconds, for ever if that is None, and tries once if it is 0 or less.
    A ``shared`` lock has any number of holders at a time, but excludes those that are not shared.
    ``protocol`` says how the lock is kept, such as ``"flock"``; without one the host chooses. The
    lock file stays, unless ``remove`` is set.

    Raises :exc:`LockError` where the lock is not to be had in time, and :exc:`OSError` where the
    file is at fault: ``FileNotFoundError`` for a missing directory, ``PermissionError`` for a path
    that the host does not grant. A :exc:`ValueError` is a timeout that is not a number or too long.

    ``retry_period`` means nothing: the host waits without polling.
    """
    return Lock(path, timeout, shared, protocol, remove)
