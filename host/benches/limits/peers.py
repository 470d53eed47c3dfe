"""A locking library of Python, in the language of process.rs: peers.py LIBRARY PATH.

Prints its name and version first, and exits with 3 if it is not installed. Every library has a
timeout, and otherwise its own defaults.
"""

import importlib
import importlib.metadata
import sys
import time

TIMEOUT = 600

library, path = sys.argv[1:]
package = {"SoftFileLock": "filelock", "locket.py": "locket"}.get(library, library)
pylockfile = {
    "LinkLockFile": "lockfile.linklockfile",
    "SymlinkLockFile": "lockfile.symlinklockfile",
    "MkdirLockFile": "lockfile.mkdirlockfile",
    "PIDLockFile": "lockfile.pidlockfile",
}
if library in pylockfile:
    package = "lockfile"
try:
    module = importlib.import_module(pylockfile.get(library, package))
except ImportError:
    sys.exit(3)

if library in ("filelock", "SoftFileLock"):
    # The soft one holds the lock by having made the file.
    soft = library == "SoftFileLock"
    kind = module.SoftFileLock if soft else module.FileLock
    lock = kind(path + ".soft" if soft else path, timeout=TIMEOUT)
    acquire = lock.acquire
elif library == "fasteners":
    lock = module.InterProcessLock(path)

    def acquire():
        assert lock.acquire(timeout=TIMEOUT)

elif library == "portalocker":
    lock = module.Lock(path, timeout=TIMEOUT)
    acquire = lock.acquire
elif library == "locket.py":
    lock = module.lock_file(path, timeout=TIMEOUT)
    acquire = lock.acquire
elif library in pylockfile:
    # Without a timeout it looks ten times a second, and with one ten times in that.
    lock = getattr(module, library)(path, timeout=1)
    acquire = lock.acquire
release = lock.release


def say(answer):
    print(answer, flush=True)


say(f"{library} {importlib.metadata.version(package)}")
for line in sys.stdin:
    command, *count = line.split()
    if command == "acquire":
        say("asking")
        acquire()
        say(time.monotonic_ns())
    elif command == "release":
        released = time.monotonic_ns()
        release()
        say(released)
    elif command == "batch":
        count = int(*count)
        start = time.monotonic_ns()
        for _ in range(count):
            acquire()
            release()
        say(time.monotonic_ns() - start)
