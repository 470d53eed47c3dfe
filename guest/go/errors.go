package locket

import (
	"errors"
	"fmt"
	"syscall"

	api "github.com/locket-lock/locket/guest/go/internal/imports/locket_lock_api"
)

// Why a call on a lock did not succeed, for [errors.Is].
var (
	ErrWouldBlock    = errors.New("held")
	ErrTimeout       = errors.New("did not become free in time")
	ErrNotLocked     = errors.New("not held")
	ErrNotOwner      = errors.New("not ours to release")
	ErrDeadlock      = errors.New("waiting for it could never end")
	ErrAccessDenied  = errors.New("access denied")
	ErrNoEntry       = errors.New("does not exist")
	ErrInvalidPath   = errors.New("cannot be the path of a lock")
	ErrLimitExceeded = errors.New("exceeds a quota of this component")
	ErrNotSupported  = errors.New("protocol or mode not supported")
	ErrUnavailable   = errors.New("its server cannot be reached")
	ErrLost          = errors.New("was lost")
	ErrCanceled      = errors.New("the host canceled the wait")
	ErrIO            = errors.New("I/O failed")
	ErrOther         = errors.New("failed")
	// ErrClosed is returned by calls on a closed lock.
	ErrClosed = errors.New("closed")
)

var kinds = map[uint8]error{
	api.Error_WouldBlock:    ErrWouldBlock,
	api.Error_Timeout:       ErrTimeout,
	api.Error_NotLocked:     ErrNotLocked,
	api.Error_NotOwner:      ErrNotOwner,
	api.Error_Deadlock:      ErrDeadlock,
	api.Error_AccessDenied:  ErrAccessDenied,
	api.Error_NoEntry:       ErrNoEntry,
	api.Error_InvalidPath:   ErrInvalidPath,
	api.Error_LimitExceeded: ErrLimitExceeded,
	api.Error_NotSupported:  ErrNotSupported,
	api.Error_Unavailable:   ErrUnavailable,
	api.Error_Lost:          ErrLost,
	api.Error_Canceled:      ErrCanceled,
	api.Error_Io:            ErrIO,
}

// An Error describes why a call on a lock did not succeed.
type Error struct {
	// Err is one of the errors of this package.
	Err error
	// Path is the path with which the lock was opened.
	Path string
	// Lost is the reason, for [ErrLost].
	Lost LostReason
	// Detail is additional information, for [ErrIO] and [ErrOther]. It may be empty.
	Detail string
}

// Error names the lock and what went wrong.
func (e *Error) Error() string {
	detail := e.Detail + string(e.Lost)
	if detail == "" {
		return fmt.Sprintf("lock %q: %v", e.Path, e.Err)
	}
	return fmt.Sprintf("lock %q: %v: %s", e.Path, e.Err, detail)
}

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

// Is reports whether the target is the error with which Unix refuses a lock that is held.
func (e *Error) Is(target error) bool { return e.Err == ErrWouldBlock && target == syscall.EAGAIN }

// A LostReason is the reason why a lock was lost. It is empty if the lock was not lost.
type LostReason string

const (
	// Expired means that the time for which the lock was granted ran out.
	Expired LostReason = "expired"
	// Broken means that the lock was taken away.
	Broken LostReason = "broken"
	// Disconnected means that the server that keeps the lock cannot be reached.
	Disconnected LostReason = "disconnected"
	// LostToIO means that the file system under the lock failed.
	LostToIO LostReason = "io"
)

var lostReasons = map[api.LostReason]LostReason{
	api.LostReason_Expired:      Expired,
	api.LostReason_Broken:       Broken,
	api.LostReason_Disconnected: Disconnected,
	api.LostReason_Io:           LostToIO,
}

var ioKinds = map[api.IoKind]string{
	api.IoKind_NoSpace:      "the file system is full",
	api.IoKind_Quota:        "the disk quota is used up",
	api.IoKind_ReadOnly:     "the file system is read-only",
	api.IoKind_Stale:        "the file vanished on its server",
	api.IoKind_TooManyFiles: "the host is out of file descriptors",
	api.IoKind_TooManyLocks: "the host is out of locks",
}

func failure(path string, raw api.Error) error {
	err := &Error{Err: kinds[raw.Tag()], Path: path}
	switch raw.Tag() {
	case api.Error_Lost:
		err.Lost = lostReasons[raw.Lost()]
	case api.Error_Io:
		err.Detail = ioKinds[raw.Io()]
	case api.Error_Other:
		err.Err = ErrOther
		err.Detail = raw.Other().SomeOr("")
	}
	return err
}
