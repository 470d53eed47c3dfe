"""Waiting in WASI 0.3: an async function of the host, in the event loop of componentize-py."""

import asyncio

from wit_world.imports import locket_api_async

from .._base import api


async def wait(lock: api.LockFile, mode: api.Mode, timeout: int | None) -> api.Guard:
    """Acquires a lock.

    componentize-py has no way to cancel a call of the host, and a task that is gone when the answer
    comes is a trap. So a cancellation takes effect only then, and what was granted is released.
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
        # See `Base._ask`: it would keep the lock alive.
        error.with_traceback(None)
    else:
        with call.result():
            pass
    raise asyncio.CancelledError
