// Package locket is file locks for WebAssembly components, shared with every other guest and native
// process of the host.
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
// A component in a sandbox cannot call flock. It asks its host, through the WIT interface
// locket:lock/api, and this package is the Go side of that. A lock excludes the other components of
// the host, its other processes, and native programs such as flock(1) that lock the same file.
//
// # Timeouts
//
// A timeout is rounded up to whole milliseconds. Zero or less means one try, and [Forever] to wait
// for ever; so does everything beyond 49 days.
//
// # Waiting
//
// While a call waits, nothing else runs in the component, no other goroutine either.
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

// A Protocol is how a lock is kept, and so who else takes part in it.
type Protocol string

const (
	// Native is both kernel lock families at once: it excludes users of flock and of fcntl alike.
	Native Protocol = "native"
	// Flock is flock(2) on the whole file.
	Flock Protocol = "flock"
	// Fcntl is a record lock of fcntl(2) on the whole file.
	Fcntl Protocol = "fcntl"
	// Link is a hard link beside the file, as Python's pylockfile makes it.
	Link Protocol = "link"
	// Symlink is a symbolic link beside the file, as Python's pylockfile makes it.
	Symlink Protocol = "symlink"
	// Mkdir is a directory beside the file, as Python's pylockfile makes it.
	Mkdir Protocol = "mkdir"
	// PidFile is the file itself with the number of a process in it, as Python's pylockfile makes it.
	PidFile Protocol = "pid-file"
	// Soft is the file itself with the record of Python's SoftFileLock in it.
	Soft Protocol = "soft"
	// SQLite is a row in a database that the host names, as Python's pylockfile makes it.
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

// Options say how to open a lock.
type Options struct {
	// Protocol is left to the host where it is empty.
	Protocol Protocol
	// Remove has the lock file removed while it is still locked, at each release. Foreign programs
	// that do not check for that must not be mixed with it.
	Remove bool
}

// A Lock is a handle on the lock of one file. Two of them on one file are one lock for the component:
// what one acquired, the other may release.
type Lock struct {
	raw  *api.LockFile
	path string
}

// Handles that hold a lock. The garbage collector closes a handle that nobody has any more, which
// releases the lock; a hold is to last until its release.
var holding = map[*Lock]int{}

// Open opens the lock of the file at path, and creates the file where it is missing and may be
// created. It does not acquire it.
func Open(path string) (*Lock, error) {
	return opened(path, api.LockFileOpen(path))
}

// OpenWith is [Open] with options.
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

// Path is the path as it was opened.
func (l *Lock) Path() string { return l.path }

// Acquire acquires the lock for this component alone, and waits for it at most for the timeout.
func (l *Lock) Acquire(timeout time.Duration) error {
	return l.acquire(api.Mode_Exclusive, timeout)
}

// AcquireShared acquires the lock together with others that do so. Each call is a hold of its own, to
// be released on its own.
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

// Release releases one hold of this component on the file: one that was acquired through this handle
// if there is one, otherwise any.
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

// Close releases what was acquired through this handle, and ends its use. To close it again does
// nothing.
func (l *Lock) Close() {
	delete(holding, l)
	if l.raw != nil {
		l.raw.Drop()
		l.raw = nil
	}
}

// With calls f while the lock is held for this component alone, and releases it on every way out of
// f. It fails as [Lock.Acquire] does, and f was not called; or as f does; or as [Lock.Release] does,
// and f may not have been alone.
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

// With opens the lock of the file at path, and is [Lock.With] for one call.
func With(path string, timeout time.Duration, f func() error) error {
	lock, err := Open(path)
	if err != nil {
		return err
	}
	defer lock.Close()
	return lock.With(timeout, f)
}

// IsLocked tells whether anybody holds the lock, this component included: now, not a moment later.
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

// State is what this component knows of its own hold.
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

// A State is what a component knows of its own hold. The zero value is that of no hold.
type State struct {
	// Held is whether the component holds the lock.
	Held bool
	// Uncertain is whether that cannot be told any more.
	Uncertain bool
	// Left is for how long the lock is held, or until it counts as lost: [Forever] where it lasts
	// until it is released.
	Left time.Duration
	// Lost says why the lock is held no more, though it was not released.
	Lost LostReason
}

// Holder is one of those who hold the lock now; nil where nobody does.
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

// A Holder is somebody who holds a lock.
type Holder struct {
	// Label is the name that the host gave to the holder; empty for foreign processes.
	Label string
	// Shared is whether the hold is known to be a shared one.
	Shared bool
	// IsSelf is whether it is this component.
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
