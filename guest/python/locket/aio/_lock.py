"""The lock of a file, for tasks."""

from componentize_py_types import Err

from .._base import StrPath, api, code_and_reason, to_millis
from .._lock_file import Lock as BlockingLock

try:
    from ._tasks import wait
except ImportError:
    try:
        from ._poll import wait
    except ImportError as error:
        raise ImportError(
            "this component cannot wait for locks in tasks: its world must import "
            "`locket:lock/poll@0.1.0` and `wasi:clocks/monotonic-clock@0.2.12`, "
            "or `locket:lock/api-async@0.1.0`"
        ) from error


class Lock(BlockingLock):
    """The lock of one file, as :func:`lock_file` returns it.

    ``timeout`` and ``shared`` can be changed before an acquire.
    """

    def __init__(
        self,
        path: StrPath,
        timeout: float | None,
        shared: bool,
        protocol: str | None,
        remove: bool,
    ) -> None:
        super().__init__(path, timeout, shared, protocol, remove)
        self._guards: list[api.Guard] = []

    async def acquire(self) -> api.Grant:  # type: ignore[override]
        """Acquires the lock: immediately if it is free, otherwise waits for at most ``timeout``,
        while other tasks run. A task that is canceled during the wait does not hold the lock.

        Returns the grant: ``token``, the fencing token, and ``valid_for``, in milliseconds. Each is
        None if the lock does not provide it.
        """
        try:
            guard = await wait(self._handle(), self._mode(), to_millis(self.timeout))
        except Err as err:
            # See `Base._ask`.
            failed = err.with_traceback(None).value
        else:
            self._guards.append(guard)
            return guard.grant()
        raise self._error(*code_and_reason(failed))

    def release(self) -> None:
        """Releases the lock. It does not wait."""
        if self._guards:
            self._ask(api.Guard.release, self._guards.pop())
        else:
            super().release()

    def __enter__(self) -> "Lock":
        raise TypeError(f"lock {self.path!r} requires `async with`")

    async def __aenter__(self) -> "Lock":
        await self.acquire()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.release()


def lock_file(
    path: StrPath,
    timeout: float | None = None,
    *,
    shared: bool = False,
    protocol: str | None = None,
    remove: bool = False,
) -> Lock:
    """The lock of the file at ``path``, for use in ``async with``, or with ``await acquire()`` and
    ``release()``. Everything else is the same as in :func:`locket.lock_file`."""
    return Lock(path, timeout, shared, protocol, remove)
