package handover

import (
	"unsafe"

	"github.com/patchbay-net/patchbay/core/wire"
)

var early wire.Early

// start is what the program does before its runtime. At stack lies what the kernel hands to
// a process: the number of arguments, these, nil, the environment, and nil again.
//
//go:linkname start _patchbay_begin
//go:nosplit
func start(stack unsafe.Pointer) {
	const word = unsafe.Sizeof(stack)
	arguments := *(*uintptr)(stack)
	env := unsafe.Add(stack, (arguments+2)*word)
	command := wire.Variable(env, "CNI_COMMAND")
	if command == "" || command == "VERSION" || !early.Begin(env, wire.CallMark) {
		return
	}
	early.Put(command)
	early.Put(wire.Variable(env, "CNI_CONTAINERID"))
	early.Put(wire.Variable(env, "CNI_NETNS"))
	early.Put(wire.Variable(env, "CNI_IFNAME"))
	early.Put(wire.Variable(env, "CNI_ARGS"))
	if !early.Read() {
		return
	}
	if early.Ask(wire.Patience*1_000_000, 0); early.Done {
		early.Print()
	}
}

// before tells what became of that: what was read of standard input, whether patchbayd was
// asked, and whether the rest has to be done without it.
func before() (read []byte, asked, alone bool) { return early.Stdin, early.Asked, early.Alone }
