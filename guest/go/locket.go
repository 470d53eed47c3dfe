// Package locket provides file locks for WebAssembly components, shared with other guests and native
// processes on the host.
//
//	lock, err := locket.Open("/jobs/app.lock")
//	if err != nil {
//		return err
//	}
//	defer lock.Close()
//	if err := lock.Acquire(30 * time.Second); errors.Is(err, locket.ErrTimeout) {
//		return errBusy
//	} else if err != nil {
//		return err
//	}
//	defer lock.Release()
//
// A sandboxed component cannot call flock. This package asks the host instead, through the WIT
// interface locket:lock/api. A lock excludes other components and other processes on the host,
// including native programs that lock the same file, such as flock(1).
//
// # Timeouts
//
// A timeout is rounded up to whole milliseconds. A timeout of zero or less tries once. [Forever], and
// any timeout beyond 49 days, waits indefinitely.
//
// # Waiting
//
// While a call waits, nothing else runs in the component, including other goroutines.
package locket

import (
	"errors"
	"math"
	"time"

	api "github.com/locket-lock/locket/guest/go/internal/imports/locket_lock_api"
	wit "go.bytecodealliance.org/pkg/wit/types"
)

// Forever is the timeout that never runs out.
const Forever time.Duration = math.MaxInt64

// A Protocol is a locking mechanism, which determines which other programs the lock excludes.
type Protocol string

const (
	// Native is both families of kernel locks at once: it excludes users of flock and users of fcntl.
	Native Protocol = "native"
	// Flock is flock(2) on the whole file.
	Flock Protocol = "flock"
	// Fcntl is a record lock of fcntl(2) on the whole file.
	Fcntl Protocol = "fcntl"
	// Link is a hard link beside the file, as created by Python's pylockfile.
	Link Protocol = "link"
	// Symlink is a symbolic link beside the file, as created by Python's pylockfile.
	Symlink Protocol = "symlink"
	// Mkdir is a directory beside the file, as created by Python's pylockfile.
	Mkdir Protocol = "mkdir"
	// PidFile is the file itself, containing a process identifier, as created by Python's pylockfile.
	PidFile Protocol = "pid-file"
	// Soft is the file itself, containing the record of Python's SoftFileLock.
	Soft Protocol = "soft"
	// SQLite is a row in a database that the host names, as created by Python's pylockfile.
	SQLite Protocol = "sqlite"
)

var protocols = map[Protocol]api.Protocol{
	Native:  api.Protocol_Native,
	Flock:   api.Protocol_Flock,
	Fcntl:   api.Protocol_Fcntl,
	Link:    api.Protocol_Link,
	Symlink: api.Protocol_Symlink,
	Mkdir:   api.Protocol_Mkdir,
	PidFile: api.Protocol_PidFile,
	Soft:    api.Protocol_Soft,
	SQLite:  api.Protocol_Sqlite,
}

// Options specify how to open a lock.
type Options struct {
	// Protocol is the protocol of the lock. If it is empty, the host chooses.
	Protocol Protocol
	// Remove removes the lock file at each release, while it is still locked. Do not share such a file
	// with foreign programs that do not check for its replacement.
	Remove bool
}

// A Lock is a handle to the lock of one file. Two handles to one file are one lock for the component:
// if one acquires it, the other may release it.
type Lock struct {
	raw  *api.LockFile
	path string
}

// Handles that hold a lock. The garbage collector closes unreferenced handles, which would release
// their locks. References from here make each hold last until its release.
var holding = map[*Lock]int{}

// Open opens the lock of the file at path, and creates the file if it is missing and may be created.
// It does not acquire the lock.
func Open(path string) (*Lock, error) {
	return opened(path, api.LockFileOpen(path))
}

// OpenWith is like [Open], with options.
func OpenWith(path string, options Options) (*Lock, error) {
	raw := api.Options{Protocol: wit.None[api.Protocol](), OnRelease: api.OnRelease_Keep}
	if options.Protocol != "" {
		protocol, known := protocols[options.Protocol]
		if !known {
			return nil, &Error{Err: ErrNotSupported, Path: path}
		}
		raw.Protocol = wit.Some(protocol)
	}
	if options.Remove {
		raw.OnRelease = api.OnRelease_Remove
	}
	return opened(path, api.LockFileOpenWith(path, raw))
}

func opened(path string, result wit.Result[*api.LockFile, api.Error]) (*Lock, error) {
	if result.IsErr() {
		return nil, failure(path, result.Err())
	}
	return &Lock{result.Ok(), path}, nil
}

// Path returns the path with which the lock was opened.
func (l *Lock) Path() string { return l.path }

// Acquire acquires the lock exclusively for this component. It waits for at most the timeout.
func (l *Lock) Acquire(timeout time.Duration) error {
	return l.acquire(api.Mode_Exclusive, timeout)
}

