package locket

import (
	"time"

	api "github.com/locket-lock/locket/guest/go/internal/imports/locket_lock_api"
	raw "github.com/locket-lock/locket/guest/go/internal/imports/locket_lock_ranges"
)

// Ranges are the locks on ranges of a file's bytes: POSIX record locks, which exclude fcntl and lockf of every
// program. The owner is the component: all its handles on one file count as one owner. The world of the component
// imports locket:lock/ranges.
type Ranges struct {
	raw  *raw.RangeFile
	path string
}

// The garbage collector closes unreferenced handles, which would release their locks.
var openRanges = map[*Ranges]struct{}{}

// A Range is a range of bytes, which need not exist.
type Range struct {
	// Start is the first byte.
	Start uint64
	// Length is the number of bytes; 0 for all from Start on, however long the file becomes.
	Length uint64
}

// A Conflict is a lock that another owner holds.
type Conflict struct {
	// Range is all that is held in one piece.
	Range
	// Shared reports whether it is held in shared mode.
	Shared bool
}

// OpenRanges opens the file at path, and creates it if it is missing and may be created. It stays the file
// that is locked, whatever becomes of its path. Close it: the last handle on a file takes the component's
// locks on its ranges with it.
func OpenRanges(path string) (*Ranges, error) {
	result := raw.RangeFileOpen(path)
	if result.IsErr() {
		return nil, failure(path, result.Err())
	}
	ranges := &Ranges{result.Ok(), path}
	openRanges[ranges] = struct{}{}
	return ranges, nil
}

// Close releases this handle on the file. Closing it again does nothing.
func (r *Ranges) Close() {
	delete(openRanges, r)
	if r.raw != nil {
		r.raw.Drop()
		r.raw = nil
	}
}

// Lock locks a range exclusively, and converts what the component has locked of it. It waits for at most the
// timeout. If it fails, nothing has changed.
func (r *Ranges) Lock(bytes Range, timeout time.Duration) error {
	return r.lock(api.Mode_Exclusive, bytes, timeout)
}

// LockShared is like [Ranges.Lock], in shared mode.
func (r *Ranges) LockShared(bytes Range, timeout time.Duration) error {
	return r.lock(api.Mode_Shared, bytes, timeout)
}

func (r *Ranges) lock(mode api.Mode, bytes Range, timeout time.Duration) error {
	if r.raw == nil {
		return r.closed()
	}
	if result := r.raw.Lock(mode, raw.Range(bytes), millis(timeout)); result.IsErr() {
		return failure(r.path, result.Err())
	}
	return nil
}

// Unlock unlocks a range. It is no error if nothing of it is locked.
func (r *Ranges) Unlock(bytes Range) error {
	if r.raw == nil {
		return r.closed()
	}
	if result := r.raw.Unlock(raw.Range(bytes)); result.IsErr() {
		return failure(r.path, result.Err())
	}
	return nil
}

// Query returns a lock of another owner that excludes an exclusive lock of the range, or a shared one; nil if
// there is none.
func (r *Ranges) Query(bytes Range, shared bool) (*Conflict, error) {
	if r.raw == nil {
		return nil, r.closed()
	}
	mode := api.Mode_Exclusive
	if shared {
		mode = api.Mode_Shared
	}
	result := r.raw.Query(mode, raw.Range(bytes))
	if result.IsErr() {
		return nil, failure(r.path, result.Err())
	}
	found := result.Ok()
	if found.IsNone() {
		return nil, nil
	}
	conflict := found.Some()
	return &Conflict{Range(conflict.Range), conflict.Mode == api.Mode_Shared}, nil
}

func (r *Ranges) closed() error { return &Error{Err: ErrClosed, Path: r.path} }
