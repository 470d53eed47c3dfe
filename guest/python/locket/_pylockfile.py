"""Locks as in pylockfile."""

import functools
from typing import Callable, ParamSpec, TypeVar

from ._base import Base, StrPath, api
from ._errors import (
    AlreadyLocked,
    LockFailed,
    LockTimeout,
    NotLocked,
    NotMyLock,
    UnlockError,
    lock_error,
    said,
)

try:
    from wit_world.imports import locket_admin as admin
except ImportError:
    # A component that breaks no locks need not import this interface.
    admin = None

P = ParamSpec("P")
R = TypeVar("R")

_ERRORS = {
    "would-block": AlreadyLocked,
    "deadlock": AlreadyLocked,
    "timeout": LockTimeout,
    "canceled": LockTimeout,
    "not-locked": NotLocked,
    "lost": NotLocked,
    "not-owner": NotMyLock,
}


class LockBase(Base):
    """The common base of the classes of pylockfile."""

    def __init__(
        self,
        path: StrPath,
        threaded: bool = True,
        timeout: float | None = None,
        *,
        shared: bool = False,
    ) -> None:
        super().__init__(path, timeout, shared)

    def acquire(self, timeout: float | None = None) -> None:
        """Acquires the lock, or does nothing if this component already holds it. Acquires are not
        counted, so one ``release`` is enough.

        Waits for at most ``timeout`` seconds. The default is the timeout of the constructor. If
        that is None too, waits indefinitely. Raises :exc:`LockTimeout` if the timeout runs out,
        :exc:`AlreadyLocked` immediately if the timeout is 0 or less and the lock is held, and
        :exc:`LockFailed` if the lock cannot be acquired at all. Raises :exc:`ValueError` for a
        timeout that is NaN or too long.
        """
        if not self._is_mine():
            self._wait(self.timeout if timeout is None else timeout)

    def break_lock(self) -> None:
        """Breaks the lock: takes it away from its holder.

        Requires the import of ``locket:lock/admin``, and a host that grants the right to break.
        Raises :exc:`UnlockError` without them, or if a native process holds a kernel lock, which
        cannot be broken.
        """
        if admin is None:
            raise UnlockError(
                f"this component cannot break lock {self.path!r}: "
                "its world does not `import locket:lock/admin@0.1.0`"
            )
        try:
            self._ask(admin.break_lock, self._path())
        except NotLocked:
            pass
        except LockFailed as error:
            raise said(UnlockError(*error.args), error.code, error.reason) from None

    def _is_mine(self) -> bool:
        """Whether this component already holds the lock in the requested mode or a stronger one."""
        if not self.i_am_locking():
            return False
        holder = self._ask(self._handle().holder)
        return self.shared or holder is None or holder.mode is not api.Mode.SHARED

    def _error(self, code: str, reason: str | None = None) -> Exception:
        return lock_error(_ERRORS.get(code, LockFailed), code, reason, self.path)


class LockFile(LockBase):
    """A lock with the protocol that the host chooses, normally a kernel lock, on the file at
    ``path`` itself::

        lock = locket.LockFile("/jobs/app.lock")
        lock.acquire(timeout=30)
        try:
            ...
        finally:
            lock.release()

    It does not exclude pylockfile's ``LockFile`` outside components, which is a
    :class:`LinkLockFile`.
    """


FileLock = LockFile


class LinkLockFile(LockBase):
    """A hard link at ``path`` plus ``.lock``, shared with pylockfile outside components."""

    _protocol = "link"


class SymlinkLockFile(LockBase):
    """A symbolic link at ``path`` plus ``.lock``, shared with pylockfile outside components."""

    _protocol = "symlink"


class MkdirLockFile(LockBase):
    """A directory at ``path`` plus ``.lock``, shared with pylockfile outside components."""

    _protocol = "mkdir"


class PIDLockFile(LockBase):
    """A file at ``path`` that contains the process identifier of the host, shared with pylockfile
    outside components.

    As in pylockfile, it does not wait without a timeout, and acquiring it twice raises
    :exc:`AlreadyLocked`.
    """

    _protocol = "pid-file"

    def __init__(
        self, path: StrPath, threaded: bool = False, timeout: float | None = None
    ) -> None:
        super().__init__(path, threaded, timeout)

    def acquire(self, timeout: float | None = None) -> None:
        """Like :meth:`LockFile.acquire`, but does not wait if no timeout is set."""
        timeout = self.timeout if timeout is None else timeout
        self._wait(0 if timeout is None else timeout)


class SQLiteLockFile(LockBase):
    """A row in a database that the host names."""

    _protocol = "sqlite"


# Older names, which pylockfile still provides.
LinkFileLock = LinkLockFile
MkdirFileLock = MkdirLockFile
SQLiteFileLock = SQLiteLockFile


def locked(
    path: StrPath, timeout: float | None = None, *, shared: bool = False
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Makes a function hold a lock whenever it runs::

        @locket.locked("/jobs/app.lock", timeout=30)
        def job(): ...
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
            with LockFile(path, timeout=timeout, shared=shared):
                return function(*args, **kwargs)

        return wrapper

    return decorate