// AcquireShared acquires the lock in shared mode, with other readers. Each call is a separate hold and
// needs a separate release.
func (l *Lock) AcquireShared(timeout time.Duration) error {
	return l.acquire(api.Mode_Shared, timeout)
}

func (l *Lock) acquire(mode api.Mode, timeout time.Duration) error {
	if l.raw == nil {
		return l.closed()
	}
	if result := l.raw.Acquire(mode, millis(timeout)); result.IsErr() {
		return failure(l.path, result.Err())
	}
	holding[l]++
	return nil
}

// Release releases one hold of this component on the file: a hold acquired through this handle if
// there is one, otherwise any hold.
func (l *Lock) Release() error {
	if l.raw == nil {
		return l.closed()
	}
	var err error
	if result := l.raw.Release(); result.IsErr() {
		err = failure(l.path, result.Err())
	}
	if err == nil || errors.Is(err, ErrLost) {
		if holding[l]--; holding[l] <= 0 {
			delete(holding, l)
		}
	}
	return err
}

// Close releases the holds acquired through this handle, and closes it. Closing it again does nothing.
func (l *Lock) Close() {
	delete(holding, l)
	if l.raw != nil {
		l.raw.Drop()
		l.raw = nil
	}
}

// With acquires the lock exclusively, calls f, and releases the lock on every way out of f. It returns
// the error of [Lock.Acquire], in which case f was not called; or the error of f; or the error of
// [Lock.Release], in which case f may have run without protection.
func (l *Lock) With(timeout time.Duration, f func() error) (err error) {
	if err := l.Acquire(timeout); err != nil {
		return err
	}
	defer func() {
		if released := l.Release(); err == nil {
			err = released
		}
	}()
	return f()
}

// With opens the lock of the file at path, calls [Lock.With], and closes the lock.
func With(path string, timeout time.Duration, f func() error) error {
	lock, err := Open(path)
	if err != nil {
		return err
	}
	defer lock.Close()
	return lock.With(timeout, f)
}

// IsLocked reports whether the lock is held, by this component or another holder. The answer is valid
// only at the moment of the call.
func (l *Lock) IsLocked() (bool, error) {
	if l.raw == nil {
		return false, l.closed()
	}
	result := l.raw.IsLocked()
	if result.IsErr() {
		return false, failure(l.path, result.Err())
	}
	return result.Ok(), nil
}

// State returns the state of this component's own hold.
func (l *Lock) State() (State, error) {
	if l.raw == nil {
		return State{}, l.closed()
	}
	switch raw := l.raw.State(); raw.Tag() {
	case api.State_Held:
		return State{Held: true, Left: left(raw.Held().ValidFor)}, nil
	case api.State_Uncertain:
		return State{Uncertain: true, Left: ofMillis(raw.Uncertain())}, nil
	case api.State_Lost:
		return State{Lost: lostReasons[raw.Lost()]}, nil
	default:
		return State{}, nil
	}
}

// A State is the state of a component's own hold. The zero value means that it holds nothing.
type State struct {
	// Held reports whether the component holds the lock.
	Held bool
	// Uncertain reports that the host cannot determine whether the component still holds the lock.
	Uncertain bool
	// Left is the time for which the lock is held, or until it counts as lost. It is [Forever] if the
	// lock is held until it is released.
	Left time.Duration
	// Lost is the reason why the lock is no longer held although it was not released.
	Lost LostReason
}

// Holder returns one of the current holders of the lock, or nil if it is free.
func (l *Lock) Holder() (*Holder, error) {
	if l.raw == nil {
		return nil, l.closed()
	}
	result := l.raw.Holder()
	if result.IsErr() {
		return nil, failure(l.path, result.Err())
	}
	found := result.Ok()
	if found.IsNone() {
		return nil, nil
	}
	raw := found.Some()
	shared := raw.Mode.IsSome() && raw.Mode.Some() == api.Mode_Shared
	return &Holder{Label: raw.Label.SomeOr(""), Shared: shared, IsSelf: raw.IsSelf}, nil
}

// A Holder is a holder of a lock.
type Holder struct {
	// Label is the label that the host gave to the holder. It is empty for foreign processes.
	Label string
	// Shared reports whether the hold is known to be shared.
	Shared bool
	// IsSelf reports whether the holder is this component.
	IsSelf bool
}

// millis rounds up, so that a timeout is never cut short.
func millis(timeout time.Duration) wit.Option[uint32] {
	if timeout <= 0 {
		return wit.Some(uint32(0))
	}
	whole := (timeout-1)/time.Millisecond + 1
	if whole > math.MaxUint32 {
		return wit.None[uint32]()
	}
	return wit.Some(uint32(whole))
}

func ofMillis(span uint32) time.Duration { return time.Duration(span) * time.Millisecond }

func left(span wit.Option[uint32]) time.Duration {
	if span.IsNone() {
		return Forever
	}
	return ofMillis(span.Some())
}

func (l *Lock) closed() error { return &Error{Err: ErrClosed, Path: l.path} }
