"""What our `fcntl` says where it differs from Python's, and what becomes of `open`."""

import errno
import io
import os
import struct
import unittest

import fcntl
import peer

PATH = f"{peer.FOLDER}/fcntl-guest"


class Guest(unittest.TestCase):
    def assert_says(self, number, path, function, *args):
        with self.assertRaises(OSError) as caught:
            function(*args)
        self.assertEqual((caught.exception.errno, caught.exception.filename), (number, path))
        self.assertIn(f"({errno.errorcode[number]} in WASI)", str(caught.exception))

    def test_a_replaced_file_is_stale(self):
        with open(PATH, "w") as file:
            os.rename(PATH, PATH + ".old")
            for lock in fcntl.flock, fcntl.lockf:
                self.assert_says(errno.ESTALE, PATH, lock, file, fcntl.LOCK_EX)
                with open(PATH, "w"):
                    self.assert_says(errno.ESTALE, PATH, lock, file, fcntl.LOCK_EX)
                os.remove(PATH)

    def test_a_locked_file_that_was_replaced_is_stale(self):
        with open(PATH, "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            os.rename(PATH, PATH + ".old")
            with open(PATH, "w") as other:
                self.assert_says(errno.ESTALE, PATH, fcntl.flock, file, fcntl.LOCK_EX)
                fcntl.flock(other, fcntl.LOCK_EX)

    def test_a_wait_for_itself_is_a_deadlock(self):
        with open(PATH, "w") as one, open(PATH, "w") as two:
            fcntl.flock(one, fcntl.LOCK_EX)
            self.assert_says(errno.EDEADLK, PATH, fcntl.flock, two, fcntl.LOCK_EX)

    def test_what_cannot_be_locked(self):
        directory = os.open(peer.FOLDER, os.O_RDONLY | os.O_DIRECTORY)
        self.assert_says(errno.EOPNOTSUPP, peer.FOLDER, fcntl.flock, directory, fcntl.LOCK_EX)
        os.close(directory)
        self.assert_says(errno.EOPNOTSUPP, None, fcntl.flock, 0, fcntl.LOCK_EX)
        self.assert_says(errno.EINVAL, None, fcntl.lockf, 0, fcntl.LOCK_EX)

    def test_the_struct_of_pythons_documentation_is_understood(self):
        with open(PATH, "w") as file:
            lock = struct.pack("hhllhh", fcntl.F_WRLCK, 0, 3, 4, 0, 0)
            self.assertEqual(fcntl.fcntl(file, fcntl.F_SETLKW, lock), lock)
        peer.hold(PATH, "lockf")
        with open(PATH, "w") as file:
            found = struct.unpack("hhlli", fcntl.fcntl(file, fcntl.F_GETLK, lock))
        self.assertEqual(found, (fcntl.F_WRLCK, os.SEEK_SET, 0, 0, -1))
        peer.release()

    def test_relative_paths_are_those_of_the_working_directory(self):
        os.chdir(peer.FOLDER)
        with open("fcntl-relative", "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
        folder = os.open(peer.FOLDER, os.O_RDONLY | os.O_DIRECTORY)
        fd = os.open("fcntl-relative", os.O_RDWR, dir_fd=folder)
        fcntl.flock(fd, fcntl.LOCK_EX)
        os.close(fd)
        os.close(folder)

    def test_open_is_what_it_was(self):
        class Opener:
            open = open

        with Opener().open(PATH, "w", encoding="utf-8", newline="\r\n") as file:
            self.assertEqual((file.name, file.mode, file.encoding), (PATH, "w", "utf-8"))
            file.write("\xe4\n")
        kinds = {
            ("rb", 0): io.FileIO,
            ("rb", -1): io.BufferedReader,
            ("ab", 16): io.BufferedWriter,
            ("r+b", -1): io.BufferedRandom,
            ("r", 1): io.TextIOWrapper,
        }
        for (mode, buffering), kind in kinds.items():
            with open(PATH, mode, buffering) as file:
                self.assertIsInstance(file, kind)
                if "r" in mode and "b" in mode:
                    self.assertEqual(file.read(), b"\xc3\xa4\r\n")
        with self.assertRaises(FileNotFoundError) as caught:
            open(PATH + ".none")
        self.assertEqual(caught.exception.filename, PATH + ".none")
        self.assertRaises(FileExistsError, open, PATH, "x")
        self.assertRaises(ValueError, open, PATH, "rw")
        self.assertRaises(TypeError, open, 1.5)
        with io.FileIO(PATH, "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
