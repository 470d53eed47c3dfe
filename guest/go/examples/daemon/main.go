// Command daemon is a component that runs only one instance at a time, by the lock of an open file. It is
// built as the example job is.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	locket "github.com/locket-lock/locket/guest/go"
)

// run is the entry of a command component. It returns 0 for success, and 1 for failure.
//
//go:wasmexport wasi:cli/run@0.2.0#run
func run() int32 {
	file, err := os.OpenFile("/run/daemon.lock", os.O_RDWR|os.O_CREATE, 0o640)
	if err == nil {
		err = locket.FlockFile(file, locket.LOCK_EX|locket.LOCK_NB)
	}
	if errors.Is(err, syscall.EAGAIN) {
		fmt.Println("already running")
		return 1
	} else if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println("running")
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}

// Go requires it, and a component does not call it.
func main() {}
