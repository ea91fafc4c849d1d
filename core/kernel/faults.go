//go:build patchbay_faults

package kernel

import (
	"context"

	"github.com/patchbay-net/patchbay/core/mortal"
	"github.com/patchbay-net/patchbay/core/plan"
)

// WithFaults carries out one step at a time; before each is a point at which the
// process may die.
func WithFaults(k Kernel) Kernel { return &stepwise{k} }

type stepwise struct{ Kernel }

// Apply sends each step by itself, so that death can come between any two.
func (s *stepwise) Apply(ctx context.Context, steps []plan.Step) error {
	for _, step := range steps {
		mortal.Point()
		if err := s.Kernel.Apply(ctx, []plan.Step{step}); err != nil {
			return err
		}
	}
	return nil
}
