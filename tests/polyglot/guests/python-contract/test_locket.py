"""What locket.py promises. Passes with that library, and with ours inside of a component."""

import itertools
import time
import unittest

import locket
import peer

_numbers = itertools.count()


class LockFile(unittest.TestCase):
    def setUp(self):
        self.path = f"{peer.FOLDER}/locket-{next(_numbers)}"

    def assert_free(self):
        with locket.lock_file(self.path, timeout=0):
            pass

    def assert_held(self):
        with self.assertRaises(locket.LockError):
            locket.lock_file(self.path, timeout=0).acquire()

    def assert_lasts(self, seconds, function):
        start = time.monotonic()
        function()
        self.assertGreaterEqual(time.monotonic() - start, seconds * 0.9)
        self.assertLess(time.monotonic() - start, seconds + 10)

    def test_a_free_lock_is_acquired(self):
        with locket.lock_file(self.path):
            self.assert_held()

    def test_a_free_lock_is_acquired_without_waiting(self):
        for timeout in 0, -1, 0.5, 30:
            with locket.lock_file(self.path, timeout=timeout):
                self.assert_held()

    def test_the_end_of_the_block_releases(self):
        lock = locket.lock_file(self.path)
        with lock as entered:
            self.assertIs(entered, lock)
        self.assert_free()

    def test_an_exception_releases_and_arrives(self):
        with self.assertRaisesRegex(KeyError, "inside"):
            with locket.lock_file(self.path):
                raise KeyError("inside")
        self.assert_free()

    def test_a_lock_is_acquired_and_released_by_hand_any_number_of_times(self):
        lock = locket.lock_file(self.path)
        for _ in range(3):
            lock.acquire()
            self.assert_held()
            lock.release()
            self.assert_free()

    def test_the_same_object_does_not_acquire_twice(self):
        lock = locket.lock_file(self.path, timeout=0)
        lock.acquire()
        self.assertRaises(locket.LockError, lock.acquire)
        lock.release()
        self.assert_free()

    def test_two_objects_are_one_lock(self):
        with locket.lock_file(self.path, timeout=0):
            self.assertRaises(locket.LockError, locket.lock_file(self.path, timeout=0).acquire)
        self.assert_free()

    def test_two_objects_are_one_lock_whatever_their_timeouts(self):
        with locket.lock_file(self.path, timeout=None):
            self.assertRaises(locket.LockError, locket.lock_file(self.path, timeout=0).acquire)

    def test_what_one_object_acquired_another_releases(self):
        lock = locket.lock_file(self.path)
        lock.acquire()
        locket.lock_file(self.path, timeout=1).release()
        self.assert_free()

    def test_two_paths_are_two_locks(self):
        with locket.lock_file(self.path), locket.lock_file(self.path + "-other", timeout=0):
            pass

    def test_an_unlocked_lock_cannot_be_released(self):
        lock = locket.lock_file(self.path)
        self.assertRaises(locket.LockError, lock.release)
        with lock:
            pass
        self.assertRaises(locket.LockError, lock.release)

    def test_a_released_lock_is_acquired_by_whoever_waits_for_ever(self):
        peer.hold(self.path, "lock_file")
        peer.release(after=0.3)
        lock = locket.lock_file(self.path)
        self.assert_lasts(0.25, lock.acquire)
        lock.release()

    def test_a_released_lock_is_acquired_by_whoever_waits_for_a_time(self):
        peer.hold(self.path, "lock_file")
        peer.release(after=0.3)
        lock = locket.lock_file(self.path, timeout=30, retry_period=0.01)
        self.assert_lasts(0.25, lock.acquire)
        lock.release()

    def test_without_time_a_lock_of_somebody_else_is_an_error(self):
        peer.hold(self.path, "lock_file")
        for timeout in 0, -1:
            lock = locket.lock_file(self.path, timeout=timeout)
            self.assert_lasts(0, lambda: self.assertRaises(locket.LockError, lock.acquire))
        peer.release()
        self.assert_free()

    def test_a_timeout_runs_out(self):
        peer.hold(self.path, "lock_file")
        lock = locket.lock_file(self.path, timeout=0.3)
        self.assert_lasts(0.3, lambda: self.assertRaises(locket.LockError, lock.acquire))
        self.assert_held()
        peer.release()
        self.assert_free()

    def test_a_missing_directory_is_an_error_of_the_file(self):
        lock = locket.lock_file(f"{peer.FOLDER}/missing/lock")
        with self.assertRaises(FileNotFoundError) as caught:
            lock.acquire()
        self.assertNotIsInstance(caught.exception, locket.LockError)
