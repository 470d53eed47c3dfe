"""A worker that knows nothing of Locket: locks with what Python has, or as pylockfile does.

Its argument is a JSON object: name, seed, function (flock, lockf, link or mkdir), locks (their names),
layout (the directory of everything), shared and lasting (of a hundred), longest (seconds). It runs
until its input ends, and keeps a journal like every other worker.
"""

import ctypes
import fcntl
import json
import os
import random
import select
import signal
import socket
import sys
import time

role = json.loads(sys.argv[1])
chance = random.Random(role["seed"])
worker = role["name"] + ".0-foreign"

# A constant of prctl(2): the process dies with its parent.
PR_SET_PDEATHSIG = 1
ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def now():
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def place(*names):
    return os.path.join(role["layout"], *names)


journal = os.open(place("journals", worker), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND)


def note(event, **fields):
    os.write(journal, (json.dumps({"event": event, **fields}) + "\n").encode())


# Each of these acquires and returns a function that releases, or None if the lock is held and `once` is set.


def kernel(call, path, shared, once):
    file = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        call(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (fcntl.LOCK_NB if once else 0))
    except BlockingIOError:
        os.close(file)
        return None

    def release():
        call(file, fcntl.LOCK_UN)
        os.close(file)

    return release


def flock(path, shared, once):
    return kernel(fcntl.flock, path, shared, once)


def lockf(path, shared, once):
    return kernel(fcntl.lockf, path, shared, once)


def unique_name(path):
    return f"{socket.gethostname()}.{os.getpid()}-{hash(path)}".replace("--", "-")


def polled(attempt, once):
    while not (release := attempt()):
        if once:
            return None
        time.sleep(0.002)
    return release


def link(path, shared, once):
    mine, lock = os.path.join(os.path.dirname(path), unique_name(path)), path + ".lock"
    open(mine, "wb").close()

    def attempt():
        try:
            os.link(mine, lock)
        except FileExistsError:
            return None

        def release():
            os.unlink(lock)
            os.unlink(mine)

        return release

    release = polled(attempt, once)
    if not release:
        os.unlink(mine)
    return release


def mkdir(path, shared, once):
    lock = path + ".lock"
    mine = os.path.join(lock, unique_name(path))

    def attempt():
        try:
            os.mkdir(lock)
        except FileExistsError:
            return None
        open(mine, "wb").close()

        def release():
            os.unlink(mine)
            os.rmdir(lock)

        return release

    return polled(attempt, once)


class Object:
    """What a lock protects: a counter and a log."""

    def __init__(self, name):
        self.count = os.open(place("objects", name + ".count"), os.O_RDWR | os.O_CREAT)
        log = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        self.log = os.open(place("objects", name + ".log"), log)

    def read(self):
        return int(os.pread(self.count, 20, 0) or b"0")

    def add(self, number, hold):
        before = self.read()
        os.write(self.log, f"<{worker} {number} ".encode())
        time.sleep(hold) if hold else None
        after = before + 1
        os.pwrite(self.count, f"{after:020}".encode(), 0)
        os.write(self.log, f"{after} {now()}>\n".encode())
        return [before, after]

    def look(self, hold):
        before = self.read()
        time.sleep(hold) if hold else None
        return [before, self.read()]


def in_a_hundred(percent):
    return chance.randrange(100) < percent


acquire = globals()[role["function"]]
objects = {name: Object(name) for name in role["locks"]}
number = 0
while not select.select([sys.stdin], [], [], 0)[0]:
    number += 1
    name = chance.choice(role["locks"])
    shared = in_a_hundred(role["shared"])
    once = in_a_hundred(10)
    hold = chance.random() * role["longest"] if in_a_hundred(role["lasting"]) else 0
    mode = "shared" if shared else "exclusive"
    note("ask", number=number, lock=name, mode=mode, limit=0 if once else None, at=now())
    release = acquire(place("locks", name), shared, once)
    if not release:
        note("gave-up", why="would-block", at=now())
        continue
    note("enter", at=now())
    counted = objects[name].look(hold) if shared else objects[name].add(number, hold)
    note("leave", counted=counted, at=now())
    release()
    # The kernel has no hand-off. A program that tries again at once leaves little to the others.
    time.sleep(chance.random() * 0.001)
