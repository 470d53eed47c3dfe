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
    said,
)

try:
    from wit_world.imports import locket_admin as admin
except ImportError:
    # Whoever breaks no locks need not ask for the right to.
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
    """What the classes of pylockfile have in common."""

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
        """Acquires the lock, or does nothing where this component has it already: there is no
        counter, and one ``release`` is enough.

        Waits for ``timeout`` seconds, by default for those given to the constructor, and for ever
        if there are none. Raises :exc:`LockTimeout` if they run out, :exc:`AlreadyLocked` at once
        where they are 0 or less and the lock is held, and :exc:`LockFailed` where it is not to be
        had at all. A :exc:`ValueError` is a timeout that is not a number or too long.
        """
        if not self._is_mine():
            self._wait(self.timeout if timeout is None else timeout)

    def break_lock(self) -> None:
        """Takes the lock away from whoever holds it.

        That takes the import of ``locket:lock/admin`` and a host that grants the right to break.
        Raises :exc:`UnlockError` without them, and where a process of the system holds the lock in
        a way that only the kernel could take back.
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
        """Whether this component holds the lock already, in the mode that is asked for or a
        stronger one."""
        if not self.i_am_locking():
            return False
        holder = self._ask(self._handle().holder)
        return self.shared or holder is None or holder.mode is not api.Mode.SHARED

    def _exception(self, code: str, message: str) -> Exception:
        return _ERRORS.get(code, LockFailed)(message)


class LockFile(LockBase):
    """A lock in the protocol that the host chooses, normally that of the kernel, on the file at
    ``path`` itself::

        lock = locket.LockFile("/jobs/app.lock")
        lock.acquire(timeout=30)
        try:
            ...
        finally:
            lock.release()

    It is not the lock of pylockfile's ``LockFile`` outside of components, which is that of
    :class:`LinkLockFile`.
    """


FileLock = LockFile


class LinkLockFile(LockBase):
    """A hard link named ``path`` with ``.lock``; shared with pylockfile outside of components."""

    _protocol = "link"


class SymlinkLockFile(LockBase):
    """A symbolic link named ``path`` with ``.lock``; shared with pylockfile outside of
    components."""

    _protocol = "symlink"


class MkdirLockFile(LockBase):
    """A directory named ``path`` with ``.lock``; shared with pylockfile outside of components."""

    _protocol = "mkdir"


class PIDLockFile(LockBase):
    """A file at ``path`` with the process identifier of the host in it; shared with pylockfile
    outside of components.

    As there, no timeout means not to wait, and to acquire it twice is :exc:`AlreadyLocked`.
    """

    _protocol = "pid-file"

    def __init__(
        self, path: StrPath, threaded: bool = False, timeout: float | None = None
    ) -> None:
        super().__init__(path, threaded, timeout)

    def acquire(self, timeout: float | None = None) -> None:
        """Acquires the lock as :meth:`LockFile.acquire` does, but without waiting if there is no
        timeout."""
        timeout = self.timeout if timeout is None else timeout
        self._wait(0 if timeout is None else timeout)


class SQLiteLockFile(LockBase):
    """A row in the database that the host names for such locks."""

    _protocol = "sqlite"


# The older names, under which pylockfile still has them.
LinkFileLock = LinkLockFile
MkdirFileLock = MkdirLockFile
SQLiteFileLock = SQLiteLockFile


def locked(
    path: StrPath, timeout: float | None = None, *, shared: bool = False
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorates a function that is to hold a lock whenever it runs::

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
