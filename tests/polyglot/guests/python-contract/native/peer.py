"""Another holder: another process."""

import subprocess
import sys
import tempfile
import time

FOLDER = tempfile.mkdtemp()

_process: subprocess.Popen[str] | None = None


def hold(path: str, as_what: str) -> None:
    global _process
    if _process:
        _process.wait()
    _process = subprocess.Popen(
        [sys.executable, __file__, path, as_what],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with _process.stdout as output:
        assert output.readline() == "held\n"


def release(after: float = 0) -> None:
    with _process.stdin as orders:
        orders.write(f"{after}\n")
    if not after:
        _process.wait()


def main(path: str, as_what: str) -> None:
    import fcntl

    import locket
    import lockfile
    from lockfile import linklockfile, mkdirlockfile, symlinklockfile

    modules = locket, lockfile, linklockfile, mkdirlockfile, symlinklockfile
    if hasattr(fcntl, as_what):
        with open(path, "a") as file:
            getattr(fcntl, as_what)(file, fcntl.LOCK_EX)
            print("held", flush=True)
            time.sleep(float(sys.stdin.readline()))
        return
    [lock] = {getattr(module, as_what) for module in modules if hasattr(module, as_what)}
    try:
        with lock(path):
            print("held", flush=True)
            time.sleep(float(sys.stdin.readline()))
    except lockfile.NotLocked:
        pass  # It was broken.


if __name__ == "__main__":
    main(*sys.argv[1:])
