"""What the module `fcntl` does with locks. Passes with Python's, and with ours inside of a component."""

import errno
import fcntl
import itertools
import os
import pathlib
import struct
import time
import unittest

import peer

_numbers = itertools.count()
FLOCK = "hhqqi4x"


class Files(unittest.TestCase):
    def setUp(self):
        self.path = f"{peer.FOLDER}/fcntl-{next(_numbers)}"
        self.file = self.open("w+")

    def open(self, mode):
        file = open(self.path, mode)
        self.addCleanup(file.close)
        return file

    def assert_errno(self, number, function, *args):
        with self.assertRaises(OSError) as caught:
            function(*args)
        self.assertEqual(errno.errorcode[caught.exception.errno], errno.errorcode[number])

    def assert_held(self):
        self.assertRaises(BlockingIOError, fcntl.flock, self.open("r"), fcntl.LOCK_EX | fcntl.LOCK_NB)

    def assert_free(self):
        with open(self.path) as other:
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def assert_waits(self, seconds, function, *args):
        start = time.monotonic()
        function(*args)
        self.assertGreaterEqual(time.monotonic() - start, seconds * 0.9)


class Flock(Files):
    def test_descriptors_exclude_one_another(self):
        fcntl.flock(self.file, fcntl.LOCK_EX)
        fcntl.flock(self.file, fcntl.LOCK_EX)
        self.assert_held()
        fcntl.flock(self.file.fileno(), fcntl.LOCK_UN)
        self.assert_free()
        fcntl.flock(self.file, fcntl.LOCK_UN)

    def test_readers_share(self):
        reader = self.open("r")
        for file in self.file, reader:
            fcntl.flock(file, fcntl.LOCK_SH)
        self.assert_held()
        fcntl.flock(reader, fcntl.LOCK_UN)
        fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self.assertRaises(BlockingIOError, fcntl.flock, reader, fcntl.LOCK_SH | fcntl.LOCK_NB)

    def test_the_end_of_a_file_releases(self):
        def through(opened):
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.assert_held()
            return opened

        with through(open(self.path)):
            pass
        self.assert_free()
        with self.assertWarns(ResourceWarning):
            through(open(self.path, "rb", 0))
        self.assert_free()
        with through(pathlib.Path(self.path).open("a")):
            pass
        self.assert_free()
        os.close(through(os.open(self.path, os.O_RDWR)))
        self.assert_free()
        with through(os.fdopen(os.open(self.path, os.O_RDONLY))):
            pass
        self.assert_free()
        with through(open(self.path, opener=os.open)):
            pass
        self.assert_free()
        fd = through(os.open(self.path, os.O_RDWR))
        with open(fd, closefd=False):
            pass
        self.assert_held()
        os.closerange(fd, fd + 1)
        self.assert_free()

    def test_another_process_is_waited_for(self):
        peer.hold(self.path, "flock")
        self.assert_held()
        peer.release(0.2)
        self.assert_waits(0.2, fcntl.flock, self.file, fcntl.LOCK_SH)

    def test_what_is_no_lock(self):
        self.assert_errno(errno.EINVAL, fcntl.flock, self.file, 64)
        self.assert_errno(errno.EBADF, fcntl.flock, 999, fcntl.LOCK_EX)
        self.assertRaises(ValueError, fcntl.flock, -1, fcntl.LOCK_EX)
        self.assertRaises(TypeError, fcntl.flock, "file", fcntl.LOCK_EX)


