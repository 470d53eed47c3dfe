package locket

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// What [FlockFile] does with a file. The names and numbers are those of package syscall on Unix.
const (
	LOCK_SH = 1 // locks in shared mode
	LOCK_EX = 2 // locks exclusively
	LOCK_NB = 4 // with one of these: does not wait
	LOCK_UN = 8 // unlocks
)

// The locks of open files.
var flocks = map[*os.File]flocked{}

type flocked struct {
	lock *Lock
	kind int
}

// FlockFile locks an open file, or unlocks it, as syscall.Flock does on Unix. The lock belongs to the open
// file: it excludes other programs that call flock(2), such as flock(1), and this component's other files
// on the same path.
//
// The path of the file must still lead to it, otherwise the error is syscall.ESTALE. With LOCK_NB, the
// error for a lock that is held is [ErrWouldBlock], which is syscall.EAGAIN for [errors.Is], too. To wait for
// another file of this component is [ErrDeadlock].
//
// Unlock a file before you close it, because Go does not report when that happens. The next call for
// any file unlocks those that are closed.
func FlockFile(file *os.File, how int) error {
	for other, held := range flocks {
		if _, err := other.Stat(); errors.Is(err, os.ErrClosed) {
			held.lock.Close()
			delete(flocks, other)
		}
	}
	kind := how &^ LOCK_NB
	if kind == LOCK_UN {
		return unflock(file)
	}
	if kind != LOCK_SH && kind != LOCK_EX {
		return flockError(file, syscall.EINVAL)
	}
	path, err := filepath.Abs(file.Name())
	if err != nil {
		return err
	}
	if err := checkPath(path, file); err != nil {
		_ = unflock(file)
		return err
	}
	if held, found := flocks[file]; found && held.kind == kind {
		// The host may have revoked the lock.
		if state, err := held.lock.State(); err == nil && state.Held {
			return nil
		}
	}
	// Linux, too, releases a lock before it converts it, and may then fail to acquire it again.
	if err := unflock(file); err != nil {
		return err
	}
	lock, err := OpenWith(path, Options{Protocol: Flock})
	if err != nil {
		return err
	}
	acquire, timeout := lock.Acquire, Forever
	if kind == LOCK_SH {
		acquire = lock.AcquireShared
	}
	if how&LOCK_NB != 0 {
		timeout = 0
	}
	if err := acquire(timeout); err != nil {
		lock.Close()
		return err
	}
	// Another program may have replaced the file during the wait.
	if err := checkPath(path, file); err != nil {
		lock.Close()
		return err
	}
	flocks[file] = flocked{lock, kind}
	return nil
}

func unflock(file *os.File) error {
	held, found := flocks[file]
	if !found {
		return nil
	}
	delete(flocks, file)
	defer held.lock.Close()
	return held.lock.Release()
}

// checkPath fails unless a path leads to an open file.
func checkPath(path string, file *os.File) error {
	open, err := file.Stat()
	if err != nil {
		return err
	}
	named, err := os.Stat(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err != nil || !os.SameFile(open, named) {
		return flockError(file, syscall.ESTALE)
	}
	return nil
}

func flockError(file *os.File, number syscall.Errno) error {
	return &fs.PathError{Op: "flock", Path: file.Name(), Err: number}
}
