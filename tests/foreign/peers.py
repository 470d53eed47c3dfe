"""A locking library of Python, in the language of tests/tests/interop: peers.py LIBRARY.

Prints its version first, and exits with 3 if it is not installed.
"""

import importlib
import importlib.metadata
import os
import sys

# Each of these takes the lock of a path within so many seconds, 0 for a single try, and returns
# what releases it; none if another program held it.


def locket(path, seconds):
    lock = module.lock_file(path, timeout=seconds)
    try:
        lock.acquire()
    except module.LockError:
        return None
    return lock.release


def filelock(path, seconds):
    lock = getattr(module, name)(path)
    try:
        lock.acquire(timeout=seconds)
    except module.Timeout:
        return None
    return lock.release


def portalocker(path, seconds):
    lock = module.Lock(path, timeout=seconds)
    try:
        lock.acquire()
    except module.AlreadyLocked:
        return None
    return lock.release


def zc_lockfile(path, _):
    try:
        return module.LockFile(path).close
    except module.LockError:
        return None


def fasteners(path, seconds):
    if name == "InterProcessLock":
        lock = module.InterProcessLock(path)
        acquire, release = lock.acquire, lock.release
    else:
        lock = module.InterProcessReaderWriterLock(path)
        acquire = getattr(lock, f"acquire_{name}_lock")
        release = getattr(lock, f"release_{name}_lock")
    return release if acquire(blocking=seconds > 0, timeout=seconds or None) else None


def oslo_concurrency(path, seconds):
    directory, file = os.path.split(path)
    lock = module.lock(file, external=True, lock_path=directory, blocking=seconds > 0)
    try:
        lock.__enter__()
    except Exception as e:
        if type(e).__name__ != "AcquireLockFailedException":
            raise
        return None
    return lambda: lock.__exit__(None, None, None)


def lockfile(path, seconds):
    lock = getattr(importlib.import_module(f"lockfile.{name.lower()}lockfile"), f"{name}LockFile")
    # Without this each process has a database of its own, and excludes no other.
    lock.testdb = os.path.join(os.path.dirname(path), "locks.db")
    lock = lock(path)
    try:
        lock.acquire(timeout=seconds)
    except (module.AlreadyLocked, module.LockTimeout):
        return None
    return lock.release


library, name = (sys.argv[1] + " ").split(" ")[:2]
acquire = globals()[library.replace(".", "_")]
try:
    module = "oslo_concurrency.lockutils" if library == "oslo.concurrency" else library
    module = importlib.import_module(module)
except ImportError:
    sys.exit(3)


def say(answer):
    print(answer, flush=True)


say(importlib.metadata.version(library))
release = None
for line in sys.stdin:
    command, *words = line.split()
    try:
        if command == "release":
            release()
            say("released")
        elif release := acquire(words[-1], float(words[0]) if command == "wait" else 0):
            say("got")
        else:
            say("timed-out" if command == "wait" else "busy")
    except Exception as e:
        say(f"error {type(e).__name__}: {e}")
