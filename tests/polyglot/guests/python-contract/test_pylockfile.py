"""What pylockfile promises. Passes with that library, and with ours inside of a component."""

import itertools
import time
import unittest

import peer

try:
    import lockfile
    from lockfile.linklockfile import LinkLockFile
    from lockfile.mkdirlockfile import MkdirLockFile
    from lockfile.symlinklockfile import SymlinkLockFile
except ImportError:
    import locket as lockfile
    from locket import LinkLockFile, MkdirLockFile, SymlinkLockFile

_numbers = itertools.count()


class LockFile(unittest.TestCase):
    lock_file = lockfile.LockFile

    def setUp(self):
        self.path = f"{peer.FOLDER}/pylockfile-{next(_numbers)}"
        self.lock = self.lock_file(self.path)

    def assert_timeout(self, error, seconds, acquire, *args, **kwargs):
        start = time.monotonic()
        with self.assertRaises(error) as caught:
            acquire(*args, **kwargs)
        self.assertIs(type(caught.exception), error)
        self.assertGreaterEqual(time.monotonic() - start, seconds * 0.9)
        self.assertLess(time.monotonic() - start, seconds + 10)

    def test_acquire_and_release(self):
        for threaded in True, False:
            lock = self.lock_file(self.path, threaded=threaded)
            lock.acquire()
            self.assertTrue(lock.is_locked())
            self.assertTrue(lock.i_am_locking())
            lock.release()
            self.assertFalse(lock.is_locked())
            self.assertFalse(lock.i_am_locking())

    def test_a_second_release_is_not_locked(self):
        self.lock.acquire()
        self.lock.release()
        self.assertFalse(self.lock.is_locked())
        self.assertRaises(lockfile.NotLocked, self.lock.release)

    def test_what_never_was_locked_is_not_locked(self):
        self.assertFalse(self.lock.is_locked())
        self.assertFalse(self.lock.i_am_locking())
        self.assertRaises(lockfile.NotLocked, self.lock.release)

    def test_the_owner_acquires_again_without_a_counter(self):
        self.lock.acquire()
        for timeout in None, 0, -1, 2:
            self.lock.acquire(timeout)
        self.lock.release()
        self.assertFalse(self.lock.is_locked())
        self.assertRaises(lockfile.NotLocked, self.lock.release)

    def test_the_owner_is_the_thread_and_not_the_object(self):
        other = self.lock_file(self.path)
        self.lock.acquire()
        self.assertTrue(other.is_locked())
        self.assertTrue(other.i_am_locking())
        other.acquire(timeout=0)
        other.release()
        self.assertFalse(self.lock.is_locked())

    def test_a_timeout_runs_out(self):
        peer.hold(self.path, self.lock_file.__name__)
        self.assert_timeout(lockfile.LockTimeout, 0.2, self.lock.acquire, timeout=0.2)
        self.assertTrue(self.lock.is_locked())
        self.assertFalse(self.lock.i_am_locking())
        peer.release()
        self.assertFalse(self.lock.is_locked())

    def test_the_timeout_of_the_constructor_runs_out(self):
        peer.hold(self.path, self.lock_file.__name__)
        lock = self.lock_file(self.path, timeout=0.2)
        self.assert_timeout(lockfile.LockTimeout, 0.2, lock.acquire)
        with self.assertRaises(lockfile.LockTimeout):
            with lock:
                self.fail("not reached")
        peer.release()

    def test_the_timeout_of_the_call_comes_first(self):
        peer.hold(self.path, self.lock_file.__name__)
        lock = self.lock_file(self.path, timeout=60)
        self.assert_timeout(lockfile.AlreadyLocked, 0, lock.acquire, timeout=0)
        peer.release()

    def test_without_time_a_lock_of_somebody_else_is_already_locked(self):
        peer.hold(self.path, self.lock_file.__name__)
        for timeout in 0, -1, -0.5:
            self.assert_timeout(lockfile.AlreadyLocked, 0, self.lock.acquire, timeout)
            lock = self.lock_file(self.path, timeout=timeout)
            self.assert_timeout(lockfile.AlreadyLocked, 0, lock.acquire)
        peer.release()

    def test_a_released_lock_is_acquired_by_whoever_waits(self):
        for timeout in None, 30:
            peer.hold(self.path, self.lock_file.__name__)
            peer.release(after=0.3)
            self.lock.acquire(timeout)
            self.assertTrue(self.lock.i_am_locking())
            self.lock.release()

    def test_the_lock_of_somebody_else_is_not_my_lock(self):
        peer.hold(self.path, self.lock_file.__name__)
        self.assertRaises(lockfile.NotMyLock, self.lock.release)
        self.assertTrue(self.lock.is_locked())
        peer.release()

    def test_a_broken_lock_is_free_and_not_locked(self):
        self.lock.acquire()
        self.lock_file(self.path).break_lock()
        self.assertFalse(self.lock.is_locked())
        self.assertFalse(self.lock.i_am_locking())
        self.assertRaises(lockfile.NotLocked, self.lock.release)
        self.lock.acquire(timeout=0)
        self.lock.release()

    def test_the_lock_of_somebody_else_can_be_broken(self):
        peer.hold(self.path, self.lock_file.__name__)
        self.lock.break_lock()
        self.assertFalse(self.lock.is_locked())
        peer.release()

    def test_what_is_not_locked_can_be_broken(self):
        self.lock.break_lock()
        self.assertFalse(self.lock.is_locked())

    def test_a_block_releases(self):
        with self.lock as entered:
            self.assertIs(entered, self.lock)
            self.assertTrue(self.lock.i_am_locking())
            self.lock.acquire()
        self.assertFalse(self.lock.is_locked())

    def test_an_exception_releases_and_arrives(self):
        with self.assertRaisesRegex(KeyError, "inside"):
            with self.lock:
                raise KeyError("inside")
        self.assertFalse(self.lock.is_locked())

    def test_a_missing_directory_fails(self):
        lock = self.lock_file(f"{peer.FOLDER}/missing/lock")
        self.assertFalse(lock.is_locked())
        self.assertFalse(lock.i_am_locking())
        self.assertRaises(lockfile.LockFailed, lock.acquire)
        self.assertRaises(lockfile.LockFailed, lock.acquire, timeout=0)

    def test_two_locks_in_one_directory_are_independent(self):
        other = self.lock_file(self.path + "-other")
        with self.lock, other:
            self.assertTrue(self.lock.i_am_locking())
            self.assertTrue(other.i_am_locking())
        self.assertFalse(self.lock.is_locked())

    def test_the_attributes_are_those_of_the_constructor(self):
        lock = self.lock_file(self.path, timeout=3)
        self.assertEqual((lock.path, lock.timeout), (self.path, 3))
        self.assertIn(self.path, repr(lock))


