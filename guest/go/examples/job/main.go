// Command job is a component that works while it holds a lock. The README of the package lists the
// commands that build it: embed the world of job.wit, and leave out `wit-bindgen`. Run it with
// `locket run --dir jobs::/jobs job.wasm`.
package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	locket "github.com/locket-lock/locket/guest/go"
)

// run is the entry of a command component. It returns 0 for success, and 1 for failure.
//
//go:wasmexport wasi:cli/run@0.2.0#run
func run() int32 {
	err := locket.With("/jobs/nightly.lock", 500*time.Millisecond, work)
	if errors.Is(err, locket.ErrTimeout) {
		fmt.Println("another instance is still working")
	} else if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func work() error {
	fmt.Println("working alone")
	return nil
}

// Go requires it, and a component does not call it.
func main() {}
