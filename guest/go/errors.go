package locket

import (
	"errors"
	"fmt"

	api "github.com/locket-lock/locket/guest/go/internal/imports/locket_lock_api"
)

// Why a call on a lock did not succeed, for [errors.Is].
var (
	ErrWouldBlock    = errors.New("held by another")
	ErrTimeout       = errors.New("did not become free in time")
	ErrNotLocked     = errors.New("held by nobody")
	ErrNotOwner      = errors.New("not ours to release")
	ErrDeadlock      = errors.New("waiting for it could never end")
	ErrAccessDenied  = errors.New("access denied")
	ErrNoEntry       = errors.New("does not exist")
	ErrInvalidPath   = errors.New("cannot be the path of a lock")
	ErrLimitExceeded = errors.New("exceeds a quota of this component")
	ErrNotSupported  = errors.New("cannot be locked in this way")
	ErrUnavailable   = errors.New("its server cannot be reached")
	ErrLost          = errors.New("was lost")
	ErrCanceled      = errors.New("the host withdrew the wait")
	ErrIO            = errors.New("input or output failed")
	ErrOther         = errors.New("failed")
	// ErrClosed is that of a lock that was closed.
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

// An Error is a call on a lock that did not succeed.
type Error struct {
	// Err is one of the errors of this package.
	Err error
	// Path is that of the lock, as it was opened.
	Path string
	// Lost is the reason, for [ErrLost].
	Lost LostReason
	// Detail is what else is known, for [ErrIO] and [ErrOther]; it may be empty.
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

// Unwrap is Err.
func (e *Error) Unwrap() error { return e.Err }

// A LostReason is why a lock that was held is held no more; empty where it was not lost.
type LostReason string

const (
	// Expired is that the time ran out for which it was granted.
	Expired LostReason = "expired"
	// Broken is that it was taken away.
	Broken LostReason = "broken"
	// Disconnected is that the server that keeps it cannot be reached.
	Disconnected LostReason = "disconnected"
	// LostToIO is that its file system failed.
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
