// Command ranges locks bytes of the file /run/ranges, and after a line of input reports what other programs have
// locked.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"time"

	locket "github.com/locket-lock/locket/guest/go"
)

// run is the entry of the component.
//
//go:wasmexport wasi:cli/run@0.2.0#run
func run() int32 {
	ranges, err := locket.OpenRanges("/run/ranges")
	must(err)
	must(ranges.Lock(locket.Range{Start: 10, Length: 20}, 0))
	must(ranges.LockShared(locket.Range{Start: 15, Length: 5}, time.Second))
	must(ranges.Unlock(locket.Range{Start: 25}))
	fmt.Println("locked")
	_, err = bufio.NewReader(os.Stdin).ReadString('\n')
	must(err)

	all := locket.Range{Start: 100}
	conflict, err := ranges.Query(all, true)
	must(err)
	fmt.Println(conflict.Start, conflict.Length, conflict.Shared)
	fmt.Println(errors.Is(ranges.LockShared(all, 0), locket.ErrWouldBlock))
	free, err := ranges.Query(locket.Range{Start: 0, Length: 100}, false)
	must(err)
	fmt.Println(free == nil)
	ranges.Close()
	fmt.Println(errors.Is(ranges.Unlock(all), locket.ErrClosed))
	return 0
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// Go requires it, and a component does not call it.
func main() {}
