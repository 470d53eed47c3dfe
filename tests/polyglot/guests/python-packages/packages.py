"""The unmodified packages of Python that lock, told line by line what to do: `acquire PACKAGE`, `release
PACKAGE`, `count PACKAGE N`; `lock START LENGTH`, which locks bytes; `wait FUNCTION PACKAGE`, which calls a
function of `fcntl` on the lock of a package; and `relock`, which calls `flock` on one file again and
again. The same in a component and in a process, which has the folder as its argument."""

import errno
import fcntl
import os
import struct
import sys
import time

import fasteners
import filelock
import portalocker
import zc.lockfile

TURN = 0.001
"""How often those ask that do not wait, in seconds."""


class Fasteners:
    def __init__(self, path, waits):
        # It makes the folder of a lock if need be, for which it looks at the folder's parent; that of a
        # granted folder is not there.
        self.lock = fasteners.InterProcessLock(path)
        if not self.lock.acquire(blocking=waits, delay=TURN, max_delay=TURN):
            raise BlockingIOError
        self.release = self.lock.release


class Filelock:
    def __init__(self, path, waits):
        lock = filelock.FileLock(path, timeout=-1 if waits else 0)
        assert isinstance(lock, filelock.UnixFileLock), type(lock)
        lock.acquire(poll_interval=TURN)
        self.release = lock.release


class Portalocker:
    def __init__(self, path, waits):
        flags = portalocker.LockFlags.EXCLUSIVE
        if not waits:
            flags |= portalocker.LockFlags.NON_BLOCKING
        lock = portalocker.Lock(path, flags=flags, fail_when_locked=not waits)
        lock.acquire()
        self.release = lock.release


class ZcLockfile:
    def __init__(self, path, waits):
        while True:
            try:
                self.release = zc.lockfile.LockFile(path).close
                return
            except zc.lockfile.LockError:
                if not waits:
                    raise
            time.sleep(TURN)


PACKAGES = {
    "fasteners": Fasteners,
    "filelock": Filelock,
    "portalocker": Portalocker,
    "zc.lockfile": ZcLockfile,
}
HELD = (
    BlockingIOError,
    filelock.Timeout,
    portalocker.LockException,
    zc.lockfile.LockError,
)

held = {}


def run(folder: str, command: str) -> str:
    verb, *words = command.split()
    try:
        globals()[verb](folder, *words)
    except HELD:
        return "held"
    except TimeoutError:
        return "timeout"
    except OSError as error:
        if error.errno == errno.ENOLCK:
            return "lost"
        raise
    return "ok"


def acquire(folder: str, package: str) -> None:
    held[package] = PACKAGES[package](f"{folder}/locks/{package}", waits=False)


def release(folder: str, package: str) -> None:
    held.pop(package).release()


def count(folder: str, package: str, rounds: str) -> None:
    for _ in range(int(rounds)):
        turn = PACKAGES[package](f"{folder}/locks/{package}", waits=True)
        with open(f"{folder}/{package}", "r+") as file:
            number = int(file.read())
            file.seek(0)
            file.write(str(number + 1))
        turn.release()


def lock(folder: str, start: str, length: str) -> None:
    file = held["range"] = open(f"{folder}/ranges", "w")
    wanted = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, int(start), int(length), 0)
    fcntl.fcntl(file, fcntl.F_SETLK, wanted)


def wait(folder: str, function: str, package: str) -> None:
    with open(f"{folder}/locks/{package}", "r+") as file:
        getattr(fcntl, function)(file, fcntl.LOCK_EX)


def relock(folder: str) -> None:
    if "relock" not in held:
        held["relock"] = open(f"{folder}/revoked", "r+")
    fcntl.flock(held["relock"], fcntl.LOCK_EX)


if __name__ == "__main__":
    for line in sys.stdin:
        print(run(sys.argv[1], line), flush=True)
