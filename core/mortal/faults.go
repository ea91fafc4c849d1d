//go:build patchbay_faults

// Package mortal lets a process die where a test wants it to, as by kill -9. The
// points are the steps in the kernel and the commits of the store, counted in one
// sequence from 1, so that one number sweeps both.
package mortal

import (
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
)

// DieAtEnv names the point at which the process kills itself.
const DieAtEnv = "PATCHBAY_DIE_AT"

// Those of a process share one sequence, whatever part of Patchbay they are in.
var (
	passed atomic.Int64
	fatal  = sync.OnceValue(func() int64 {
		at, _ := strconv.ParseInt(os.Getenv(DieAtEnv), 10, 64) // 0: never
		return at
	})
)

// Point kills the process if it is the one that DieAtEnv names.
func Point() {
	if passed.Add(1) == fatal() {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
}
