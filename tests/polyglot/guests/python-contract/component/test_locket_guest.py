"""What our package promises beyond the two libraries."""

import math
import os
import unittest

import locket
import peer

PATH = f"{peer.FOLDER}/guest"


class Guest(unittest.TestCase):
    def test_readers_share(self):
        for reader in (
            locket.lock_file(PATH, timeout=0, shared=True),
            locket.LockFile(PATH, timeout=0, shared=True),
        ):
            with reader, locket.lock_file(PATH, timeout=0, shared=True):
                self.assertRaises(locket.AlreadyLocked, locket.lock_file(PATH, timeout=0).acquire)
        peer.hold(PATH, "LockFile")
        self.assertRaises(locket.AlreadyLocked, reader.acquire)
        peer.release()

    def test_a_reader_does_not_become_a_writer_unnoticed(self):
        with locket.LockFile(PATH, shared=True):
            self.assertRaises(locket.AlreadyLocked, locket.LockFile(PATH).acquire)
        with locket.LockFile(PATH):
            locket.LockFile(PATH, shared=True).acquire()

    def test_a_decorated_reader_shares(self):
        @locket.locked(PATH, timeout=0, shared=True)
        def read():
            with locket.lock_file(PATH, timeout=0, shared=True):
                return 7

        self.assertEqual(read(), 7)

    def test_the_classes_of_pylockfile_make_what_they_make(self):
        for cls, is_there in {
            locket.LinkLockFile: lambda: os.stat(PATH + ".lock").st_nlink == 2,
            locket.SymlinkLockFile: lambda: os.path.islink(PATH + ".lock"),
            locket.MkdirLockFile: lambda: os.path.isdir(PATH + ".lock"),
        }.items():
            with self.subTest(cls=cls.__name__):
                lock = cls(PATH)
                with lock:
                    self.assertTrue(is_there())
                    self.assertTrue(lock.is_locked() and lock.i_am_locking())
                    lock.acquire(timeout=0)
                self.assertFalse(os.path.lexists(PATH + ".lock"))
                self.assertRaises(locket.NotLocked, lock.release)

    def test_a_pid_file_is_not_waited_for_and_not_acquired_twice(self):
        path = PATH + ".pid"
        lock = locket.PIDLockFile(path)
        with lock:
            with open(path) as file:
                self.assertTrue(file.read().strip().isdecimal())
            self.assertRaises(locket.AlreadyLocked, lock.acquire)
            self.assertRaises(locket.AlreadyLocked, locket.PIDLockFile(path).acquire)
        self.assertFalse(os.path.exists(path))

    def test_locks_in_a_database_need_one(self):
        with self.assertRaises(locket.LockFailed) as caught:
            locket.SQLiteLockFile(PATH).acquire()
        self.assertEqual(caught.exception.code, "not-supported")

    def test_a_lock_file_is_removed_on_demand(self):
        for remove in False, True:
            with locket.lock_file(PATH, remove=remove):
                self.assertTrue(os.path.exists(PATH))
            self.assertNotEqual(os.path.exists(PATH), remove)

    def test_a_protocol_is_chosen_by_its_name(self):
        with locket.lock_file(PATH, protocol="mkdir"):
            self.assertTrue(os.path.isdir(PATH + ".lock"))
        with self.assertRaisesRegex(ValueError, "unknown protocol 'nfs'; the protocols are native, flock"):
            locket.lock_file(PATH, protocol="nfs")

    def test_infinity_is_for_ever_and_nothing_else_is_rounded_to_it(self):
        with locket.lock_file(PATH, timeout=math.inf):
            pass
        for timeout in math.nan, 4294967.296, 1e300:
            for lock in locket.lock_file(PATH, timeout=timeout), locket.LockFile(PATH, timeout=timeout):
                self.assertRaises(ValueError, lock.acquire)
        with locket.lock_file(PATH, timeout=4294967.295):
            pass
        self.assertRaises(TypeError, locket.lock_file(PATH, timeout="1").acquire)

    def test_paths_are_what_python_takes_for_paths(self):
        class Path:
            def __fspath__(self):
                return PATH

        for path in PATH.encode(), Path():
            with locket.lock_file(path):
                self.assertTrue(locket.LockFile(PATH).i_am_locking())
        self.assertRaises(TypeError, locket.lock_file(7).acquire)
        for path in b"/locks/\xff", "/locks/\ud800", "/locks/a\0b", "":
            with self.assertRaises(OSError) as caught:
                locket.lock_file(path).acquire()
            self.assertEqual(caught.exception.code, "invalid-path")
            self.assertRaises(locket.LockFailed, locket.LockFile(path).acquire)

    def test_what_is_not_granted_is_a_matter_of_permission(self):
        with self.assertRaises(PermissionError) as caught:
            locket.lock_file("/elsewhere").acquire()
        self.assertEqual(caught.exception.code, "access-denied")
        self.assertEqual(caught.exception.filename, "/elsewhere")
        self.assertEqual(
            str(caught.exception),
            "[Errno 2] access to the lock is denied (EACCES in WASI): '/elsewhere'",
        )
        with self.assertRaises(locket.LockFailed) as caught:
            locket.LockFile("/elsewhere").acquire()
        self.assertEqual(caught.exception.code, "access-denied")
        with self.assertRaises(locket.UnlockError) as caught:
            locket.LockFile("/elsewhere").break_lock()
        self.assertEqual(caught.exception.code, "access-denied")

    def test_what_was_taken_away_is_lost(self):
        lock = locket.lock_file(PATH)
        with self.assertRaises(locket.LockError) as caught:
            with lock:
                self.assertIsNone(lock.lost())
                locket.LockFile(PATH).break_lock()
                self.assertEqual(lock.lost(), "broken")
        self.assertEqual((caught.exception.code, caught.exception.reason), ("lost", "broken"))

    def test_what_nobody_refers_to_any_more_is_released(self):
        locket.lock_file(PATH).acquire()
        with locket.lock_file(PATH, timeout=0):
            pass
