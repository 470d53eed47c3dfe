"""Locks for asyncio. While a task waits for a lock, other tasks run::

    async with locket.aio.lock_file("/jobs/app.lock", timeout=30):
        ...

A WASI 0.2 component imports ``locket:lock/poll@0.1.0`` and
``wasi:clocks/monotonic-clock@0.2.12``, and runs its tasks on the :class:`EventLoop` of this
package::

    asyncio.run(main(), loop_factory=locket.aio.EventLoop)

A WASI 0.3 component imports ``locket:lock/api-async@0.1.0``, and uses the loop of componentize-py.
"""

from ._lock import Lock, lock_file

__all__ = ["Lock", "lock_file"]

try:
    from ._poll import EventLoop
except ImportError:
    # In WASI 0.3, componentize-py provides the loop.
    pass
else:
    __all__.append("EventLoop")
