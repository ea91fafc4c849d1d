// Package handover has patchbayd carry out a call of the hook before anything else of it is
// initialised, and ends the process with the answer; a call that is about nothing of ours
// ends even before that, whoever runs or does not. See cni/handover for how it comes to be
// first, and before Go's runtime.
package handover

import (
	"os"
	"runtime"
	"syscall"

	"github.com/patchbay-net/patchbay/core/wire"
	"github.com/patchbay-net/patchbay/libvirt-hook/call"
)

// Rest is what the hook has to do itself.
type Rest struct {
	Call wire.HookCall // no driver: the arguments are not libvirt's
	// Alone says that patchbayd need not be asked for a part of it either.
	Alone bool
	// Begun is when the process was, in microseconds.
	Begun int64
}

// Left is what patchbayd has left to this process, if that comes so far.
var Left = handOver(os.Args)

// Deadline is how long a call may last, in microseconds: libvirt answers nobody meanwhile.
const Deadline = 2_000_000

// maxStdin is more than any domain.
const maxStdin = 8 << 20

// earlier is what became of the call before the runtime.
type earlier struct {
	read  []byte // of standard input
	begun int64  // when the process was, in microseconds; 0 for now
	asked bool   // patchbayd was, or need not be

	a                 wire.Answer
	done, alone, late bool // as AskHook's
}

func handOver(args []string) Rest {
	e := before()
	if e.begun == 0 {
		e.begun = Now()
	}
	c, ok := call.Parse(args)
	if !ok {
		return Rest{}
	}
	if !call.Begins(&c) {
		syscall.Exit(0) // libvirt does not mind who reads nothing
	}
	runtime.GOMAXPROCS(1) // see cni/handover
	c.Stdin = e.read
	if !e.asked {
		rest, err := wire.ReadAll(0, maxStdin)
		if err != nil {
			End(c, wire.Answer{Failed: true, Out: []byte("what libvirt says cannot be read: " + err.Error())})
		}
		c.Stdin = append(c.Stdin, rest...)
		if !ours(c) || !call.Does(&c) {
			syscall.Exit(0)
		}
		e.a, e.done, e.alone, e.late = wire.AskHook(c)
	}
	switch {
	case e.late:
		End(c, Late())
	case e.done:
		End(c, e.a)
	}
	return Rest{Call: c, Alone: e.alone, Begun: e.begun}
}

// Now is the clock in microseconds.
func Now() int64 {
	var t syscall.Timeval
	if syscall.Gettimeofday(&t) != nil {
		return 0
	}
	return t.Sec*1_000_000 + t.Usec
}

// Late is the answer of a call that has lasted too long.
func Late() wire.Answer {
	return wire.Answer{Failed: true, Out: []byte("this host has not got it done within 2 s; try again, and look with `patchbay status`")}
}

// End ends the process with the answer of a call: one line for who has asked libvirt, where
// it may fail.
func End(c wire.HookCall, a wire.Answer) {
	if !a.Failed || !call.MayFail(&c) {
		syscall.Exit(0)
	}
	line := "patchbay: " + c.Driver + " " + c.Object + ", " + c.Operation + ": " + string(a.Out) + "\n"
	_ = wire.WriteAll(2, []byte(line)) // nor could that be said
	syscall.Exit(1)
}

// ours reports whether the call is about something of ours. What a domain says does not
// tell which of its networks are ours until they are plugged; that is noted for each
// network which bears our mark, when its own calls come.
func ours(c wire.HookCall) bool {
	_, run := wire.Dirs()
	marked := call.Marked(&c)
	if c.Driver == call.Network {
		note(run, c.Object, marked, c.Operation)
		return marked
	}
	if !marked {
		call.Networks(&c, func(name string) { marked = marked || noted(run, name) })
	}
	return marked
}