class Lockf(Files):
    def test_a_process_does_not_exclude_itself(self):
        for file in self.file, self.open("r+"):
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 5)
            fcntl.lockf(file, fcntl.LOCK_SH)
            fcntl.lockf(file, fcntl.LOCK_UN)

    def test_another_process_is_waited_for(self):
        peer.hold(self.path, "lockf")
        self.assertRaises(BlockingIOError, fcntl.lockf, self.file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        peer.release(0.2)
        self.assert_waits(0.2, fcntl.lockf, self.file, fcntl.LOCK_EX)

    def test_to_close_any_descriptor_of_the_file_unlocks(self):
        fcntl.lockf(self.file, fcntl.LOCK_EX)
        self.open("r").close()
        peer.hold(self.path, "lockf")
        peer.release()

    def test_a_mode_takes_a_file_that_is_open_for_it(self):
        reader, writer = self.open("r"), self.open("w")
        self.assert_errno(errno.EBADF, fcntl.lockf, reader, fcntl.LOCK_EX)
        self.assert_errno(errno.EBADF, fcntl.lockf, writer, fcntl.LOCK_SH)
        fcntl.lockf(reader, fcntl.LOCK_SH)
        fcntl.lockf(writer, fcntl.LOCK_EX)
        fcntl.lockf(reader, fcntl.LOCK_UN)

    def test_what_is_no_lock(self):
        self.assertRaises(ValueError, fcntl.lockf, self.file, fcntl.LOCK_NB)
        self.assert_errno(errno.EBADF, fcntl.lockf, 999, fcntl.LOCK_SH)
        self.assert_errno(errno.EINVAL, fcntl.lockf, self.file, fcntl.LOCK_EX, 1, -1)
        self.assert_errno(errno.EINVAL, fcntl.lockf, self.file, fcntl.LOCK_EX, -2, 1)
        self.assert_errno(errno.EINVAL, fcntl.lockf, self.file, fcntl.LOCK_EX, 1, 0, 9)
        self.assert_errno(errno.EOVERFLOW, fcntl.lockf, self.file, fcntl.LOCK_EX, 2, 2**63 - 1)


class Fcntl(Files):
    def fcntl(self, cmd, *lock):
        result = fcntl.fcntl(self.file, cmd, struct.pack(FLOCK, *lock))
        self.assertIs(type(result), bytes)
        return struct.unpack(FLOCK, result)

    def test_set_and_get(self):
        for cmd in fcntl.F_SETLK, fcntl.F_SETLKW:
            for kind in fcntl.F_RDLCK, fcntl.F_WRLCK, fcntl.F_UNLCK:
                lock = kind, os.SEEK_SET, 100, 50, 0
                self.assertEqual(self.fcntl(cmd, *lock), lock)
        lock = os.SEEK_CUR, -1, 2, 7
        self.file.seek(3)
        self.assertEqual(self.fcntl(fcntl.F_GETLK, fcntl.F_WRLCK, *lock), (fcntl.F_UNLCK, *lock))

    def test_who_excludes_is_told(self):
        peer.hold(self.path, "lockf")
        kind, whence, start, length, process = self.fcntl(fcntl.F_GETLK, fcntl.F_RDLCK, 0, 7, 1, 0)
        self.assertEqual((kind, whence, start, length), (fcntl.F_WRLCK, os.SEEK_SET, 0, 0))
        self.assertNotEqual(process, 0)
        peer.release()
        self.assertEqual(self.fcntl(fcntl.F_GETLK, fcntl.F_RDLCK, 0, 7, 1, 0)[0], fcntl.F_UNLCK)

    def test_what_is_no_lock(self):
        for cmd in fcntl.F_GETLK, fcntl.F_SETLK:
            for lock in (9, 0, 0, 0, 0), (0, 9, 0, 0, 0), (0, 0, -1, 0, 0), (0, 0, 1, -2, 0):
                self.assert_errno(errno.EINVAL, self.fcntl, cmd, *lock)
        self.assert_errno(errno.EINVAL, self.fcntl, fcntl.F_GETLK, fcntl.F_UNLCK, 0, 0, 0, 0)
        self.assert_errno(errno.EOVERFLOW, self.fcntl, fcntl.F_SETLK, fcntl.F_WRLCK, 0, 2, 2**63 - 1, 0)
        self.assert_errno(errno.EFAULT, fcntl.fcntl, self.file, fcntl.F_SETLK)
        self.assert_errno(errno.EINVAL, fcntl.fcntl, self.file, 12345)

    def test_flags_are_told(self):
        flags = fcntl.fcntl(self.open("a"), fcntl.F_GETFL)
        self.assertEqual(flags & (os.O_ACCMODE | os.O_APPEND), os.O_WRONLY | os.O_APPEND)
        self.assertTrue(fcntl.fcntl(self.file, fcntl.F_GETFD) & fcntl.FD_CLOEXEC)
        self.assertEqual(fcntl.fcntl(self.file, fcntl.F_SETFD, fcntl.FD_CLOEXEC), 0)
