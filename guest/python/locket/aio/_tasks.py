"""Waiting in WASI 0.3: an async host function, in the event loop of componentize-py."""

import asyncio

from wit_world.imports import locket_api_async

from .._base import api


async def wait(lock: api.LockFile, mode: api.Mode, timeout: int | None) -> api.Guard:
    """Acquires a lock.

    componentize-py cannot cancel a host call, and traps if the task no longer exists when the
    answer arrives. So a cancellation takes effect only when the answer arrives. If the lock was
    granted, it is then released.
    """
    call = asyncio.ensure_future(locket_api_async.acquire(lock, mode, timeout))
    canceled = False
    while not call.done():
        try:
            await asyncio.wait([call])
        except asyncio.CancelledError:
            canceled = True
    if not canceled:
        return call.result()
    if error := call.exception():
        # See `Base._ask`: the traceback would keep the lock alive.
        error.with_traceback(None)
    else:
        with call.result():
            pass
    raise asyncio.CancelledError
