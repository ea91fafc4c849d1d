// Package handover has patchbayd carry out the plugin's call before anything else of the
// plugin is initialised, and ends the process with the answer.
//
// Go initialises a program's packages in the order of their import paths, each after
// what it imports (language specification, "Program initialization"). This one imports
// nothing but system calls, so it comes before the JSON, addresses, store and netlink of
// a plugin that works by itself. To start with those takes as long as patchbayd needs to
// attach a container.
package handover

import (
	"errors"
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
	var err error
	if c.Stdin, err = readAll(stdin); err != nil {
		return Rest{Call: c, Err: err}
	}
	a, done, alone := wire.Ask(c)
	if !done {
		return Rest{Call: c, Alone: alone}
	}
	if err := writeAll(stdout, a.Out); err != nil || a.Failed {
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

func readAll(fd int) (all []byte, err error) {
	const chunk = 8 << 10
	for {
		if cap(all)-len(all) < chunk {
			all = append(make([]byte, 0, 2*cap(all)+chunk), all...)
		}
		n, err := retried(fd, all[len(all):cap(all)], syscall.Read)
		if n <= 0 || err != nil {
			return all, err
		}
		if all = all[:len(all)+n]; len(all) > maxStdin {
			return all, errors.New("there is no end of it")
		}
	}
}

func writeAll(fd int, b []byte) error {
	for len(b) > 0 {
		n, err := retried(fd, b, syscall.Write)
		if err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// retried carries out a system call that may be interrupted, or whose file does not wait
// because the runtime has left it so.
func retried(fd int, b []byte, call func(int, []byte) (int, error)) (n int, err error) {
	for {
		n, err = call(fd, b)
		switch err { //nolint:errorlint // an errno, bare
		case syscall.EINTR:
		case syscall.EAGAIN:
			if err := syscall.SetNonblock(fd, false); err != nil {
				return 0, err
			}
		default:
			return n, err
		}
	}
}
