package handover

import (
	"unsafe"

	"github.com/patchbay-net/patchbay/core/wire"
)

var early wire.Early

// noGoroutine is where a thread looks for what it runs, while it runs none.
var noGoroutine [2]uintptr //nolint:unused // start_amd64.s sets FS to it

// start is what the program does before its runtime. At stack lies what the kernel hands to
// a process: the number of arguments, these, nil, the environment, and nil again.
//
//go:nosplit
func start(stack unsafe.Pointer) { //nolint:unused // start_amd64.s calls it
	const word = unsafe.Sizeof(stack)
	arguments := *(*uintptr)(stack)
	early.Begin(unsafe.Add(stack, (arguments+2)*word))
}

// before tells what became of that: what was read of standard input, whether patchbayd was
// asked, and whether the rest has to be done without it.
func before() (read []byte, asked, alone bool) { return early.Call.Stdin, early.Asked, early.Alone }
