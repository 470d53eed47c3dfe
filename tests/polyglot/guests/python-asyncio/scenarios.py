"""What the guests do in tasks: one thing for each command, and return what came of it.

| command | does | returns |
|---|---|---|
| ``join A B`` | awaits two locks at once | whether each is held |
| ``race PATH TIMEOUT SECONDS`` | awaits a lock and a time; cancels the lock if it loses | the winner, and whether the lock is held |
| ``handover PATH`` | one task acquires, another waits for it to release | the events in their order |
| ``cancel PATH TIMEOUT`` | begins to acquire, and cancels that | ``cancelled``, and whether the lock is held |
| ``impatient PATH SECONDS`` | awaits a lock within ``asyncio.timeout`` | ``TimeoutError``, and whether the lock is held |
| ``scoped PATH TIMEOUT`` | fails in ``async with`` | the error that arrived outside, and whether the lock is held |

A TIMEOUT is in seconds, or ``none``.
"""

import asyncio
from collections.abc import Awaitable, Callable

import locket.aio

Sleep = Callable[[float], Awaitable[None]]


async def run(command: str, sleep: Sleep) -> str:
    match command.split():
        case ["join", a, b]:
            return await join(locket.aio.lock_file(a), locket.aio.lock_file(b))
        case ["race", path, timeout, seconds]:
            return await race(lock(path, timeout), sleep(float(seconds)))
        case ["handover", path]:
            return await handover(path, sleep)
        case ["cancel", path, timeout]:
            return await cancel(lock(path, timeout))
        case ["impatient", path, seconds]:
            return await impatient(locket.aio.lock_file(path), float(seconds))
        case ["scoped", path, timeout]:
            return await scoped(lock(path, timeout))
    raise ValueError(command)


def lock(path: str, timeout: str) -> locket.aio.Lock:
    return locket.aio.lock_file(path, None if timeout == "none" else float(timeout))


async def join(*locks: locket.aio.Lock) -> str:
    await asyncio.gather(*(lock.acquire() for lock in locks))
    held = [str(lock.i_am_locking()) for lock in locks]
    for lock in locks:
        lock.release()
    return "held=" + ",".join(held)


async def race(lock: locket.aio.Lock, time: Awaitable[None]) -> str:
    acquired, rang = asyncio.ensure_future(lock.acquire()), asyncio.ensure_future(time)
    done, _ = await asyncio.wait([acquired, rang], return_when=asyncio.FIRST_COMPLETED)
    if rang in done:
        acquired.cancel()
    await asyncio.wait([acquired, rang])
    return f"{'timer' if acquired.cancelled() else 'lock'} held={lock.i_am_locking()}"


async def handover(path: str, sleep: Sleep) -> str:
    events = []

    async def first() -> None:
        async with locket.aio.lock_file(path):
            events.append("first-acquired")
            await sleep(0.05)
            events.append("first-releases")

    async def second() -> None:
        async with locket.aio.lock_file(path):
            events.append("second-acquired")

    await asyncio.gather(first(), second())
    return " ".join(events)


async def cancel(lock: locket.aio.Lock) -> str:
    acquired = asyncio.ensure_future(lock.acquire())
    # It begins.
    await asyncio.sleep(0)
    acquired.cancel()
    try:
        await acquired
    except asyncio.CancelledError:
        return f"cancelled held={lock.i_am_locking()}"
    return "acquired"


async def impatient(lock: locket.aio.Lock, seconds: float) -> str:
    try:
        async with asyncio.timeout(seconds), lock:
            return "acquired"
    except TimeoutError:
        return f"TimeoutError held={lock.i_am_locking()}"


async def scoped(lock: locket.aio.Lock) -> str:
    try:
        async with lock:
            raise KeyError("inside")
    except (KeyError, locket.LockError) as error:
        return f"{type(error).__name__} held={lock.i_am_locking()}"
