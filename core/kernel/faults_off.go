//go:build !patchbay_faults

package kernel

// WithFaults returns k as it is. Built with the tag patchbay_faults it dies where
// the environment says, for tests of what a killed process leaves.
func WithFaults(k Kernel) Kernel { return k }
