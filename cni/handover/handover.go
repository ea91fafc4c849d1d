// Package handover has patchbayd carry out the plugin's call before anything else of the
// plugin is initialised, and ends the process with the answer.
//
// Go initialises a program's packages in the order of their import paths, each after
// what it imports (language specification, "Program initialization"). This one imports
// nothing but system calls, so it comes before the JSON, addresses, store and netlink of
// a plugin that works by itself. To start with those takes as long as patchbayd needs to
// attach a container.
//
// Where the linker has been told so (-E _patchbay_start, as the Makefile does for amd64)
// patchbayd is asked even before Go's runtime begins, which costs more than all the rest.
package handover

import (
	"runtime"
	"syscall"

	"github.com/patchbay-net/patchbay/core/wire"
)

// Rest is what the plugin has to do itself.
type Rest struct {
	Call wire.Call
	// Alone says that patchbayd need not be asked for a part of it either.
	Alone bool
	// Err is why standard input could not be read.
	Err error
}

// Left is what patchbayd has left to this process, if that comes so far.
var Left = handOver()

const stdin, stdout = 0, 1

func handOver() Rest {
	c := wire.Call{
		Command:     env("CNI_COMMAND"),
		ContainerID: env("CNI_CONTAINERID"),
		Netns:       env("CNI_NETNS"),
		IfName:      env("CNI_IFNAME"),
		Args:        env("CNI_ARGS"),
	}
	if c.Command == "" || c.Command == "VERSION" {
		return Rest{Call: c}
	}
	beQuiet()
	read, asked, alone := before()
	if asked {
		c.Stdin = read
		return Rest{Call: c, Alone: alone}
	}
	rest, err := wire.ReadAll(stdin, maxStdin)
	if c.Stdin = append(read, rest...); err != nil {
		return Rest{Call: c, Err: err}
	}
	a, done, alone := wire.Ask(c)
	if !done {
		return Rest{Call: c, Alone: alone}
	}
	if err := wire.WriteAll(stdout, a.Out); err != nil || a.Failed {
		syscall.Exit(1)
	}
	syscall.Exit(0)
	return Rest{}
}

// beQuiet leaves the process one processor, which is all that a plugin needs. While its
// one goroutine waits for the kernel or for patchbayd the runtime's monitor sleeps then,
// which otherwise looks every 70 microseconds whether another processor could be put to
// use: a tenth of what an ADD costs, and more of a DEL.
func beQuiet() { runtime.GOMAXPROCS(1) }

func env(name string) string {
	value, _ := syscall.Getenv(name)
	return value
}

// maxStdin is more than a configuration with a list of everything on a host to keep (GC).
const maxStdin = 32 << 20