class Link(LockFile):
    lock_file = LinkLockFile


class Mkdir(LockFile):
    lock_file = MkdirLockFile


class Symlink(LockFile):
    lock_file = SymlinkLockFile

    # The library waits for the directory indefinitely.
    test_a_missing_directory_fails = None


class Locked(unittest.TestCase):
    def setUp(self):
        self.path = f"{peer.FOLDER}/locked-{next(_numbers)}"
        self.lock = lockfile.LockFile(self.path)

    def test_a_decorated_function_holds_the_lock(self):
        @lockfile.locked(self.path)
        def add(a, b):
            """Adds."""
            self.assertTrue(self.lock.is_locked())
            return a + b

        self.assertEqual(add(4, 3), 7)
        self.assertEqual((add.__name__, add.__doc__), ("add", "Adds."))
        self.assertFalse(self.lock.is_locked())

    def test_a_decorated_function_has_a_timeout(self):
        @lockfile.locked(self.path, timeout=0.2)
        def job():
            self.fail("not reached")

        peer.hold(self.path, "LockFile")
        self.assertRaises(lockfile.LockTimeout, job)
        peer.release()

    def test_a_decorated_function_releases_when_it_raises(self):
        @lockfile.locked(self.path)
        def job():
            raise KeyError("inside")

        self.assertRaises(KeyError, job)
        self.assertFalse(self.lock.is_locked())


class Names(unittest.TestCase):
    def test_other_names(self):
        self.assertIs(lockfile.FileLock, lockfile.LockFile)
        self.assertTrue(issubclass(lockfile.LockFile, lockfile.LockBase))

    def test_the_hierarchy_of_the_exceptions(self):
        for error, base in {
            lockfile.Error: Exception,
            lockfile.LockError: lockfile.Error,
            lockfile.LockTimeout: lockfile.LockError,
            lockfile.AlreadyLocked: lockfile.LockError,
            lockfile.LockFailed: lockfile.LockError,
            lockfile.UnlockError: lockfile.Error,
            lockfile.NotLocked: lockfile.UnlockError,
            lockfile.NotMyLock: lockfile.UnlockError,
        }.items():
            self.assertEqual(error.__bases__, (base,))
