"""The test guest in Python: the world `polyglot` by means of the package `locket`."""

import locket
import wit_world
from wit_world.imports import counter

PROTOCOLS = "native flock fcntl link symlink mkdir pid-file soft sqlite".split()

locks: dict[str, locket.Lock] = {}


class WitWorld(wit_world.WitWorld):
    def run(self, command: str) -> str:
        verb, _, rest = command.partition(" ")
        if verb == "trap":
            raise RuntimeError("told to")
        try:
            name, *words = rest.split(" ")
            if verb != "open" and name not in locks:
                return "err closed"
            result = globals()[verb.replace("-", "_")](name, *words)
        except Exception as error:
            code = getattr(error, "code", None) or f"other {error}"
            return " ".join(filter(None, ["err", code, getattr(error, "reason", None)]))
        return "ok" if result is None else f"ok {result}"


def open(name: str, *words: str) -> None:
    *path, last = words
    protocol = last if path and last in PROTOCOLS else None
    lock = locket.lock_file(" ".join(path if protocol else words), protocol=protocol)
    lock.lost()  # which opens it
    locks[name] = lock


def acquire(name: str, mode: str, timeout: str) -> None:
    lock = locks[name]
    lock.shared = mode == "shared"
    lock.timeout = seconds(timeout)
    lock.acquire()


def release(name: str) -> None:
    locks[name].release()


def is_locked(name: str) -> str:
    return str(locks[name].is_locked()).lower()


def state(name: str) -> str:
    lock = locks[name]
    if reason := lock.lost():
        return f"lost {reason}"
    return "held" if lock.i_am_locking() else "unlocked"


def drop(name: str) -> None:
    del locks[name]


def scoped(name: str, timeout: str) -> str:
    lock = locks[name]
    lock.shared, lock.timeout = False, seconds(timeout)
    try:
        with lock:
            raise RuntimeError("inside")
    except RuntimeError as error:
        return str(error)


def count(name: str, times: str) -> None:
    lock = locks[name]
    lock.shared, lock.timeout = False, None
    for _ in range(int(times)):
        with lock:
            counter.write(counter.read() + 1)


def break_lock(name: str) -> None:
    """Not a command of the world, but see tests/python.rs."""
    locket.LockFile(locks[name].path).break_lock()


def seconds(timeout: str) -> float | None:
    if timeout == "none":
        return None
    # Less than nothing is one try in Python; not so in the commands.
    if not timeout.isdecimal():
        raise ValueError(f"{timeout!r} is no time")
    return int(timeout) / 1000
