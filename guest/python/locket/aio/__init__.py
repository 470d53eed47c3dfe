"""Locks for asyncio: while a task waits for one, the others go on::

    async with locket.aio.lock_file("/jobs/app.lock", timeout=30):
        ...

A component of WASI 0.2 imports ``locket:lock/poll@0.1.0`` and
``wasi:clocks/monotonic-clock@0.2.12``, and runs its tasks on the :class:`EventLoop` of this
package::

    asyncio.run(main(), loop_factory=locket.aio.EventLoop)

One of WASI 0.3 imports ``locket:lock/api-async@0.1.0``, and has its loop from componentize-py.
"""

from ._lock import Lock, lock_file

__all__ = ["Lock", "lock_file"]

try:
    from ._poll import EventLoop
except ImportError:
    # There is another loop in WASI 0.3.
    pass
else:
    __all__.append("EventLoop")
