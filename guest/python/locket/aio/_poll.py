"""Waiting in WASI 0.2: an event loop whose tasks wait for locks and time in one ``poll``."""

import asyncio
import math
from collections.abc import Iterable

from componentize_py_types import Err
from wit_world.imports import locket_poll, monotonic_clock, wasi_io_poll

from .._base import api

_NANOSECONDS = 1_000_000_000


async def wait(lock: api.LockFile, mode: api.Mode, timeout: int | None) -> api.Guard:
    """Acquires a lock. Canceling the wait removes it from the queue."""
    loop = asyncio.get_running_loop()
    if not isinstance(loop, EventLoop):
        raise RuntimeError("locks can be awaited only in `locket.aio.EventLoop`")
    with locket_poll.start(lock, mode, timeout) as pending:
        while (answer := pending.finish()) is None:
            await loop.ready(pending.subscribe())
    if isinstance(answer, Err):
        raise answer
    return answer.value


class EventLoop(asyncio.BaseEventLoop):
    """The loop for WASI 0.2 components. It waits for locks, timers, and anything else that has a
    pollable. It does not support threads, sockets or signals."""

    def __init__(self) -> None:
        super().__init__()
        self._selector = _Selector()

    async def ready(self, pollable: wasi_io_poll.Pollable) -> None:
        """Waits until a pollable is ready, and drops it."""
        waker = self.create_future()
        self._selector.waiting[waker] = pollable
        try:
            await waker
        finally:
            with self._selector.waiting.pop(waker):
                pass

    def _process_events(self, ready: Iterable["asyncio.Future[None]"]) -> None:
        for waker in ready:
            if not waker.done():
                waker.set_result(None)


class _Selector:
    """Replaces `select` in the loop."""

    def __init__(self) -> None:
        self.waiting: dict[asyncio.Future[None], wasi_io_poll.Pollable] = {}

    def select(self, timeout: float | None) -> list["asyncio.Future[None]"]:
        """The wakers of ready pollables. If none is ready, waits for at most ``timeout`` seconds."""
        wakers, pollables = list(self.waiting), list(self.waiting.values())
        if timeout is None:
            if not pollables:
                raise RuntimeError("deadlock: every task waits for another task")
            return [wakers[index] for index in wasi_io_poll.poll(pollables)]
        nanoseconds = max(0, math.ceil(timeout * _NANOSECONDS))
        with monotonic_clock.subscribe_duration(nanoseconds) as timer:
            ready = wasi_io_poll.poll([*pollables, timer])
        return [wakers[index] for index in ready if index < len(wakers)]
