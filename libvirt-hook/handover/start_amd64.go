package handover

import (
	"syscall"
	"unsafe"

	"github.com/patchbay-net/patchbay/core/wire"
	"github.com/patchbay-net/patchbay/libvirt-hook/call"
)

var early struct {
	wire.Early

	call  wire.HookCall
	begun syscall.Timeval
}

// start is what the hook does before its runtime: a call as they all are, of which nothing is
// to be done or patchbayd does it all. At stack lies what the kernel hands to a process: the
// number of arguments, these, nil, the environment, and nil again.
//
//go:linkname start _patchbay_begin
//go:nosplit
func start(stack unsafe.Pointer) {
	const word = unsafe.Sizeof(stack)
	arguments := *(*uintptr)(stack)
	if arguments < 3 {
		return
	}
	c := &early.call
	if c.Driver = call.DriverOf(argument(stack, 0)); c.Driver == "" {
		return
	}
	c.Object, c.Operation = argument(stack, 1), call.Today(argument(stack, 2))
	if arguments > 4 {
		c.Extra = argument(stack, 4)
	}
	if !call.Begins(c) {
		wire.Exit(0)
	}
	_, _, _ = syscall.RawSyscall(syscall.SYS_GETTIMEOFDAY, uintptr(unsafe.Pointer(&early.begun)), 0, 0)
	if early.Begin(unsafe.Add(stack, (arguments+2)*word), wire.HookMark) {
		ask(c)
	}
}

//go:nosplit
func ask(c *wire.HookCall) {
	early.Put(c.Driver)
	early.Put(c.Object)
	early.Put(c.Operation)
	early.Put(c.Extra)
	if !early.Read() {
		return
	}
	c.Stdin = early.Stdin
	if !call.Does(c) {
		wire.Exit(0)
	}
	noted := plain(c.Object) && early.Exists(noteDir, c.Object)
	if !call.Marked(c) || c.Driver == call.Network && !noted {
		return // to notes that are to be read, or made
	}
	if early.Ask(wire.HookPatience, wire.HookRest); early.Done && (!early.Failed() || !call.MayFail(c)) {
		wire.Exit(0)
	}
}

// plain reports whether a name is its file's name too.
//
//go:nosplit
func plain(name string) bool {
	for i := 0; i < len(name); i++ {
		if escaped(name, i) {
			return false
		}
	}
	return name != ""
}

// argument is one of a process's, on its first stack.
//
//go:nosplit
func argument(stack unsafe.Pointer, n uintptr) string {
	return wire.Text(*(*unsafe.Pointer)(unsafe.Add(stack, (n+1)*unsafe.Sizeof(stack))))
}

func before() earlier {
	e := earlier{read: early.Stdin, begun: early.begun.Sec*1_000_000 + early.begun.Usec, asked: early.Asked, done: early.Done, alone: early.Alone, late: early.Late}
	if e.done {
		e.a = wire.Answer{Out: early.Out(), Failed: early.Failed()}
	}
	return e
}
