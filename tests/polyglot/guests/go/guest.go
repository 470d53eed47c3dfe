// Package export_wit_world is the test guest in Go.
package export_wit_world

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/locket-lock/locket/guest/go"
	counter "wit_component/locket_test_counter"
)

var (
	locks     = map[string]*locket.Lock{}
	errInside = errors.New("inside")
	errUsage  = errors.New("usage")
)

// The errors as the interface spells them.
var names = []struct {
	err  error
	name string
}{
	{locket.ErrWouldBlock, "would-block"},
	{locket.ErrTimeout, "timeout"},
	{locket.ErrNotLocked, "not-locked"},
	{locket.ErrNotOwner, "not-owner"},
	{locket.ErrDeadlock, "deadlock"},
	{locket.ErrAccessDenied, "access-denied"},
	{locket.ErrNoEntry, "no-entry"},
	{locket.ErrInvalidPath, "invalid-path"},
	{locket.ErrLimitExceeded, "limit-exceeded"},
	{locket.ErrNotSupported, "not-supported"},
	{locket.ErrUnavailable, "unavailable"},
	{locket.ErrLost, "lost"},
	{locket.ErrCanceled, "canceled"},
	{locket.ErrIO, "io"},
	{locket.ErrOther, "other"},
	{locket.ErrClosed, "closed"},
}

// Run does what it is told.
func Run(command string) string {
	result, err := obey(command)
	if err != nil {
		return "err " + name(err)
	}
	if result != "" {
		return "ok " + result
	}
	return "ok"
}

func name(err error) string {
	for _, known := range names {
		if errors.Is(err, known.err) {
			var failure *locket.Error
			errors.As(err, &failure)
			return strings.TrimSpace(fmt.Sprintf("%s %s", known.name, failure.Lost))
		}
	}
	return err.Error()
}

func obey(command string) (string, error) {
	verb, rest, _ := strings.Cut(command, " ")
	name, rest, _ := strings.Cut(rest, " ")
	switch verb {
	case "open":
		lock, err := open(rest)
		if err == nil {
			if old := locks[name]; old != nil {
				old.Close()
			}
			locks[name] = lock
		}
		return "", err
	case "trap":
		panic("told to")
	}
	lock := locks[name]
	if lock == nil {
		return "", &locket.Error{Err: locket.ErrClosed, Path: name}
	}
	switch verb {
	case "acquire":
		mode, timeout, _ := strings.Cut(rest, " ")
		return "", acquire(lock, mode, timeout)
	case "release":
		return "", lock.Release()
	case "is-locked":
		locked, err := lock.IsLocked()
		return strconv.FormatBool(locked), err
	case "state":
		return state(lock)
	case "drop":
		lock.Close()
		delete(locks, name)
		return "", nil
	case "scoped":
		timeout, err := parse(rest)
		if err != nil {
			return "", err
		}
		err = lock.With(timeout, func() error { return errInside })
		if err == errInside {
			return errInside.Error(), nil
		}
		return "", err
	case "count":
		rounds, err := strconv.Atoi(rest)
		for range rounds {
			err = lock.With(locket.Forever, func() error {
				counter.Write(counter.Read() + 1)
				return nil
			})
			if err != nil {
				break
			}
		}
		return "", err
	}
	return "", errUsage
}

func open(words string) (*locket.Lock, error) {
	if space := strings.LastIndexByte(words, ' '); space >= 0 {
		protocol := locket.Protocol(words[space+1:])
		switch protocol {
		case locket.Native, locket.Flock, locket.Fcntl, locket.Link, locket.Symlink, locket.Mkdir,
			locket.PidFile, locket.Soft, locket.SQLite:
			return locket.OpenWith(words[:space], locket.Options{Protocol: protocol})
		}
	}
	return locket.Open(words)
}

func acquire(lock *locket.Lock, mode, timeout string) error {
	limit, err := parse(timeout)
	if err != nil {
		return err
	}
	switch mode {
	case "exclusive":
		return lock.Acquire(limit)
	case "shared":
		return lock.AcquireShared(limit)
	}
	return errUsage
}

// parse reads milliseconds.
func parse(timeout string) (time.Duration, error) {
	if timeout == "none" {
		return locket.Forever, nil
	}
	millis, err := strconv.ParseUint(timeout, 10, 32)
	if errors.Is(err, strconv.ErrRange) {
		return locket.Forever, nil
	}
	return time.Duration(millis) * time.Millisecond, err
}

func state(lock *locket.Lock) (string, error) {
	state, err := lock.State()
	switch {
	case err != nil:
		return "", err
	case state.Lost != "":
		return "lost " + string(state.Lost), nil
	case state.Uncertain:
		return fmt.Sprintf("uncertain %d", state.Left.Milliseconds()), nil
	case state.Held:
		return "held", nil
	}
	return "unlocked", nil
}
