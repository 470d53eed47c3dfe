// Command flock checks what the lock of an open file does, in the directory /run.
package main

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	locket "github.com/locket-lock/locket/guest/go"
)

const path = "/run/lock"

// run returns 0 if every check holds.
//
//go:wasmexport wasi:cli/run@0.2.0#run
func run() int32 {
	one, two := open(), open()
	check("locks", one, locket.LOCK_EX, nil)
	check("locks again", one, locket.LOCK_EX, nil)
	check("excludes another file", two, locket.LOCK_EX|locket.LOCK_NB, locket.ErrWouldBlock)
	check("says so as Unix does", two, locket.LOCK_EX|locket.LOCK_NB, syscall.EAGAIN)
	check("does not wait for itself", two, locket.LOCK_EX, locket.ErrDeadlock)
	check("converts", one, locket.LOCK_SH|locket.LOCK_NB, nil)
	check("is shared", two, locket.LOCK_SH|locket.LOCK_NB, nil)
	check("does not convert what is shared", two, locket.LOCK_EX|locket.LOCK_NB, locket.ErrWouldBlock)
	check("has lost what it tried to convert", one, locket.LOCK_EX|locket.LOCK_NB, nil)
	check("unlocks", one, locket.LOCK_UN, nil)
	check("unlocks again", one, locket.LOCK_UN, nil)
	check("is free", two, locket.LOCK_EX|locket.LOCK_NB, nil)
	two.Close()
	check("is free once a closed file is noticed", one, locket.LOCK_EX|locket.LOCK_NB, nil)
	check("knows no other operations", one, 0, syscall.EINVAL)
	check("does not lock a closed file", two, locket.LOCK_EX, os.ErrClosed)

	must(os.Rename(path, path+".old"))
	check("has another path", one, locket.LOCK_EX, syscall.ESTALE)
	three := open()
	check("has the path of another file", one, locket.LOCK_EX, syscall.ESTALE)
	check("locks the other file", three, locket.LOCK_EX|locket.LOCK_NB, nil)
	must(os.Chdir("/run"))
	relative, err := os.Open("lock")
	must(err)
	check("has a relative path", relative, locket.LOCK_SH|locket.LOCK_NB, locket.ErrWouldBlock)
	return failed
}

var failed int32

func check(what string, file *os.File, how int, expected error) {
	err := locket.FlockFile(file, how)
	if err != expected && !errors.Is(err, expected) {
		fmt.Printf("%s: %v, not %v\n", what, err, expected)
		failed = 1
	}
}

func open() *os.File {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o640)
	must(err)
	return file
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// Go requires it, and a component does not call it.
func main() {}
