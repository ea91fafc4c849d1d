//go:build patchbay_faults

package kernel

import (
	"context"
	"os"
	"strconv"
	"syscall"

	"github.com/patchbay-net/patchbay/core/plan"
)

// DieAtEnv names the step, counted from 1, before which the process kills itself.
const DieAtEnv = "PATCHBAY_DIE_AT"

// WithFaults carries out one step at a time and kills the process, as by kill -9,
// before the step that DieAtEnv names.
func WithFaults(k Kernel) Kernel {
	at, err := strconv.Atoi(os.Getenv(DieAtEnv))
	if err != nil {
		return k
	}
	return &mortal{Kernel: k, left: at}
}

type mortal struct {
	Kernel
	left int
}

// Apply sends each step by itself, so that death can come between any two.
func (m *mortal) Apply(ctx context.Context, steps []plan.Step) error {
	for _, s := range steps {
		if m.left--; m.left == 0 {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
		if err := m.Kernel.Apply(ctx, []plan.Step{s}); err != nil {
			return err
		}
	}
	return nil
}
